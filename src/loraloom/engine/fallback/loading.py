"""One LoRA file onto a live model by diffusers, and compared afterwards with what PEFT holds."""

import logging
import math
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from loraloom.bases import Target
from loraloom.engine.fallback.landing import Landing, plan_landing, unused
from loraloom.engine.fallback.unparsed import refuse_other_types
from loraloom.engine.live import components, recognise
from loraloom.engine.mixture import Mixture, Network
from loraloom.engine.reach import unreached
from loraloom.engine.report import NetworkReport, count_components
from loraloom.errors import BadTensor, EngineError, FileError, NothingApplied, NotSupported, UnknownFormat, WrongBase
from loraloom.lorafile import LoraFile
from loraloom.strength import Place, is_text_encoder
from loraloom.tensorfile import Header, open_tensors, require_finite

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module

# What diffusers and PEFT raise for a file that they do not understand.
_REFUSALS = (ValueError, KeyError, TypeError, RuntimeError, AttributeError, IndexError, ImportError, OSError)

PeftNames = Callable[[str, "Module", "Mapping[str, Tensor]"], "dict[str, Tensor]"]  # component, its module, a file's converted tensors


def place_of(component: str) -> Place:
    """Any place of the component: without block keys, all have the same strength."""
    return Place(component, None if is_text_encoder(component) else "mid")


@dataclass(frozen=True)
class Loaded:
    """A network as PEFT holds it under an adapter name; off everywhere, it has no modules."""

    name: str
    network: Network
    modules: Collection[Target]
    nbytes: int

    @cached_property
    def components(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(target.component for target in self.modules))


