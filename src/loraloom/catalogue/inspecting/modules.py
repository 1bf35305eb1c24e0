"""The modules that a file's keys belong to: by its base's names where there is a table, else by the endings of the keys."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache

from loraloom import dialects
from loraloom.adapters import REFUSED, SUFFIXES, Adapter, Shape, adapter_type, no_type
from loraloom.bases import Base, Target
from loraloom.bases.names import changed
from loraloom.catalogue.inspecting.inspection import Unused
from loraloom.dialects import Match
from loraloom.dialects.base import SPELLINGS
from loraloom.dialects.folder import Part
from loraloom.errors import FileError, MatchError
from loraloom.tensorfile import Header

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
    """What a file has for one module of the base."""

    component: str
    name: str  # with its component; for a family without a table, what stands before the endings
    keys: Mapping[str, str]  # our suffix by key
    shapes: Mapping[str, Shape]  # by our suffix, as they are inside
    type: type[Adapter]
    target: Shape | None = None  # of the module's weight


@dataclass(frozen=True)
class Held:
    """Every key of one file is in `modules`, in `words` or in `unused`. `problem` is why nothing fits the base."""

    header: Header
    modules: tuple[Module, ...]
    unused: tuple[Unused, ...]
    dialect: str = ""
    words: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    problem: str = ""
    match: Match | None = None


def held(part: Part, base: Base | None) -> Held:
    """With a base, what fits it; where nothing does, and without one, what the endings of the keys say."""
    header = part.header
    if base is None:
        return _by_endings(header)
    try:
        match = dialects.match(header, base, part.component)
    except (MatchError, FileError) as error:
        plain = str(error).removeprefix(f"{header.path}: ").removeprefix(f"{header.path.name}: ")
        return _by_endings(header, plain)
    found = tuple(_module(header, base, match, target) for target in match.groups)
    unused = tuple(_unused(header, entry) for entry in match.unknown)
    return Held(header, found, unused, match.dialect.title, match.words, match=match)


def _module(header: Header, base: Base, match: Match, target: Target) -> Module:
    keys, layer = match.groups[target], base.by_target[target]
    shapes = match.named_by[target].shapes(_shapes(header, keys), match.spelled(target), layer)
    return Module(target.component, str(target), keys, shapes, match.kinds[target], layer.shape)


def types(found: Iterable[Held]) -> dict[str, int]:
    """Modules by type, most first."""
    return dict(Counter(module.type.name for each in found for module in each.modules).most_common())


def _by_endings(header: Header, problem: str = "") -> Held:
    groups: defaultdict[str, dict[str, str]] = defaultdict(dict)
    unused: list[Unused] = []
    plain = changed(header.entries)
    for key in header.entries:
        if split := _ending(plain[key].name if key in plain else key):
            groups[split[0]][key] = split[1]
        else:
            unused.append(Unused(key, "does not end like a tensor of any adapter type"))
    found: list[Module] = []
    for name, keys in groups.items():
        shapes = _shapes(header, keys)
        kind, reason = _kind(shapes)
        if kind is None:
            unused += (Unused(key, reason) for key in keys)
        else:
            found.append(Module(_begins(name)[0], name, keys, shapes, kind))
    spoken = Counter(title for module in found if (title := _begins(module.name)[1]))
    return Held(header, tuple(found), tuple(unused), next((title for title, _ in spoken.most_common(1)), ""), problem=problem)


def _kind(shapes: Mapping[str, Shape]) -> tuple[type[Adapter] | None, str]:
    """The type of these tensors, or why they are none."""
    kind = adapter_type(shapes)
    try:
        if kind is not None:
            kind.check(shapes)
            return kind, ""
    except FileError as error:
        return None, str(error)
    return None, no_type(shapes)


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
    own = {suffix: suffix for suffix in SUFFIXES.union(*(suffixes for suffixes, _ in REFUSED))}
    return {ending: suffix for dialect in dialects.DIALECTS for ending, suffix in dialect.suffixes.items()} | dict(SPELLINGS) | own


def _shapes(header: Header, keys: Mapping[str, str]) -> dict[str, Shape]:
    return {suffix: header.entries[key].shape for key, suffix in keys.items()}


def _unused(header: Header, entry: str) -> Unused:
    """ "key: reason" as its two parts; a stranger's key may hold ": " itself."""
    key, _, reason = entry.partition(": ")
    while key not in header.entries and reason:
        more, _, reason = reason.partition(": ")
        key = f"{key}: {more}"
    return Unused(key, reason)
