"""A folder of pictures as a job names it: `cats`, or `cats:5` where each picture counts five times."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from loraloom.home import expanded

_TIMES = re.compile(r"(.+):(\d{1,4})")


@dataclass(frozen=True)
class Source:
    path: Path  # absolute
    times: int = 1  # how often each of its pictures counts, besides what its folders say; 0 is off

    @classmethod
    def of(cls, given: Path) -> Self:
        """A folder that is really called `cats:5` is itself."""
        found = None if expanded(given).exists() else _TIMES.fullmatch(str(given))
        path, times = (Path(found[1]), int(found[2])) if found else (given, 1)
        return cls(expanded(path).resolve(), times)

    @property
    def name(self) -> str:
        return self.path.name
