"""The strengths of one component as one flat tensor over the ranks. A change of any number of them is one write."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from loraloom.engine.live import weight_of
from loraloom.errors import EngineError
from loraloom.lazy import torch

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module


class Strengths:
    """What the branches of one component multiply by. Layers reserve a part each and read it while they run.

    `flat` is [columns, ranks]: a column for each distinct set of strengths. With one column the layers read it as it is;
    with several, `select` says before each call which column each row of the batch has.
    """

    def __init__(self, columns: int, sink: "Callable[[Tensor], None] | None" = None) -> None:
        """`sink` gets the live strengths whenever they change."""
        self._columns, self._sink = columns, sink
        self._slots: list[int] = []
        self._factors: list[float] = []
        self._counts: list[int] = []
        self._size = 0
        self.live: Tensor | None = None  # [ranks], or [rows, ranks] with several columns

    def reserve(self, slot: int, factor: float, count: int) -> slice:
        """A part of `count` ranks, each with the strength of `slot` times `factor` (alpha/rank)."""
        self._slots.append(slot)
        self._factors.append(factor)
        self._counts.append(count)
        self._size += count
        return slice(self._size - count, self._size)

    def build(self, device: "torch.device", dtype: "torch.dtype") -> None:
        """Make the flat tensor; nothing can be reserved after it."""
        counts = torch.tensor(self._counts, dtype=torch.long)
        self._index = torch.tensor(self._slots, dtype=torch.long).repeat_interleave(counts).to(device)
        self._scale = torch.tensor(self._factors, dtype=torch.float32).repeat_interleave(counts).to(device)
        self._flat = torch.zeros(self._columns, self._size, device=device, dtype=dtype)
        self.live = self._flat[0] if self._columns == 1 else None

    def write(self, values: "Tensor") -> None:
        """`values` [columns, slots], float32: the strengths from now on."""
        self._flat.copy_(values.to(self._index.device).index_select(1, self._index) * self._scale)
        if self._sink and self.live is not None:
            self._sink(self.live)

    def select(self, columns: Sequence[int]) -> None:
        """The column of each row of the next call."""
        if self._columns > 1:
            self.live = self._flat[list(columns)]
            if self._sink:
                self._sink(self.live)

    def part(self, where: slice, x: "Tensor", layer: "Module") -> "Tensor":
        """[ranks of the part], or [rows, ranks of the part] for a call of `layer` whose rows differ."""
        live = self.live
        if live is None:
            raise EngineError(
                f"{_name(layer)} was called on its own while pictures with different networks are attached; call the whole model"
            )
        if live.ndim == 1:
            return live[where]
        shared = len(x) == 1 and isinstance(layer, torch.nn.Embedding)  # positions are looked up once: each row gets its own sum
        if len(live) != len(x) and not shared:
            raise EngineError(
                f"{_name(layer)} got {len(x)} rows, the pictures of this call have {len(live)}; give each picture its own row"
            )
        return live[:, where]

    @property
    def nbytes(self) -> int:
        return 0 if self._size == 0 else self._flat.nbytes + self._index.nbytes + self._scale.nbytes


def _name(layer: "Module") -> str:
    return f"{type(layer).__name__} {list(weight_of(layer).shape)}"
