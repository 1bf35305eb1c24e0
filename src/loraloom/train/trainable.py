"""The one module that is trained: it holds the adapters' tensors as its Parameters and calls the base.

The base is not part of it: its Parameters are the adapters' alone, which is what accelerate wraps and an optimiser takes.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn

from loraloom.adapters import Adapter
from loraloom.bases import Base, Target
from loraloom.bases.sd1.model import Text
from loraloom.engine.live import after_calls, claim, components, live_modules, refuse_foreign_layers
from loraloom.errors import NotSupported, SettingsError, TrainingError
from loraloom.train.chance import Sample, generator
from loraloom.train.dropout import Dropout
from loraloom.train.targets import Planned
from loraloom.train.view import View
from loraloom.undo import Undo, changing


class Trainable(nn.Module):
    """Adapters on a live base. Raises NotSupported if the pipeline carries other adapters or lacks a target."""

    def __init__(
        self,
        view: View,
        base: Base,
        adapters: Mapping[Target, Adapter],
        *,
        rates: Mapping[Target, float] | None = None,
        dropout: Dropout | None = None,
    ) -> None:
        """`rates` are factors of the learning rate, where they are not 1."""
        super().__init__()
        refuse_foreign_layers(view.pipeline)
        modules = live_modules(view.pipeline, base)
        if missing := [str(target) for target in adapters if target not in modules]:
            raise NotSupported(f"this pipeline has no {', '.join(missing[:3])}: is it a {base.title}?")
        self._view = view
        self.rates = rates or {}
        self._dropout = dropout or Dropout()
        self._samples: Sequence[Sample] = ()  # of the pass that runs; its backward pass may run layers again
        self._awake: set[Target] = set()
        self._adapters: dict[Target, Adapter] = {}
        device = view.device  # diffusers looks through all modules for it
        for target, adapter in adapters.items():
            own = {field: nn.Parameter(tensor.to(device, torch.float32)) for field, tensor in adapter.trainable().items()}
            for field, parameter in own.items():
                self.register_parameter(_slot(target, field), parameter)
            self._adapters[target] = adapter.with_tensors(own)
        self._layers = {target: modules[target] for target in adapters}

    @property
    def adapters(self) -> Mapping[Target, Adapter]:
        """The adapters as they are now; their tensors are the live Parameters."""
        return self._adapters

    def snapshot(self) -> dict[Target, Adapter]:
        """Copies on the CPU that no further step changes."""
        return {target: adapter.map(lambda tensor: tensor.detach().cpu().clone()) for target, adapter in self._adapters.items()}

    def weight(self, target: Target) -> Tensor:
        """The base's weight that this adapter is for."""
        weight: Tensor = self._layers[target].weight  # type: ignore[assignment]
        return weight.detach()

    @property
    def rested(self) -> frozenset[Target]:
        """The targets of which dropout left nothing in any pass since `attached` was entered."""
        return frozenset(self._layers.keys() - self._awake) if self._dropout else frozenset()

    def slots(self) -> Iterator[tuple[Target, str, nn.Parameter]]:
        """(target, field, parameter) for every trainable tensor, in a fixed order."""
        for target, adapter in self._adapters.items():
            for field in adapter.trainable():
                yield target, field, self.get_parameter(_slot(target, field))

    def forward(
        self,
        noisy: Tensor,
        timesteps: Tensor,
        *,
        embeddings: Text | None = None,
        token_ids: Tensor | None = None,
        sizes: Tensor | None = None,
        samples: Sequence[Sample] = (),
    ) -> Tensor:
        """The denoiser's prediction, float32 [n, 4, h, w], from text embeddings or, to train the text encoder too, from token ids.
        `sizes` as `View.denoise` has them. With `samples` [n] dropout acts, without them it does not."""
        self._samples = samples
        if embeddings is None:
            if token_ids is None:
                raise TrainingError("Trainable needs embeddings or token_ids")
            embeddings = self._view.embed(token_ids)
        return self._view.denoise(noisy, timesteps, embeddings, sizes)

    def attached(self) -> AbstractContextManager[None]:
        """The adapters act on the base inside; afterwards no hook is left. Raises EngineError if networks are attached to it."""
        return changing(self._attach)

    def _attach(self, undo: Undo) -> None:
        self._awake.clear()
        claim(components(self._view.pipeline).values(), undo)
        for target, layer in self._layers.items():
            after_calls(layer, self._beside(target), undo)

    def _beside(self, target: Target) -> Any:
        adapter = self._adapters[target]

        def hook(layer: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> Tensor:
            if not (self._dropout and self._samples):
                return output + adapter.branch(layer, inputs[0], output)
            added, awake = self._dropout.branch(adapter, target, self._samples, layer, inputs[0], output)
            if awake:
                self._awake.add(target)
            return output + added

        return hook


def _slot(target: Target, field: str) -> str:
    """A Parameter's name: torch allows no dots in it."""
    return f"{target}.{field}".replace(".", "/")


def fresh(plans: Sequence[Planned], view: View, base: Base, *, seed: int) -> dict[Target, Adapter]:
    """New adapters that change nothing yet. Each draws from a generator of its own: what else is trained does not matter to it.

    Raises SettingsError, naming the module, where its size is none for the type's options.
    """
    modules = live_modules(view.pipeline, base)
    found = {}
    for item in plans:
        target = item.layer.target
        weight = modules[target].weight.detach() if target in modules else torch.empty(item.layer.shape)  # type: ignore[operator]
        if weight.shape != item.layer.shape:  # quantised: packed, and nothing that reads it is trained
            weight = torch.empty(item.layer.shape, device=weight.device)
        found[target] = made(item, weight, generator(seed, "init", str(target)))
    return found


def made(item: Planned, weight: Tensor, seeded: torch.Generator) -> Adapter:
    """One new adapter. Raises SettingsError, naming the module, where its size is none for the type's options."""
    try:
        found = cast("Any", item.kind.init)(weight, rank=item.rank, alpha=item.alpha, generator=seeded, **item.options)
    except SettingsError as error:
        target = item.layer.target
        raise SettingsError(f"{target}: {error}, or leave the module out with --target '!{target.module}'") from error
    return cast("Adapter", found)


def frozen(view: View) -> AbstractContextManager[None]:
    """No weight of the base asks for a gradient and no layer is in training mode inside; both are put back afterwards."""
    return changing(partial(_freeze, view))


def _freeze(view: View, undo: Undo) -> None:
    for root in {**components(view.pipeline), **view.frozen}.values():
        for parameter in root.parameters():
            undo.before(partial(parameter.requires_grad_, parameter.requires_grad))
            parameter.requires_grad_(False)
        for module in root.modules():
            undo.keep(module, "training")
            module.training = False
