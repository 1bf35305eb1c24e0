"""What a file says that is not counted, or that can be meant otherwise: in sentences, the same for whoever reads, inspects or checks it."""

import math
import re
from collections.abc import Iterator, Mapping, Sequence

from loraloom.dialects import peftconfig
from loraloom.dialects.matching import Match
from loraloom.tensorfile import Header

_ALPHA = re.compile(r"(?:\w{1,40}\.)?(?:ss_network_alpha|network_alpha|lora_alpha|alpha)")  # as entries of the metadata itself
_RANKS = ("ss_network_dim", "network_dim", "r", "rank")


def doubts(parts: Sequence[tuple[Header, Match]]) -> Iterator[str]:
    """Of each file of a network and what of it fits."""
    for header, matched in parts:
        configured = {target.component for target, dialect in matched.named_by.items() if dialect.configured}
        yield from (_prefixed(around, count, len(header.entries)) for around, count in matched.names.around.items())
        yield from peftconfig.doubts(header.metadata, sorted(configured))
        yield from _alpha_told(header.metadata, matched)
        yield from no_text(header)
        yield from _flat(header, matched)


def no_text(header: Header) -> Iterator[str]:
    """Values of the metadata that other programs refuse a whole file for."""
    if header.mended:
        listed = ", ".join(header.mended[:4]) + (f" and {len(header.mended) - 4} more" if len(header.mended) > 4 else "")
        yield (
            f"its metadata holds values that are no text ({listed[:200]}), which the format does not allow: they are read as their JSON; "
            "other programs may refuse the file, and `loraloom convert` writes one that they read"
        )


def _flat(header: Header, matched: Match) -> Iterator[str]:
    """DoRA's magnitudes without dimensions, which LyCORIS and ComfyUI do not read; PEFT's own have another name."""
    flat = [
        target
        for target, keys in matched.groups.items()
        if any(suffix == "dora_scale" == key[-10:] and len(header.entries[key].shape) == 1 for key, suffix in keys.items())
    ]
    if flat:
        yield (
            f"dora_scale of {len(flat)} modules is flat: it is read by its length, one number for each output first; other programs may "
            "not read it so, and `loraloom convert` writes it with its dimensions"
        )


def _prefixed(around: str, count: int, tensors: int) -> str:
    what = f"{count} of its {tensors} names have {around[:80]!r} in them"
    return f"{what}, which another program put there; it was left out to find the modules. loraloom convert writes them without it"


def _alpha_told(metadata: Mapping[str, str], matched: Match) -> Iterator[str]:
    """Trainers that write alpha into metadata write it as a tensor too: where there is none, it was lost, or never acted."""
    without = [
        target
        for target, keys in matched.groups.items()
        if "alpha" in matched.kinds[target].suffixes()
        and not {"alpha", "scale"} & set(keys.values())
        and not (matched.named_by[target].configured and peftconfig.of(metadata, target.component).told)
    ]
    for key, text in metadata.items() if without else ():
        if not _ALPHA.fullmatch(key) or (alpha := _number(text)) is None:
            continue
        rank = next((rank for name in _RANKS if (rank := _number(metadata.get(_beside(key, name), "")))), None)
        if rank == alpha:
            continue
        meant = f", which is {alpha / rank:.3g} at the rank {rank:g} that it says" if rank else ""
        yield (
            f"its metadata says alpha {alpha:g} ({key}){meant}, and {len(without)} of its modules have no alpha: alpha is the rank there, "
            "and the scale 1. If alpha was lost on the way, that factor is the strength to use it with"
        )


def _beside(key: str, name: str) -> str:
    """`unet.r` for `unet.lora_alpha`."""
    component, dot, _ = key.rpartition(".")
    return f"{component}{dot}{name}"


def _number(text: str) -> float | None:
    try:
        value = float(text[:40])
    except ValueError:
        return None
    return value if math.isfinite(value) and value > 0 else None
