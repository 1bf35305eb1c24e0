"""Keys of a tag that reach nothing: the file has no modules there, or the base has no such part. A person wrote them for some reason."""

from collections.abc import Collection, Iterable, Iterator

from loraloom.adapters import Adapter
from loraloom.strength import MODULES, Place, Strength

_TEXT, _DENOISER = MODULES["te"], MODULES["unet"]
# Field of Strength -> how a tag writes it, the components that it is about, and what part of them.
_KEYS = {
    "te": ("te", _TEXT, "a text encoder"),
    "te1": ("te1", MODULES["te1"], "the first text encoder"),
    "te2": ("te2", MODULES["te2"], "the second text encoder"),
    "te3": ("te3", MODULES["te3"], "the third text encoder"),
    "unet": ("unet", _DENOISER, "the denoiser"),
    "in_": ("in", _DENOISER, "the first part of the denoiser"),
    "mid": ("mid", _DENOISER, "the middle of the denoiser"),
    "out": ("out", _DENOISER, "the last part of the denoiser"),
}


def unreached(strengths: Iterable[Strength], held: Collection[Place], components: Collection[str]) -> list[str]:
    """A sentence for each key that decides for no module. `held` are the places of a file's modules in this pipeline, `components` the
    pipeline's parts. Strengths that are 0 everywhere are meant to do nothing."""
    tags = dict.fromkeys(tag for strength in strengths for tag in (strength, *strength.also))
    return list(dict.fromkeys(sentence for tag in tags if not _nothing(tag) for sentence in _of_tag(tag, held, components)))


def _nothing(tag: Strength) -> bool:
    return tag.module is None and tag.is_zero


def _of_tag(tag: Strength, held: Collection[Place], components: Collection[str]) -> Iterator[str]:
    if tag.module is not None and not any(tag.covers(place) for place in held):
        parts = MODULES[tag.module]
        yield f"module={tag.module} leaves nothing on: {_absent(parts, ' or '.join(parts), components)}"
        return
    decided = {tag.deciding(place) for place in held if tag.covers(place)}
    for field, (key, parts, part) in _KEYS.items():
        if getattr(tag, field) is None or field in decided:
            continue
        about = [place for place in held if field in tag.chain(place)]
        if not about:
            yield f"{key}= acts on nothing: {_absent(parts, part, components)}"
        elif not any(tag.covers(place) for place in about):
            yield f"{key}= acts on nothing: module={tag.module} leaves {part} out"
        else:
            instead = {tag.deciding(place) for place in about if tag.covers(place)}
            others = [f"{other}=" for name, (other, *_) in _KEYS.items() if name in instead]
            yield f"{key}= acts on nothing: {', '.join(others)} {'stands' if len(others) == 1 else 'stand'} for it"
    if held and not tag.is_zero and all(tag.zero_at(place) for place in held):
        yield "its strengths leave every module of the file at 0"


def _absent(parts: Collection[str], part: str, components: Collection[str]) -> str:
    if not set(parts) & set(components):
        return f"this base has no {next(iter(parts))}"
    return f"the file has no modules in {part}"


def uncut(dyn: int | None, adapters: Iterable[Adapter]) -> list[str]:
    """What `dyn` does not do: where a type has no ranks to cut, or where no module has as many."""
    if dyn is None:
        return []
    found = list(adapters)
    kinds = sorted({adapter.name for adapter in found if adapter.cut(dyn) is None})
    if kinds:
        return [f"dyn={dyn} is ignored by {', '.join(kinds)}, which have no ranks to cut"]
    most = max((scaling[0] for adapter in found if (scaling := adapter.scaling())), default=0)
    return [f"dyn={dyn} cuts nothing: no module has more than {most} ranks"] if found and most <= dyn else []
