"""What the engine did with a mix: returned by `attached`, shown before the first step."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Mode = Literal["merge", "branch"]


@dataclass(frozen=True)
class NetworkReport:
    """One network of a mix."""

    name: str
    applied: Mapping[str, int]  # modules by component
    present: Mapping[str, int]  # modules that the file has, by component
    unused: tuple[str, ...]  # "key or target: reason"
    off: bool = False  # strength 0 everywhere: checked, not loaded

    @property
    def summary(self) -> str:
        """`unet 54/54, text_encoder 12/12`, or `off`."""
        return "off" if self.off else ", ".join(f"{name} {self.applied.get(name, 0)}/{count}" for name, count in self.present.items())


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
            lines += [f"    unused {reason}" for reason in network.unused]
        return "\n".join(lines)


def count_components(components: "list[str]") -> Mapping[str, int]:
    return dict(Counter(components))
