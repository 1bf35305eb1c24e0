"""What to say of a file whose own family has no table here: which bases its names and shapes fit, or where else it can be used."""

from collections.abc import Iterable, Sequence

from loraloom.bases import BASES, Base
from loraloom.bases.detect import UNKNOWN, Detection
from loraloom.dialects.folder import Part
from loraloom.dialects.matching import match
from loraloom.errors import LoraError


def fitting(parts: Iterable[Part]) -> Sequence[Base]:
    """The bases that some tensors of these files fit by names and shapes."""
    return [base for base in BASES if any(_fits(part, base) for part in parts)]


def _fits(part: Part, base: Base) -> bool:
    try:
        match(part.header, base, part.component)
    except LoraError:
        return False
    return True


def nameless(name: str, found: Detection, parts: Sequence[Part]) -> tuple[str, tuple[str, ...]]:
    """The sentence for a file that names no base that has a table here, with a next step that works, and the fields that settle it."""
    if found.title != UNKNOWN:
        return (
            f"{name} was made for {found.title} ({found.evidence[-1]}), and there is no table of its modules here; it can be drawn with a "
            f"base of {found.title}, whose pipeline loads it by itself",
            (),
        )
    says = f"{name} does not say what base it was made for" + (f" ({found.evidence[-1]})" if found.evidence else "")
    bases = fitting(parts)
    if bases:
        several = f"one of {', '.join(base.title for base in bases)}" if len(bases) > 1 else bases[0].title
        return f"{says}; its names and shapes fit {several}: name that as the base", ("base",)
    known = ", ".join(base.title for base in BASES)
    return (
        f"{says}, and nothing in it fits a base that has a table here ({known}); `loraloom inspect` shows what it holds: it may be a "
        "checkpoint, a VAE or an embedding, or a network for a base that is not known here",
        (),
    )
