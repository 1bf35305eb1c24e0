"""A network gets its name on the disk only when it was read back and nothing of it is missing."""

from pathlib import Path

from loraloom.atomic import give_name, sync_folder
from loraloom.bases import Base
from loraloom.dialects.folder import replace_folder
from loraloom.dialects.reading import read
from loraloom.dialects.writing import write
from loraloom.errors import DialectCannotHold, WriteFailed
from loraloom.lazy import torch
from loraloom.leftovers import aside
from loraloom.lorafile import LoraFile

DTYPES = {"fp16": "float16", "bf16": "bfloat16", "fp32": "float32"}  # as commands and requests call them


def publish(file: LoraFile, base: Base, output: Path, dialect: str, dtype: str, *, overwrite: bool) -> LoraFile:
    """Write `file` beside `output`, whose folder is made, read it back, and name it; what was read back, in memory of its own.

    Raises DialectCannotHold if the naming does not give every module back, WriteFailed; what was there is untouched then. Without
    `overwrite` that includes what appeared at `output` since the work began: Taken says where the new network is instead.
    """
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        with aside(output.parent) as folder:
            written = write(file, Path(folder) / output.name, dialect, dtype=getattr(torch, dtype))
            back = read(written, base, force=True)
            _compare(file, back, dialect)
            if not overwrite:
                give_name(written, output)
            elif written.is_dir():
                replace_folder(written, output)
            else:
                written.replace(output)
            sync_folder(output.parent)
    except OSError as error:
        raise WriteFailed(f"{output}: could not be written: {error.strerror or error}; nothing that was there has changed") from error
    return back


def _compare(made: LoraFile, back: LoraFile, dialect: str) -> None:
    kinds = {target: adapter.name for target, adapter in back.adapters.items()}
    lost = [str(target) for target, adapter in made.adapters.items() if kinds.get(target) != adapter.name]
    lost += [f"the embedding {word}" for word in made.embeddings if word not in back.embeddings]
    if lost:
        more = f" and {len(lost) - 1} more" if len(lost) > 1 else ""
        raise DialectCannotHold(f"{dialect} naming does not give back {lost[0]}{more}, so nothing was written; choose another dialect")
