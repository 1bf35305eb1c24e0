"""The modules that a file's keys belong to: by its base's names where there is a table, else by the endings of the keys."""

from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, cached_property

from loraloom import dialects
from loraloom.adapters import Adapter, adapter_type, no_type
from loraloom.bases import Base
from loraloom.catalogue.inspecting.inspection import Unused
from loraloom.errors import FileError, MatchError
from loraloom.tensorfile import Header

Shape = tuple[int, ...]
# Where keys begin, for families without a table: the component, and the dialect that begins like this.
_BEGINNINGS = (
    ("lora_te1_", "text_encoder", "kohya"),
    ("lora_te2_", "text_encoder_2", "kohya"),
    ("lora_te3_", "text_encoder_3", "kohya"),
    ("lora_te_", "text_encoder", "kohya"),
    ("text_encoder.", "text_encoder", "diffusers/PEFT"),
    ("text_encoder_2.", "text_encoder_2", "diffusers/PEFT"),
    ("text_encoder_3.", "text_encoder_3", "diffusers/PEFT"),
    ("text_encoders.clip_l.", "text_encoder", "ComfyUI"),
    ("text_encoders.clip_g.", "text_encoder_2", "ComfyUI"),
    ("text_encoders.t5xxl.", "text_encoder_3", "ComfyUI"),
    ("clip_l.", "text_encoder", "OneTrainer"),
    ("clip_g.", "text_encoder_2", "OneTrainer"),
    ("t5.", "text_encoder_3", "OneTrainer"),
    ("unet.", "unet", "diffusers/PEFT"),
    ("transformer.", "transformer", "diffusers/PEFT"),
    ("lora_unet_", "denoiser", "kohya"),
    ("lora_transformer_", "transformer", "OneTrainer"),
    ("lora_prior_unet_", "prior", "OneTrainer"),
    ("lycoris_", "denoiser", "LyCORIS"),
    ("diffusion_model.", "denoiser", "ComfyUI"),
    ("base_model.model.", "denoiser", "PEFT folder"),
)


@dataclass(frozen=True)
class Module:
    """What the file has for one module. `type` is None if these tensors are no adapter."""

    component: str
    name: str  # with its component; for a family without a table, what stands before the endings
    keys: Mapping[str, str]  # our suffix by key
    shapes: Mapping[str, Shape]  # by our suffix
    type: type[Adapter] | None
    target: Shape | None = None  # of the module's weight


@dataclass(frozen=True)
class Modules:
    """Every key of the file is in `found`, in `words` or in `unused`. `problem` is why nothing fits the base."""

    found: tuple[Module, ...]
    unused: tuple[Unused, ...]
    dialect: str = ""
    words: Mapping[str, tuple[str, str]] | None = None
    problem: str = ""

    @cached_property
    def types(self) -> Mapping[str, int]:
        return dict(Counter(module.type.name for module in self.found if module.type).most_common())


def modules(header: Header, base: Base | None) -> Modules:
    """With a base, what fits it; where nothing does, and without one, what the endings of the keys say."""
    if base is None:
        return _by_endings(header)
    try:
        match = dialects.match(header, base)
    except (MatchError, FileError) as error:
        plain = str(error).removeprefix(f"{header.path}: ").removeprefix(f"{header.path.name}: ")
        return _by_endings(header, plain)
    found = tuple(
        Module(target.component, str(target), keys, shapes := _shapes(header, keys), adapter_type(shapes), base.by_target[target].shape)
        for target, keys in match.groups.items()
    )
    return Modules(found, tuple(_unused(header, entry) for entry in match.unknown), match.dialect.title, match.words)


def _by_endings(header: Header, problem: str = "") -> Modules:
    groups: defaultdict[str, dict[str, str]] = defaultdict(dict)
    unused: list[Unused] = []
    for key in header.entries:
        if split := _ending(key):
            groups[split[0]][key] = split[1]
        else:
            unused.append(Unused(key, "does not end like a tensor of any adapter type"))
    found: list[Module] = []
    for name, keys in groups.items():
        shapes = _shapes(header, keys)
        kind = adapter_type(shapes)
        try:
            if kind is not None:
                kind.check(shapes)
            reason = no_type(shapes) if kind is None else ""
        except FileError as error:
            reason = str(error)
        if reason:
            unused += (Unused(key, reason) for key in keys)
        else:
            found.append(Module(_begins(name)[0], name, keys, shapes, kind))
    spoken = Counter(_begins(module.name)[1] for module in found)
    return Modules(tuple(found), tuple(unused), next((title for title, _ in spoken.most_common(1)), ""), problem=problem)


def _begins(name: str) -> tuple[str, str]:
    """Component and dialect."""
    return next(((component, title) for start, component, title in _BEGINNINGS if name.startswith(start)), ("denoiser", ""))


def _ending(key: str) -> tuple[str, str] | None:
    """(what stands before, our suffix): the longest ending that any dialect knows."""
    position = key.find(".")
    while position >= 0:
        if suffix := _endings().get(key[position + 1 :]):
            return key[:position], suffix
        position = key.find(".", position + 1)
    return None


@cache
def _endings() -> Mapping[str, str]:
    return {spelled: suffix for dialect in reversed(dialects.DIALECTS) for spelled, suffix in dialect.known_suffixes().items()}


def _shapes(header: Header, keys: Mapping[str, str]) -> dict[str, Shape]:
    return {suffix: header.entries[key].shape for key, suffix in keys.items()}


def _unused(header: Header, entry: str) -> Unused:
    """ "key: reason" as its two parts; a stranger's key may hold ": " itself."""
    key, _, reason = entry.partition(": ")
    while key not in header.entries and reason:
        more, _, reason = reason.partition(": ")
        key = f"{key}: {more}"
    return Unused(key, reason)
