"""The engine over every adapter type: merged, beside and by picture, on every kind of layer, in three precisions."""

import copy
import random
from functools import cache

import pytest
import torch
from cases import CASES, FORMS, takes
from running import mix, run
from support import close, fingerprint
from torch import nn

from loraloom.bases import NANO, Target
from loraloom.engine import Engine
from loraloom.engine.keep import Checkpoints
from loraloom.engine.merge import Merged
from loraloom.lorafile import LoraFile, Mix
from loraloom.undo import Undo

MODES = ("merge", "branch")
PRECISE = [name for name in CASES if not name.endswith(("fp16", "bf16"))]
# The other forms of a type, which `contract/` holds to the same laws, are merged always and run beside the model in the long run.
ONE_OF_EACH = [name if name in FORMS else pytest.param(name, marks=pytest.mark.long) for name in PRECISE]
EVERY = [
    (name, mode) if mode == "merge" or name in FORMS else pytest.param(name, mode, marks=pytest.mark.long)
    for name in PRECISE
    for mode in MODES
]
DTYPES = (torch.float16, torch.bfloat16)


@pytest.fixture(scope="module")
def halves(pipeline):
    """By dtype: the pipeline in half precision, the same weights in float32, and how far what they put out lies apart."""
    made = {dtype: copy.deepcopy(pipeline).to(dtype) for dtype in DTYPES}
    pairs = {dtype: (half, copy.deepcopy(half).to(torch.float32)) for dtype, half in made.items()}
    return {dtype: (half, wide, apart(outputs(half, dtype).float(), outputs(wide))) for dtype, (half, wide) in pairs.items()}


def apart(found, wanted) -> float:
    """The largest difference, as a share of the largest value."""
    return float((found - wanted).abs().max()) / float(wanted.abs().max())


@pytest.fixture(scope="module")
def rounded(halves):
    """By case and dtype, asked for once for both modes: the weights of half precision in float32, changed by hand."""
    return cache(lambda name, dtype: by_hand(halves[dtype][1], of_type(name), 0.3))


@cache
def of_type(name: str, *, share: float = 0.3, seed: int = 0) -> LoraFile:
    """A network of one case on a share of all layers that take it: small enough that a whole run of nano stays finite."""
    pick, adapters = random.Random(seed), {}
    torch.manual_seed(seed)
    for layer in NANO.layers:
        no_bias = layer.kind == "embedding" and "bias" in name
        if layer.kind in takes(name) and not no_bias and pick.random() < share and fits(name, layer.shape):
            adapters[layer.target] = CASES[name](layer.shape)
    assert adapters
    return LoraFile(adapters, {"ss_output_name": name}, "nano")


def fits(name: str, shape: tuple[int, ...]) -> bool:
    """Whether the case can be made for a weight of this shape: some types need sizes that divide."""
    adapter = CASES[name](shape)
    return adapter.misfit({suffix: tuple(tensor.shape) for suffix, tensor in adapter.tensors().items()}, shape) is None


@pytest.fixture(scope="module")
def untouched(pipeline):
    """What the base puts out, and every weight of it."""
    return outputs(pipeline), fingerprint(pipeline)


@pytest.fixture(scope="module")
def expected(pipeline):
    """By case, asked for once for both modes."""
    return cache(lambda name: by_hand(pipeline, of_type(name), 0.3))


def outputs(pipeline, dtype=torch.float32):
    """The UNet's output on the text encoder's: what both change."""
    generator = torch.Generator().manual_seed(1)
    latents, ids = torch.randn(2, 4, 8, 8, generator=generator), torch.arange(64).reshape(2, 32) % 500
    with torch.no_grad():
        text = pipeline.text_encoder(ids).last_hidden_state
        return pipeline.unet(latents.to(dtype), 500, text).sample


def by_hand(pipeline, file: LoraFile, strength: float):
    changed = copy.deepcopy(pipeline)
    with torch.no_grad():
        for target, adapter in file.adapters.items():
            modules = dict(getattr(changed, target.component).named_modules())
            layer = modules.get(target.module) or modules[target.module.removeprefix("text_model.")]
            delta = adapter.delta(layer.weight)
            shift = adapter.bias_delta(torch.zeros(len(layer.weight)))
            layer.weight.copy_(layer.weight + strength * delta)
            if shift is not None:
                layer.bias = nn.Parameter((0 if layer.bias is None else layer.bias) + strength * shift)
    return outputs(changed, changed.unet.dtype)


