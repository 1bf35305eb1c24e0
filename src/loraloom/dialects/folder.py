"""PEFT's folders: `adapter_model.safetensors` beside `adapter_config.json`, one pair or a subfolder for each component.

Training scripts of diffusers write `unet/` and `text_encoder/`. A path to the file inside means its folder's config too.
"""

import errno
import json
import os
import secrets
import shutil
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from loraloom import tensorfile
from loraloom.dialects.metadata import PEFT_CONFIG
from loraloom.errors import FileError, LimitExceeded, UnknownFormat, WriteFailed
from loraloom.leftovers import beside
from loraloom.tensorfile import Header

if TYPE_CHECKING:
    from torch import Tensor

WEIGHTS, PICKLE, CONFIG = "adapter_model.safetensors", "adapter_model.bin", "adapter_config.json"
_SINGLE = "pytorch_lora_weights.safetensors"  # what diffusers' save_lora_weights writes into a folder
_COMPONENTS = ("unet", "text_encoder", "text_encoder_2")
_MAX_CONFIG = 2**20
_PREFIX = "base_model.model."


class Part(NamedTuple):
    """One file of a network, and the component that its names are relative to; None where the names say it."""

    header: Header
    component: str | None = None

    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        """By names that say the component, as recognising a family needs them."""
        if self.component is None:
            return self.header.shapes
        return {f"{self.component}.{key.removeprefix(_PREFIX)}": shape for key, shape in self.header.shapes.items()}


def opened(path: Path) -> tuple[Part, ...]:
    """The headers of a network: of one file, or of each of a folder. Raises what `Header.read` does, FileError for a folder without
    a network or with several, UnknownFormat for a config that is none."""
    if not path.is_dir():
        return (_part(path),)
    files = held(path, WEIGHTS)
    if files:
        return tuple(map(_part, files))
    if (path / _SINGLE).is_file():
        return (Part(Header.read(path / _SINGLE)),)
    if pickles := held(path, PICKLE):
        raise FileError(
            f"{path}: this folder has {pickles[0].relative_to(path)}, whose format can run programs when it is opened; "
            f"loraloom convert {path} NEW.safetensors opens it safely, with its {CONFIG}"
        )
    raise FileError(f"{path}: this folder has no {WEIGHTS}, no {_COMPONENTS[0]}/{WEIGHTS} and no {_SINGLE}; name the file itself")


def held(path: Path, name: str) -> tuple[Path, ...]:
    """The files of this name that are one network: in the folder itself, one in the folder of each component, or in the one folder
    that PEFT made for an adapter with a name of its own. Raises FileError where several adapters have such a folder."""
    if (path / name).is_file():
        return (path / name,)
    if inner := [path / component / name for component in _COMPONENTS if (path / component / name).is_file()]:
        return tuple(inner)
    named = sorted(found for found in path.glob(f"*/{name}") if found.is_file())
    if len(named) > 1:
        listed = ", ".join(found.parent.name for found in named[:8])
        raise FileError(f"{path}: this folder has {len(named)} networks, in {listed}; name one of these folders")
    return tuple(named)


def has_config(path: Path) -> bool:
    """Whether what a file means is said in the config beside it, and not in the file alone."""
    return PEFT_CONFIG in _part(path).header.metadata and PEFT_CONFIG not in Header.read(path).metadata


def is_beside(path: Path) -> bool:
    """Whether a config lies beside a file, whatever it is of."""
    return path.with_name(CONFIG).is_file()


def _component(folder: Path) -> str | None:
    """By the name of the folder, or of the one around that of an adapter with a name of its own."""
    whole = folder.resolve()
    return next((name for name in (whole.name, whole.parent.name) if name in _COMPONENTS), None)


