"""What the engine did with a mix: returned by `attached`, shown before the first step."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from loraloom.bases import Target

Mode = Literal["merge", "branch", "mixed"]


@dataclass(frozen=True)
class NetworkReport:
    """One network of a mix. Modules are counted by component."""

    name: str
    applied: Mapping[str, int]  # live now
    silent: Mapping[str, int]  # fit, but their strength is 0
    present: Mapping[str, int]  # in the file
    unused: tuple[str, ...]  # "key or target: reason"
    warnings: tuple[str, ...] = ()

    @property
    def off(self) -> bool:
        """Strength 0 everywhere: resolved and checked, not loaded."""
        return not self.applied

    @property
    def summary(self) -> str:
        """`unet 54/54, text_encoder 0/12 (strength 0)`, or `off`."""
        if self.off:
            return "off"
        silent = dict.fromkeys(self.silent, " (strength 0)")
        return ", ".join(f"{name} {self.applied.get(name, 0)}/{count}{silent.get(name, '')}" for name, count in self.present.items())


@dataclass(frozen=True)
class Report:
    """Coverage and cost of one attach."""

    networks: tuple[NetworkReport, ...]
    mode: Mode
    reason: str  # why this mode
    modules: int  # of the base, touched by at least one network
    nbytes: int  # tensors held for the time of the attach
    seconds: float

    def __str__(self) -> str:
        lines = [f"{self.mode} ({self.reason}): {self.modules} modules, {self.nbytes / 2**20:.1f} MiB, {self.seconds * 1000:.0f} ms"]
        for network in self.networks:
            lines.append(f"  {network.name}: {network.summary}")
            lines += [f"    warning: {sentence}" for sentence in network.warnings]
            lines += [f"    unused {reason}" for reason in network.unused]
        return "\n".join(lines)


def count_components(targets: Iterable[Target]) -> Mapping[str, int]:
    return dict(Counter(target.component for target in targets))