class Loader:
    """One file after the other onto the live model, each compared with what PEFT holds afterwards."""

    def __init__(self, pipeline: Any, parts: "Mapping[str, Module]", mixture: Mixture, peft_names: PeftNames) -> None:
        self._pipeline, self._parts, self._mixture, self._peft_names = pipeline, parts, mixture, peft_names
        self._title = type(pipeline).__name__
        parsed = any(network.file.base for network in mixture.networks)
        self._family = _family(pipeline) if parsed else ""  # asked before PEFT renames the modules by which it is known

    def load(self, network: Network, name: str) -> tuple[Loaded, NetworkReport]:
        """The network under the adapter name `name`. One that is 0 everywhere is read and checked, and not loaded."""
        from loraloom.engine.fallback.trace import keys_of, traced

        assert network.file.path is not None
        self._refuse_family(network.file)
        header = Header.read(network.file.path)
        refuse_other_types(header)
        with open_tensors(header) as tensors:
            for key, tensor in tensors.items():
                require_finite(header.path, key, tensor)
            landing = self._plan(header, traced(tensors))
            on = {target for target in landing.modules if not self._mixture.off_at(network, place_of(target.component))}
            held: Collection[Target] = landing.modules
            if on:
                self._refuse_text(network, {target.component for target in on})
                self._hand_over(header, name)
                held = [target for target, group in landing.modules.items() if self._holds(header, name, target, group)]
            reasons = {key: reason for tensor, reason in landing.missing for key in keys_of([tensor])}
            for target in landing.modules.keys() - set(held):
                reasons |= dict.fromkeys(keys_of(landing.modules[target].values()), f"PEFT gave {target} no layer")
            taken = [tensor for target in held for tensor in landing.modules[target].values()]
            left, nbytes = unused(header.entries, keys_of(taken), reasons), sum(tensor.nbytes for tensor in taken)
        places = frozenset(place_of(target.component) for target in held)
        report = NetworkReport(
            name=network.file.name,
            applied=count_components(target for target in held if target in on),
            silent=count_components(target for target in held if target not in on),
            present=count_components(landing.modules),
            unused=left,
            warnings=(
                *network.file.warnings,
                *unreached(self._mixture.strengths(network), places, {*components(self._pipeline), *self._parts}),
            ),
            made_for=network.file.made_for,
        )
        return Loaded(name, network, held if on else (), nbytes), report

    def _refuse_family(self, file: LoraFile) -> None:
        """A file that was parsed is for the family that it was parsed for; the others were checked when they were read."""
        if not file.base:
            return
        if file.base != self._family:
            raise WrongBase(f"{file.name} was read for {file.base!r}; the base is this {self._title}. Read it with Fallback.read")

    def _plan(self, header: Header, tensors: "dict[str, Tensor]") -> Landing:
        """Where diffusers will put the tensors; raises UnknownFormat where it cannot read the names, NothingApplied if nowhere."""
        unet = self._parts.get("unet")
        options = {"unet_config": unet.config} if unet is not None else {}  # SDXL's names depend on it; others ignore it
        try:
            found = self._pipeline.lora_state_dict(tensors, return_lora_metadata=True, **options)
            converted: dict[str, Tensor] = found[0] if isinstance(found, tuple) else found
            named = {component: self._peft_names(component, part, converted) for component, part in self._parts.items()}
        except _REFUSALS as error:
            raise self._refusal(header, error) from error
        landing = plan_landing(header.path.name, named, self._parts)
        if not landing.modules:
            why = (
                "; ".join(dict.fromkeys(reason for _, reason in landing.missing[:2]))
                or f"such as {next(iter(header.entries), 'no tensor')}"
            )
            raise NothingApplied(f"{header.path.name}: none of its {len(header.entries)} tensors fits this {self._title}: {why}")
        return landing

    def _hand_over(self, header: Header, name: str) -> None:
        """diffusers reads the file itself: the options of its metadata come with it. It never falls back to a pickle."""
        try:
            with _quiet():
                self._pipeline.load_lora_weights(str(header.path), adapter_name=name, use_safetensors=True, local_files_only=True)
        except _REFUSALS as error:
            raise self._refusal(header, error) from error
        if Header.read(header.path).stamp != header.stamp:
            raise FileError(f"{header.path}: was changed while it was read; try again")

    def _holds(self, header: Header, name: str, target: Target, group: "Mapping[str, Tensor]") -> bool:
        """Whether PEFT has a layer there; raises EngineError if it holds other numbers than the file."""
        layer: Any = self._parts[target.component].get_submodule(target.module)
        if name not in getattr(layer, "lora_A", ()):
            return False
        layer.train(self._parts[target.component].training)  # a new layer is in training mode, in which dropout drops
        if not math.isfinite(layer.scaling[name]):
            raise BadTensor(f"{header.path.name}: alpha of {target} is not finite")
        for suffix, tensor in group.items():
            half, _, field = suffix.partition(".")
            live = getattr(getattr(layer, half)[name], field)
            if live is None or live.is_meta or not live.equal(tensor.to(live)):
                raise EngineError(
                    f"{header.path.name}: diffusers gave {target} other numbers than the file has ({suffix}); please report it"
                )
        return True

    def _refuse_text(self, network: Network, components: Collection[str]) -> None:
        """Text encoders run before the first step, and diffusers casts each to one dtype: both are refused where it matters."""
        for component in components:
            place = place_of(component)
            if not place.is_text:
                continue
            if self._mixture.steady_at(network, place) is None:
                raise NotSupported(
                    f"{network.file.name}: through diffusers the strength of {component} cannot change by step; give te= one number "
                    "(with start= or stop=, te=0)"
                )
            dtypes = {parameter.dtype for parameter in self._parts[component].parameters() if parameter.is_floating_point()}
            if len(dtypes) > 1:
                kinds = " and ".join(sorted(map(str, dtypes)))
                raise NotSupported(
                    f"{component} is stored as {kinds}, and diffusers would cast it to one of them; cast it first, or give te=0"
                )

    def _refusal(self, header: Header, error: Exception) -> UnknownFormat:
        line = next(iter(str(error).strip().splitlines()), "") or type(error).__name__
        return UnknownFormat(
            f"{header.path.name}: diffusers cannot load it into this {self._title}: {line[:240]}. Use a plain LoRA made for it"
        )


def _family(pipeline: Any) -> str:
    try:
        return recognise(pipeline).family
    except NotSupported:
        return ""


@contextmanager
def _quiet() -> Iterator[None]:
    """diffusers, PEFT and transformers log and warn about keys; the report says it, with each key."""
    from transformers.utils import logging as transformers_logging

    loggers = [logging.getLogger(name) for name in ("diffusers", "transformers")]
    levels, bar = [logger.level for logger in loggers], transformers_logging.is_progress_bar_enabled()
    try:
        for logger in loggers:
            logger.setLevel(logging.CRITICAL)
        if bar:
            transformers_logging.disable_progress_bar()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
        if bar:
            transformers_logging.enable_progress_bar()
