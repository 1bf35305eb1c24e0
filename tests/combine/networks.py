"""Networks of one type on nano, its weights, and the sum of a stack in float64: what the tests of combining share."""

import torch
from cases import CASES, takes

from loraloom.bases import NANO
from loraloom.lorafile import LoraFile

WEIGHTS = {layer.target: torch.randn(layer.shape, generator=torch.Generator().manual_seed(3)) for layer in NANO.layers}


def of_type(name, seed=0, share=12, kinds=frozenset({"linear", "conv", "norm", "embedding"})):
    """A network of one case on about `share` layers of the kinds that it takes."""
    torch.manual_seed(seed)
    layers = [layer for layer in NANO.layers if layer.kind in takes(name) & kinds and not (layer.kind == "embedding" and "bias" in name)]
    adapters = {layer.target: CASES[name](layer.shape) for layer in layers[:: max(1, len(layers) // share)]}
    return LoraFile(adapters, {"ss_output_name": name}, "nano")


def summed(stack, components=NANO.components):
    """By target: Σ s·delta and Σ s·bias, float64."""
    deltas, biases = {}, {}
    for file, strength in stack:
        for target, adapter in file.adapters.items():
            value = strength.at(NANO.by_target[target].place, 1, 1)
            if value and target.component in components:
                weight = WEIGHTS[target]
                deltas[target] = deltas.get(target, 0) + value * adapter.delta(weight).double()
                shift = adapter.bias_delta(torch.zeros(len(weight)))
                if shift is not None:
                    biases[target] = biases.get(target, 0) + value * shift.double()
    return deltas, biases


def sizes(stack):
    """By target: Σ |s|·‖delta‖, which rounding is relative to where changes cancel."""
    found = {}
    for file, strength in stack:
        for target, adapter in file.adapters.items():
            value = strength.at(NANO.by_target[target].place, 1, 1)
            found[target] = found.get(target, 0) + abs(value) * float(adapter.delta(WEIGHTS[target]).norm())
    return found


def assert_is(file, stack, tolerance, components=NANO.components, *, of_parts=False):
    """The file adds what the stack adds, weights and biases, and nothing else; `tolerance` is of the sum, or of the sizes of its parts."""
    deltas, biases = summed(stack, components)
    norms = sizes(stack) if of_parts else {target: float(delta.norm()) for target, delta in deltas.items()}
    assert file.adapters.keys() <= deltas.keys()
    for target, delta in deltas.items():
        adapter = file.adapters.get(target)
        if adapter is None:
            assert float(delta.norm()) == 0
            continue
        found = adapter.delta(WEIGHTS[target]).double()
        assert float((found - delta).norm()) <= tolerance * max(1e-30, norms[target])
    assert {target for target, adapter in file.adapters.items() if adapter.bias_delta(torch.zeros(8)) is not None} == biases.keys()
    for target, bias in biases.items():
        assert torch.allclose(file.adapters[target].bias_delta(torch.zeros(8)).double(), bias, rtol=1e-5, atol=1e-6)
