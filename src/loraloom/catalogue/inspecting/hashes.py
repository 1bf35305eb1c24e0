"""The hashes that people know a file by, worked out from the file: one pass over all of it."""

import hashlib

from loraloom.catalogue.inspecting.inspection import Hashes
from loraloom.tensorfile import Header, readable

_CHUNK = 2**20
_LEGACY = (0x100000, 0x110000)  # the bytes that the WebUI's first hash looked at


def hashes(header: Header, told: str) -> Hashes:
    """`told` is the metadata's `sshs_model_hash`; one that begins with `0x` is LyCORIS', of another algorithm, and is not compared.
    Raises FileError."""
    whole, model, legacy = hashlib.sha256(), hashlib.sha256(), hashlib.sha256()
    position = 0
    with readable(header.path) as file:
        while block := file.read(_CHUNK):
            whole.update(block)
            model.update(block[max(0, header.data_start - position) :])
            legacy.update(block[max(0, _LEGACY[0] - position) : max(0, _LEGACY[1] - position)])
            position += len(block)
    found = model.hexdigest()
    plain = told.lower().removeprefix("0x")[:64]
    agrees = found == plain if plain and plain == told.lower() else None
    return Hashes(whole.hexdigest(), found, found[:12], legacy.hexdigest()[:8], plain, agrees)
