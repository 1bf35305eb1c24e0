"""Which row of a denoiser's batch is whose: the picture, and the half of guidance."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from loraloom.engine.mixture import Half
from loraloom.errors import EngineError, NotSupported

# The halves in the order in which diffusers' pipelines stack them under guidance (their `__call__`, diffusers 0.42).
_USUAL: Sequence[Half] = ("neg", "pos")
_STACKED: Mapping[str, Sequence[Half]] = {
    **{
        f"StableDiffusion{kind}{job}Pipeline": _USUAL
        for kind in ("", "XL", "ControlNet", "XLControlNet")
        for job in ("", "Img2Img", "Inpaint")
    },
    "StableDiffusionInstructPix2PixPipeline": ("pos", "neg", "neg"),
}


class Row(NamedTuple):
    place: int  # of the picture in this call
    half: Half


def known(pipeline: Any) -> bool:
    return type(pipeline).__name__ in _STACKED


def rows(pipeline: Any, batch: int) -> list[Row]:
    """Every row of a call of `batch` rows. Raises NotSupported for a pipeline whose order is not known."""
    if not known(pipeline):
        raise NotSupported(
            f"{type(pipeline).__name__}: which row of its batches is which picture is not known, so all pictures of a batch need the "
            "same networks on both halves of guidance; draw them one by one, without tags in the negative prompt"
        )
    guided = getattr(pipeline, "do_classifier_free_guidance", False)  # raises AttributeError before the first run
    halves = _STACKED[type(pipeline).__name__] if guided else ("pos",)
    if batch % len(halves):
        raise EngineError(f"{type(pipeline).__name__} ran {batch} rows, which are not {len(halves)} halves of guidance")
    return [Row(index, half) for half in halves for index in range(batch // len(halves))]


def picture(index: int, count: int, pictures: int) -> int:
    """Which of `pictures` mixes picture `index` of `count` has: several pictures of one prompt follow one another."""
    if count % pictures:
        raise EngineError(f"{pictures} mixes are attached, the pipeline draws {count} pictures; give one mix for each, or one for all")
    return index * pictures // count
