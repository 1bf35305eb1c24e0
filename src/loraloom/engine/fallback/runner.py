"""The fallback: plain LoRA files on any pipeline that diffusers loads LoRAs into, for the time of a `with`.

`load_lora_weights` and `set_adapters` do the work. They skip keys that they do not know, so what a file will become is worked
out before the model is touched, compared with what PEFT holds afterwards, and reported.
"""

import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loraloom.engine.fallback.loading import Loaded, Loader, place_of
from loraloom.engine.fallback.native_only import refuse_native_only
from loraloom.engine.fallback.tree import Tree
from loraloom.engine.fallback.unparsed import read_unparsed, titles
from loraloom.engine.live import before_calls, claim, refuse_foreign_layers, weightless
from loraloom.engine.mixture import Mixture
from loraloom.engine.plan import Wish
from loraloom.engine.report import Report
from loraloom.engine.steps import Steps
from loraloom.engine.surroundings import making, set_aside
from loraloom.errors import EngineError, NotSupported
from loraloom.lazy import LazyModule, torch
from loraloom.lorafile import LoraFile, Mix
from loraloom.undo import Undo, changing

if TYPE_CHECKING:
    import diffusers
    from torch import Tensor
    from torch.nn import Module
else:
    diffusers = LazyModule("diffusers")


class Fallback:
    """Runs plain LoRA files through diffusers. `reason` says in reports why.

    Raises NotSupported for a pipeline without a LoRA loader, and for one in a state that diffusers would not put back:
    adapters of its own, weights on the meta device, compiled.
    """

    def __init__(self, pipeline: Any, reason: str = "asked for") -> None:
        self.pipeline, self.reason, self.title = pipeline, reason, type(pipeline).__name__
        self._follower: _Follower | None = None
        _refuse_states(pipeline, _parts(pipeline))

    @cached_property
    def titles(self) -> frozenset[str]:
        """The families whose files this pipeline takes."""
        return titles(_parts(self.pipeline))

    def read(self, path: str | Path, *, force: bool = False) -> LoraFile:
        """A file for `attached`: checked, not parsed. Raises what `unparsed.read_unparsed` raises."""
        return read_unparsed(path, self.title, self.titles, force=force)

    def attached(self, mixes: Mix | Sequence[Mix], *, steps: int = 1, mode: Wish = "auto") -> AbstractContextManager[Report]:
        """As `Engine.attached`: live inside, and afterwards every module and every bit as before, errors included.

        Raises NotSupported, naming what only the native engine runs; FileError subclasses, as files are loaded here;
        MatchError subclasses for a file that does not fit.
        """

        def attach(undo: Undo) -> Report:
            with set_aside():
                return self._attach(undo, mixes, steps, mode)

        return changing(attach)

    def _attach(self, undo: Undo, mixes: Mix | Sequence[Mix], steps: int, mode: Wish) -> Report:
        started = time.perf_counter()
        mixture, parts = Mixture(mixes), _parts(self.pipeline)
        refuse_native_only(mixture, mixes, mode, self.reason)
        _refuse_states(self.pipeline, parts)
        claim(parts.values(), undo)
        undo.before(Tree(parts.values()).restore)
        undo.before(self.pipeline.unload_lora_weights)
        undo.enter(making())
        loader = Loader(self.pipeline, parts, mixture, _peft_names)
        found = [loader.load(network, f"loraloom_{index}") for index, network in enumerate(mixture.networks)]
        loaded = [network for network, _ in found if network.modules]
        undo.keep(self, "_follower")
        self._follower = _Follower(self.pipeline, loaded, mixture, steps)
        self._follower.follow(parts, undo)
        touched = {target for network in loaded for target in network.modules}
        nbytes, seconds = sum(network.nbytes for network in loaded), time.perf_counter() - started
        return Report(tuple(report for _, report in found), "diffusers", self.reason, len(touched), nbytes, seconds)

    def step(self, n: int) -> None:
        """Strengths of step `n` (from 1) from the next call of the denoiser on, for sampling loops of your own."""
        if self._follower is None:
            raise EngineError("nothing is attached; call step inside `with fallback.attached(...)`")
        self._follower.step(n)


