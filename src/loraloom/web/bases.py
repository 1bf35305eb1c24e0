"""The bases that requests may choose: by name. Where they are stays on this computer."""

import hashlib
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from pathlib import Path

from loraloom.errors import NotFound, suggestion
from loraloom.filenames import SUFFIX, has_ending, stem
from loraloom.generate.pipeline import EMBEDDED
from loraloom.home import expanded
from loraloom.settings import Settings

_HASHED_BYTES = 64 * 2**20  # larger weights are not read for a hash


@dataclass(frozen=True)
class KnownBase:
    """`source` is what a session takes; it never leaves the server."""

    name: str
    source: str

    @property
    def sha256(self) -> str | None:
        """Of the denoiser's weights, or of the checkpoint; None where they are large or not on this disk."""
        weights = _weights(self.source)
        return _sha256(weights, weights.stat().st_mtime_ns) if weights else None

    @property
    def title(self) -> str:
        """As the WebUI writes it: `tiny [0123456789]`."""
        return f"{self.name} [{self.sha256[:10]}]" if self.sha256 else self.name

    @property
    def spellings(self) -> frozenset[str]:
        """All that a request may call it, in lower case."""
        digest = self.sha256 or ""
        hashes = {digest, digest[:10]} if digest else set()
        return frozenset(word.lower() for word in (self.name, self.title, f"{self.name}{SUFFIX}", *hashes))


def known_bases(settings: Settings) -> tuple[KnownBase, ...]:
    """The base of the settings, the embedded one, and those in the folders of `model_folders`; the first of a name counts."""
    own = KnownBase(_name(settings.base), settings.base)
    found = [KnownBase(_name(str(path)), str(path)) for folder in settings.model_folders for path in _models(folder)]
    by_name: dict[str, KnownBase] = {}
    for base in (own, KnownBase("tiny", "tiny"), *found):
        by_name.setdefault(base.name.lower(), base)
    return tuple(by_name.values())


def find_base(settings: Settings, name: str | None) -> KnownBase:
    """The base that a request names; None is that of the settings. Raises NotFound with the list."""
    bases = known_bases(settings)
    if name is None:
        return bases[0]
    for base in bases:
        if name.strip().lower() in base.spellings:
            return base
    names = [base.name for base in bases]
    raise NotFound(f'no base named "{name[:200]}"{suggestion(name[:200], names)}; there are {", ".join(names)}')


def _name(source: str) -> str:
    """No folders of this computer; names on the hub as they are."""
    path = expanded(source)
    return stem(path.resolve().name) if source not in EMBEDDED and path.exists() else source


def _models(folder: Path) -> list[Path]:
    """Checkpoints and model folders directly in `folder`."""
    try:
        return sorted(path for path in folder.iterdir() if has_ending(path.name) or (path / "model_index.json").is_file())
    except OSError:
        return []


def _weights(source: str) -> Path | None:
    path = Path(str(files("loraloom"))) / "assets" / source if source in EMBEDDED else expanded(source)
    places = (path, *(path / part / "diffusion_pytorch_model.safetensors" for part in ("unet", "transformer")))
    return next((place for place in places if place.is_file() and place.stat().st_size <= _HASHED_BYTES), None)


@lru_cache(maxsize=64)
def _sha256(path: Path, _state: int) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
