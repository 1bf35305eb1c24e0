"""What the result of a combination may be: exact, of one rank, or of the ranks that a bound on its error takes; and its type."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from loraloom.adapters import MAX_RANK
from loraloom.errors import SettingsError

if TYPE_CHECKING:
    from loraloom.combine.spectrum import Spectrum

NEAR = 1e-5  # of the change: how far from the best matrix of a rank a result may be


@dataclass(frozen=True)
class Goal:
    """Exact if nothing is given: ranks add up."""

    rank: int | None = None  # of every module, at most
    error: float | None = None  # of every module's change, relative, at most
    energy: float | None = None  # the share of the squared singular values that stays, at least; another way to say the error
    max_rank: int | None = None  # whatever the error is then
    type: str | None = None  # of every adapter, a key of `forms.TYPES`; None: lora, or full where an exact lora would be no thinner
    factor: int | None = None  # of a lokr: how large w1 may be, as LyCORIS counts (-1: near the square root); None: whichever is best

    def __post_init__(self) -> None:
        given = [name for name in ("rank", "error", "energy") if getattr(self, name) is not None]
        if len(given) > 1:
            raise SettingsError(f"{' and '.join(given)} are two ways to say how large the result may be; give one")
        for name in ("rank", "max_rank"):
            value = getattr(self, name)
            if value is not None and not 1 <= value <= MAX_RANK:
                raise SettingsError(f"{name} {value}: a rank is 1 to {MAX_RANK:,}")
        if self.error is not None and not 0 <= self.error < 1:
            raise SettingsError(f"error {self.error}: a part of the change, 0 or more and less than 1")
        if self.energy is not None and not 0 < self.energy <= 1:
            raise SettingsError(f"energy {self.energy}: a share, more than 0 and at most 1")
        if self.max_rank is not None and self.most is None:
            raise SettingsError("max_rank goes with an error or an energy; alone, give the rank")
        if self.factor is not None and (self.exact or self.type != "lokr"):
            raise SettingsError("factor goes with the type lokr and a rank, an error or an energy; an exact lokr has w1 = 1")
        if self.factor is not None and self.factor != -1 and self.factor < 1:
            raise SettingsError(f"factor {self.factor}: how large w1 may be, 1 or more, or -1 for near the square root")

    @property
    def exact(self) -> bool:
        return self.rank is None and self.error is None and self.energy is None

    @property
    def most(self) -> float | None:
        """The part of a change that may be left out; None where a rank is given instead, or nothing."""
        return (1 - self.energy) ** 0.5 if self.energy is not None else self.error

    @property
    def words(self) -> str:
        """How the result was made: "exact", "rank 4", "error at most 0.05 in every module"."""
        if self.exact:
            return "exact"
        if self.rank is not None:
            return f"rank {self.rank}"
        bound = f"error at most {self.error:g}" if self.error is not None else f"energy {self.energy:g}"
        return f"{bound} in every module" + (f", rank at most {self.max_rank}" if self.max_rank else "")

    def rank_of(self, spectrum: "Spectrum") -> int:
        """The rank that a change of these singular values gets."""
        if self.most is None:
            return min(self.rank or MAX_RANK, spectrum.rank)
        return min(spectrum.rank_for(self.most), self.max_rank or MAX_RANK)

    def holds(self, spectrum: "Spectrum") -> bool:
        """Whether this much of a spectrum proves what the goal promises of its `rank_of`: the result is as near as any matrix of that
        rank, and with an error it is within that and no smaller rank would be."""
        rank = self.rank_of(spectrum)
        if spectrum.error_of(rank) - spectrum.least_error(rank) > NEAR:
            return False
        if self.most is None:
            return True
        needed = rank == 0 or spectrum.least_error(rank - 1) > self.most
        return needed and (spectrum.error_of(rank) <= self.most or rank == self.max_rank)


EXACT = Goal()
