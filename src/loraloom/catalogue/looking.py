"""The boundary where one file of a library is looked at: whatever goes wrong in it is that file's problem, and nobody else's."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from loraloom.errors import FileError, LoraError, Unforeseen

_LOG = logging.getLogger(__name__)


@contextmanager
def looking_at(path: Path) -> Iterator[None]:
    """Only LoraErrors leave the block. Raises Unforeseen, naming the file and the exception, for any other; its traceback is logged."""
    try:
        yield
    except LoraError:
        raise
    except MemoryError as error:
        raise FileError(f"{path}: cannot be read: there is not enough memory for it now") from error
    # The one place that catches everything: a stranger's file that meets a bug of ours must not hide the thousand beside it.
    except Exception as error:
        _LOG.exception("%s: a bug of loraloom was met while this file was read", path)
        raise Unforeseen(
            f"{path}: looking at it failed with {type(error).__name__} ({str(error)[:200]}): a bug of loraloom; please report it with the "
            "names and shapes of this file, which `loraloom inspect` can write as a report"
        ) from error
