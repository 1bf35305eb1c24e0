"""The openly licensed material of the embedded base: emoji drawings (SVG) and their names, from npm, pinned and verified."""

import base64
import hashlib
import json
import subprocess
import tarfile
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Source:
    """One npm package at one version; `sha512` is the registry's own integrity value."""

    name: str
    version: str
    license: str
    sha512: str

    @property
    def folder(self) -> str:
        return self.name.rpartition("/")[2]


NOTO = Source(
    "@iconify-json/noto",
    "1.2.9",
    "Apache-2.0",
    "DQiuXENbun41ch+XPSV55H9FaWKpHTyz46YIKtSaKYD4fIDDzL1tR6H4np/T38jfrTAeI3rcKF0mqHYeZVAuaw==",
)
FLUENT_FLAT = Source(
    "@iconify-json/fluent-emoji-flat",
    "1.2.6",
    "MIT",
    "RY47RgPb47fYUiyrA64sIOL0+UU02s29sXpNBbIQRBUlPlfNFTKUmZDERGuxDs/7yNGWqQYvuaSYM1M4fRXlUw==",
)
FLUENT_LINE = Source(
    "@iconify-json/fluent-emoji-high-contrast",
    "1.2.6",
    "MIT",
    "esqhZPpkrF7sNX3NsLoh8KW64okEr/bzko7WNnFP+qTJGAqDPDYjp0925yxuivXy3HtVQB8xhIKu3+Nq1byX5w==",
)
EMOJILIB = Source(
    "emojilib",
    "4.0.3",
    "MIT",
    "KbWiYre9aRSaPbHrHZIz9zmoM+21LAsK1VFJtnTh1VCtWE/rNMDviGhQTmselFl95dhqtGlY22iH0leG5BuW0g==",
)
EMOJIBASE = Source(
    "emojibase-data",
    "17.0.0",
    "MIT",
    "Yvgb5AWoHViHV/gq1qr5ZAarcBip+B27/ZLRsUJkbgAEaLlZ/fof9g882LTpmEpyhBNEC0m2SEmItljHsTygjA==",
)
SOURCES = (NOTO, FLUENT_FLAT, FLUENT_LINE, EMOJILIB, EMOJIBASE)


class SourceError(Exception):
    """A package could not be fetched or is not the one that the recipe was written for."""


def fetch(source: Source, folder: Path) -> Path:
    """Unpack `source` under `folder` and return its folder; a second call finds it there."""
    target = folder / source.folder
    if (target / "package.json").exists():
        return target
    folder.mkdir(parents=True, exist_ok=True)
    packed = subprocess.run(
        ["npm", "pack", "--json", f"{source.name}@{source.version}"],
        cwd=folder,
        check=True,
        capture_output=True,
        text=True,
    )
    archive = folder / json.loads(packed.stdout)[0]["filename"]
    found = base64.b64encode(hashlib.sha512(archive.read_bytes()).digest()).decode()
    if found != source.sha512:
        raise SourceError(f"{source.name}@{source.version}: sha512 is {found}, the recipe expects {source.sha512}")
    with tarfile.open(archive) as tar:
        for member in tar.getmembers():
            member.name = member.name.partition("/")[2]
            if member.name:
                tar.extract(member, target, filter="data")
    archive.unlink()
    return target