class _Follower:
    """Strengths by component and step, set before the call of the denoiser whose step changes them."""

    def __init__(self, pipeline: Any, loaded: Sequence[Loaded], mixture: Mixture, steps: int) -> None:
        self._pipeline, self._loaded, self._strengths = pipeline, loaded, mixture.columns[0]
        self._steps, self._by_hand = Steps(pipeline, steps), False
        self._now: list[dict[str, float]] = []
        self._moves = any(
            mixture.steady_at(network.network, place_of(component)) is None for network in loaded for component in network.components
        )
        self._go_to(1, max(1, steps))

    def step(self, n: int) -> None:
        self._by_hand = True
        self._steps.set(n)
        self._go_to(*self._steps.now())

    def follow(self, parts: "Mapping[str, Module]", undo: Undo) -> None:
        """Strengths follow the sampler's steps from now on. Where nothing moves, nothing is hooked."""
        if not self._moves:
            return
        undo.before(self._steps.restore)
        self._steps.watch()
        for name, part in parts.items():
            if not place_of(name).is_text:
                before_calls(part, self._before_denoiser, undo)

    def _before_denoiser(self, *_: Any) -> None:
        if not self._by_hand and not self._steps.counted:
            raise NotSupported(
                f"{type(self._pipeline).__name__} does not say how many steps it runs, so strengths that change by step are not run; "
                "call step(n) before each step, or give one number"
            )
        self._go_to(*self._steps.now())

    def _go_to(self, step: int, steps: int) -> None:
        weights = [
            {component: self._strengths[network.network].at(place_of(component), step, steps) for component in network.components}
            for network in self._loaded
        ]
        if weights != self._now:
            self._pipeline.set_adapters([network.name for network in self._loaded], weights)
            self._now = weights


def _parts(pipeline: Any) -> "Mapping[str, Module]":
    """The components that diffusers loads LoRAs into."""
    names = getattr(pipeline, "_lora_loadable_modules", ())
    return {name: module for name in names if isinstance(module := getattr(pipeline, name, None), torch.nn.Module)}


def _refuse_states(pipeline: Any, parts: "Mapping[str, Module]") -> None:
    """Raises NotSupported for a pipeline that cannot be given adapters, or could not be put back as it was."""
    if not parts or not hasattr(pipeline, "load_lora_weights"):
        raise NotSupported(f"{type(pipeline).__name__}: the native engine does not know it, and diffusers has no LoRA loader for it")
    refuse_foreign_layers(pipeline)
    for name, part in parts.items():
        for path, module in part.named_modules():
            if module._compiled_call_impl is not None or hasattr(module, "_orig_mod"):
                raise NotSupported(f"{name} is compiled; diffusers takes LoRAs on a model that is not: load it without torch.compile")
            if any(parameter.is_meta for parameter in module.parameters(recurse=False)):
                raise weightless(f"{name}.{path}")


def _peft_names(component: str, part: "Module", converted: "Mapping[str, Tensor]") -> "dict[str, Tensor]":
    """The component's tensors by the names that diffusers hands to PEFT (0.42: `load_lora_adapter`, `_load_lora_into_text_encoder`)."""
    own = {key.removeprefix(f"{component}."): tensor for key, tensor in converted.items() if key.startswith(f"{component}.")}
    if not own:
        return {}
    names = diffusers.utils
    if isinstance(part, diffusers.ModelMixin):
        return own if "lora_A" in next(iter(own)) else dict(names.convert_unet_state_dict_to_peft(own))
    named = names.convert_state_dict_to_peft(names.convert_state_dict_to_diffusers(own))
    return {key if hasattr(part, "text_model") else key.removeprefix("text_model."): tensor for key, tensor in named.items()}
