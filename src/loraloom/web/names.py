"""Names for new files that come from requests: a name and nothing else, the same on every system, and easy to write in a tag."""

import re
import unicodedata
from typing import Annotated

from pydantic import AfterValidator, Field

from loraloom.filenames import stem

_CHARACTERS = 100
_BYTES = 200  # in UTF-8; file systems take 255 with the ending and what a temporary file adds
_FOREIGN = re.compile(r'[/\\:*?"<>|]')  # separators, and what Windows or a tag has another use for
_DEVICES = re.compile(r"(?:con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³])(?:\..*)?", re.IGNORECASE)


def _as_name(name: str) -> str:
    """Without the ending if it is there. Raises ValueError that says what to change."""
    name = stem(unicodedata.normalize("NFC", name))
    if found := _FOREIGN.search(name):
        raise ValueError(f'"{found[0]}" cannot stand in a name; it is the name of a file, not a path')
    if odd := next((character for character in name if unicodedata.category(character)[0] == "C" or character in "\u2028\u2029"), None):
        raise ValueError(f"the character U+{ord(odd):04X} cannot be seen, so it cannot stand in a name")
    if not name or name != name.strip() or name[0] == "." or name[-1] == ".":
        raise ValueError("a name neither begins with a dot or a space nor ends with one, and is not empty")
    if _DEVICES.fullmatch(name):
        raise ValueError(f'"{name}" is the name of a device on Windows')
    if len(name.encode()) > _BYTES:
        raise ValueError(f"a name of {len(name.encode())} bytes; file systems take {_BYTES}")
    return name


NetworkName = Annotated[str, Field(min_length=1, max_length=_CHARACTERS), AfterValidator(_as_name)]
