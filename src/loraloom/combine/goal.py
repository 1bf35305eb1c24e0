"""How large the result of a combination may be: exact, one rank for all modules, or a rank for each from a bound on its error."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from loraloom.adapters import MAX_RANK
from loraloom.errors import SettingsError

if TYPE_CHECKING:
    from loraloom.combine.spectrum import Spectrum


@dataclass(frozen=True)
class Goal:
    """Exact if nothing is given: ranks add up."""

    rank: int | None = None  # of every module, at most
    error: float | None = None  # of every module's change, relative, at most
    energy: float | None = None  # the share of the squared singular values that stays, at least; another way to say the error
    max_rank: int | None = None  # whatever the error is then

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
        if self.max_rank is not None and self.exact:
            raise SettingsError("max_rank goes with an error or an energy; alone, give the rank")

    @property
    def exact(self) -> bool:
        return self.rank is None and self.error is None and self.energy is None

    def rank_of(self, spectrum: "Spectrum") -> int:
        """The rank that a change of these singular values gets."""
        if self.rank is not None:
            return min(self.rank, spectrum.rank)
        error = self.error if self.error is not None else (1 - (self.energy or 1.0)) ** 0.5
        return min(spectrum.rank_for(error), self.max_rank or MAX_RANK)