@pytest.mark.parametrize(("name", "mode"), EVERY)
def test_the_output_is_that_of_weights_changed_by_hand(pipeline, untouched, expected, name, mode):
    """1e-5 of the largest value in float32; the network's own change is at least a hundred times that."""
    file, (before, prints) = of_type(name), untouched
    assert not close(before, expected(name), 1e-3)
    with Engine(pipeline).attached(mix((file, 0.3)), mode=mode) as report:
        assert report.modules == len(file.adapters)
        assert close(outputs(pipeline), expected(name), 1e-5)
    assert fingerprint(pipeline) == prints
    assert torch.equal(outputs(pipeline), before)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", ONE_OF_EACH)
def test_half_precision_is_near_float32(halves, rounded, name, dtype, mode):
    """Both modes against the same network on the same weights in float32: the base's own rounding is the yardstick."""
    half, _, own = halves[dtype]
    with Engine(half).attached(mix((of_type(name), 0.3)), mode=mode):
        found = outputs(half, dtype).float()
    assert close(found, rounded(name, dtype), max(10 * own, 0.02 if dtype == torch.bfloat16 else 0.005))


@pytest.mark.parametrize("name", ONE_OF_EACH)
def test_pictures_with_different_mixes_equal_their_single_runs(pipeline, name):
    one, two = of_type(name, seed=1), of_type(name, seed=2)
    mixes = [mix((one, 0.2)), Mix(), mix((one, -0.1), (two, "te=0.1:unet=0.2")), mix((two, 0.1), negative=((one, 0.2),))]
    together = run(pipeline, mixes, steps=2, prompt=["a cat"] * 4, generator=[torch.Generator().manual_seed(n) for n in range(4)])
    for index, each in enumerate(mixes):
        alone = run(pipeline, each, steps=2, prompt="a cat", generator=torch.Generator().manual_seed(index))
        assert close(together[index], alone[0], 1e-4)


@pytest.mark.parametrize("name", ONE_OF_EACH)
def test_a_schedule_runs_the_strength_of_each_step(pipeline, name):
    """From 0.3 at step 1 to 0 at step 2: the second step is the base's."""
    file, calls = of_type(name), []
    run(pipeline, mix((file, "te=0:unet=0.3@1,0@2")), steps=2, calls=calls)
    inputs, given = calls[0].inputs, calls[0].outputs
    with torch.no_grad():
        arguments, options = inputs[1]
        assert torch.equal(pipeline.unet(*arguments, **options).sample, given[1])
        arguments, options = inputs[0]
        assert not torch.equal(pipeline.unet(*arguments, **options).sample, given[0])


def test_types_are_mixed_in_one_run(pipeline):
    """Every type at once: what reads the weight reads the untouched one, whatever else is attached."""
    files = [of_type(name, share=0.15, seed=index) for index, name in enumerate(PRECISE)]
    modules = {}
    changed = copy.deepcopy(pipeline)
    with torch.no_grad():
        for file in files:
            for target, adapter in file.adapters.items():
                layers = dict(getattr(changed, target.component).named_modules())
                layer = layers.get(target.module) or layers[target.module.removeprefix("text_model.")]
                plain = modules.setdefault(target, (layer, layer.weight.clone()))[1]
                layer.weight += 0.05 * adapter.delta(plain)
                shift = adapter.bias_delta(torch.zeros(len(layer.weight)))
                if shift is not None:
                    layer.bias = nn.Parameter((0 if layer.bias is None else layer.bias) + 0.05 * shift)
    expected = outputs(changed)
    for mode in (*MODES, "auto"):
        with Engine(pipeline).attached(mix(*((file, 0.05) for file in files)), mode=mode, steps=20):
            assert close(outputs(pipeline), expected, 2e-5)


@pytest.mark.parametrize(
    "name", ["oft", "oft diag", "boft", "loha", "lokr", "dora", "dora of oft", "full", "ia3", "glora", "onetrainer oft"]
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_a_weight_of_several_blocks_is_merged_as_in_one(name, dtype):
    """Larger than what is widened at once, and not a multiple of it."""
    torch.manual_seed(0)
    layer = nn.Linear(1536, 1072, dtype=dtype)
    adapter, before = CASES[name](tuple(layer.weight.shape)), layer.weight.detach().clone()
    undo = Undo()
    merged = Merged({"unet": layer}, Checkpoints(), undo)
    merged.add(Target("unet", "x"), layer, [(adapter, 0.5)])
    expected = before.float() + 0.5 * adapter.delta(before)
    assert close(layer.weight.detach().float(), expected, 0.01 if dtype == torch.bfloat16 else 1e-6)
    undo.run()
    assert torch.equal(layer.weight.detach(), before)