def _part(path: Path) -> Part:
    """The file, with the config beside it in its metadata, where diffusers has it, if it is PEFT's: by its name, or by the names in it
    where it says nothing itself."""
    header = Header.read(path)
    is_pefts = path.name == WEIGHTS or (PEFT_CONFIG not in header.metadata and any(key.startswith(_PREFIX) for key in header.entries))
    if not is_pefts:
        return Part(header)
    config, component = _config(path.with_name(CONFIG)), _component(path.parent)
    if not config:
        return Part(header, component)
    if component is None:
        mapping = config.get("auto_mapping")
        component = _of_class(mapping.get("base_model_class") if isinstance(mapping, dict) else None, header)
    return Part(replace(header, metadata={**header.metadata, PEFT_CONFIG: json.dumps(config)}), component)


def _of_class(name: object, header: Header) -> str | None:
    """The component that the config or the names speak for."""
    if name == "UNet2DConditionModel":
        return "unet"
    if name == "CLIPTextModelWithProjection":
        return "text_encoder_2"
    text = any(".self_attn." in key or ".mlp.fc" in key for key in header.entries)
    return "text_encoder" if name == "CLIPTextModel" or text else None


def _config(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > _MAX_CONFIG:
            raise LimitExceeded(f"{path}: {path.stat().st_size:,} bytes, the limit for a config is {_MAX_CONFIG:,}")
        return msgspec.json.decode(path.read_bytes(), type=dict[str, Any])
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise FileError(f"{path}: cannot be read: {error.strerror or error}") from error
    except (msgspec.MsgspecError, RecursionError, UnicodeError) as error:
        raise UnknownFormat(f"{path}: not what PEFT writes ({error})") from error


class Written(NamedTuple):
    """What goes into the folder of one component."""

    tensors: "Mapping[str, Tensor]"
    metadata: Mapping[str, str]
    config: Mapping[str, Any]


def write(path: Path, parts: Mapping[str, Written]) -> Path:
    """Write the whole folder beside its place and rename it: nobody sees half of it. One component alone has no subfolder.

    A folder that was there is replaced if it is one of PEFT's. Raises WriteFailed; what was there is untouched then.
    """
    _refuse_foreign(path)
    fresh = beside(path)
    try:
        for component, written in parts.items():
            folder = fresh if len(parts) == 1 else fresh / component
            folder.mkdir(parents=True)
            tensorfile.write(folder / WEIGHTS, written.tensors, written.metadata)
            with (folder / CONFIG).open("x", encoding="utf-8") as file:
                json.dump(written.config, file, indent=2, sort_keys=True)
                file.flush()
                os.fsync(file.fileno())
        replace_folder(fresh, path)
    except OSError as error:
        advice = "free some space and try again" if error.errno in (errno.ENOSPC, errno.EDQUOT) else "check the folder and its permissions"
        raise WriteFailed(
            f"{path}: could not be written: {error.strerror or error}; {advice}. Nothing that was there has changed"
        ) from error
    finally:
        with suppress(OSError):
            shutil.rmtree(fresh)
    return path


def replace_folder(fresh: Path, path: Path) -> None:
    """`fresh` under the name `path`, in place of a folder of PEFT's that may be there: that one is renamed first and deleted last.

    Raises WriteFailed for a folder of somebody else, OSError where the system says no; what was there is there then.
    """
    _refuse_foreign(path)
    old = path.with_name(f".{path.name[:32]}.{secrets.token_hex(6)}.old")  # the only copy for a moment: never taken for a leftover
    if path.exists():
        path.rename(old)
    try:
        fresh.rename(path)
    except OSError:
        if old.exists():
            old.rename(path)
        raise
    with suppress(OSError):
        shutil.rmtree(old)


def _refuse_foreign(path: Path) -> None:
    if path.exists() and not _is_ours(path):
        raise WriteFailed(f"{path}: is there and is no PEFT folder (it holds more than {WEIGHTS} and {CONFIG}); choose another name")


def _is_ours(path: Path) -> bool:
    """Whether all of a folder is what `write` makes."""
    inside = {str(each.relative_to(path)) for each in path.rglob("*")} if path.is_dir() and not path.is_symlink() else {""}
    names = {WEIGHTS, CONFIG, "README.md"}
    return inside <= names | set(_COMPONENTS) | {f"{component}{os.sep}{name}" for component in _COMPONENTS for name in names}
