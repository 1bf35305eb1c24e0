"""What a file's header says about it: family, types, trigger words, alias, hash. Damaged files say why instead."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

from loraloom import dialects
from loraloom.adapters import adapter_type
from loraloom.bases import Target
from loraloom.bases.detect import by_family
from loraloom.catalogue.scan import Item
from loraloom.catalogue.triggers import trigger_words
from loraloom.errors import LoraError
from loraloom.tensorfile import Header


@dataclass(frozen=True)
class Facts:
    """`problem` is why the file cannot be used; what could be read is there all the same."""

    family: str = ""  # "sd1"; empty: none that loraloom runs
    title: str = ""  # "SD 1.x", also for families that loraloom only recognises
    types: tuple[str, ...] = ()  # most frequent first
    rank: str = ""  # as the file says it
    modules: int = 0
    triggers: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()  # names that the metadata gives
    hash: str = ""  # sshs_model_hash, hex; empty: not in the metadata
    problem: str = ""


def read_facts(item: Item) -> Facts:
    """The facts of a file; read once for each state of it."""
    return _read(item)


@lru_cache(maxsize=4096)
def _read(item: Item) -> Facts:
    try:
        header = Header.read(item.path)
    except LoraError as error:
        return Facts(problem=_plain(item, error))
    found = dialects.detect(header.shapes, header.metadata)
    base = by_family(found.family) if found.family else None
    types: Counter[str] = Counter()
    problem = "" if base else f"made for {found.title}, which loraloom does not run yet"
    if base:
        try:
            _, groups, _ = dialects.match(header, base)
            types = _types(header, groups)
        except LoraError as error:
            problem = _plain(item, error)
    metadata = header.metadata
    return Facts(
        family=found.family or "",
        title=found.title,
        types=tuple(name for name, _ in types.most_common()),
        rank=metadata.get("ss_network_dim", ""),
        modules=types.total(),
        triggers=trigger_words(item.path, metadata),
        aliases=tuple(dict.fromkeys(name for key in ("ss_output_name", "modelspec.title") if (name := metadata.get(key)))),
        hash=metadata.get("sshs_model_hash", "").removeprefix("0x"),
        problem=problem,
    )


def _types(header: Header, groups: Mapping[Target, Mapping[str, str]]) -> Counter[str]:
    kinds = (adapter_type({suffix: header.entries[key].shape for key, suffix in keys.items()}) for keys in groups.values())
    return Counter(kind.name for kind in kinds if kind)


def _plain(item: Item, error: LoraError) -> str:
    """The error without the path, which stands beside it."""
    return str(error).removeprefix(f"{item.path}: ").removeprefix(f"{item.path.name}: ")
