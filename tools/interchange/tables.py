"""The tables of docs/interchange.md: what was measured, in words."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from loraloom.dialects.readers import READS
from tools.interchange.forms import FORMS
from tools.interchange.measure import PEERS, Reading, reading
from tools.interchange.peer import Peer

DOCS = Path(__file__).parents[2] / "docs" / "interchange.md"
# The naming in which a program reads the most; the others are in the second table.
NAMING = {"diffusers": "peft", "peft": "peft-folder"}
OTHERS: Mapping[str, tuple[str, ...]] = {
    "comfyui": ("comfyui", "lycoris", "peft"),
    "forge": ("comfyui", "lycoris", "peft"),
    "sdnext": ("comfyui", "lycoris", "peft"),
    "invokeai": ("comfyui", "lycoris", "peft"),
    "kohya": ("comfyui", "lycoris", "peft"),
    "diffusers": ("kohya",),
}
OF_OTHERS = ("lora", "bias", "tucker", "loha", "full", "dora", "norm", "norm of a text encoder")  # the rows of the second table
Readings = Mapping[tuple[str, str, str], Reading]  # by program, form and naming


def measured(folder: Path) -> Readings:
    """Every cell of both tables; files are made in `folder`."""
    return {(peer.name, form, dialect): reading(peer, form, dialect, folder) for peer, form, dialect in _cells()}


def _cells() -> Iterator[tuple[Peer, str, str]]:
    """Of another naming a few forms, but all where a program reads as much of it as of its first."""
    for form in FORMS:
        for peer in PEERS:
            yield peer, form, NAMING.get(peer.name, "kohya")
            for dialect in OTHERS.get(peer.name, ()):
                if form in OF_OTHERS or any((reads.tool, reads.dialect) == (peer.name, dialect) for reads in READS):
                    yield peer, form, dialect


def words(found: Reading) -> str:
    """A cell: one word where all kinds of layers agree, else the kinds of each."""
    verdicts = {kind: found.verdict(kind) for kind in found.errors} or {"": found.verdict("")}
    return "; ".join(
        _word(found, verdict, [kind for kind in verdicts if verdicts[kind] == verdict], alone=len({*verdicts.values()}) == 1)
        for verdict in dict.fromkeys(verdicts.values())
    )


def _word(found: Reading, verdict: str, kinds: list[str], *, alone: bool) -> str:
    where = "" if alone else f"{', '.join(kinds)}: "
    if verdict == "wrong":
        return f"{where}**{_percent(max(found.errors[kind][0] for kind in kinds))} off**"
    if verdict == "at 1":
        return f"{where}at 1; at 0.7 {_percent(max(found.errors[kind][1] for kind in kinds))} off"
    return where + ("**no**" if verdict == "no" else f"**{verdict}**" if verdict == "refused" else verdict)


def _percent(error: float) -> str:
    """To one digit; what is many times the change is told by no number."""
    return f"{float(f'{100 * error:.1g}'):g} %" if error < 10 else "far"


def versions(_: Readings) -> str:
    return ", ".join(f"{peer.title} {peer.version}" for peer in PEERS if peer.name != "lycoris merged") + ".\n"


def _rows(header: list[str], rows: Iterator[list[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def by_type(found: Readings) -> str:
    header = ["", *(f"{peer.title}{', `' + NAMING[peer.name] + '`' if peer.name in NAMING else ''}" for peer in PEERS)]
    cells = ([form, *(words(found[peer.name, form, NAMING.get(peer.name, "kohya")]) for peer in PEERS)] for form in FORMS)
    return _rows(header, cells)


def by_naming(found: Readings) -> str:
    pairs = [(peer, dialect) for peer in PEERS for dialect in OTHERS.get(peer.name, ())]
    rows = ([f"{peer.title}, `{dialect}`", *(words(found[peer.name, form, dialect]) for form in OF_OTHERS)] for peer, dialect in pairs)
    return _rows(["", *OF_OTHERS], rows)


PARTS: Mapping[str, Callable[[Readings], str]] = {
    "versions": versions,
    "types": by_type,
    "namings": by_naming,
}


def filled(text: str, found: Readings) -> str:
    """The page with its tables as they are measured now."""
    for name, part in PARTS.items():
        before, begin, rest = text.partition(f"<!-- {name}: python -m tools.interchange writes it -->\n")
        _, end, after = rest.partition(f"<!-- end of {name} -->")
        if not (begin and end):
            raise ValueError(f"the page has no place for {name}")
        text = before + begin + part(found) + end + after
    return text
