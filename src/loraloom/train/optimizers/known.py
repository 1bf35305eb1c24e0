"""Optimisers by name: whose code it is, and what it needs to be given. No torch."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Known:
    """An optimiser of a kept library."""

    where: str  # module.Class
    options: Mapping[str, Any] = field(default_factory=dict)  # what it takes where nothing is said
    rate: float | None = None  # a learning rate of its own, whatever the base
    rate_part: float = 1.0  # of the base's usual learning rate
    courseless: bool = False  # averages instead of lowering the learning rate: takes no scheduler


KNOWN: Mapping[str, Known] = {
    # Loshchilov & Hutter 2017, arXiv:1711.05101
    # fused: one pass over each tensor instead of a dozen, which for hundreds of small ones is a hundredth of an SD 1.5 step on a CPU
    "adamw": Known("torch.optim.AdamW", {"fused": True}),
    # Dettmers et al. 2021, arXiv:2110.02861: the same with an eighth of a float for each moment
    "adamw8bit": Known("bitsandbytes.optim.AdamW8bit"),
    # Shazeer & Stern 2018, arXiv:1804.04235; without its own learning rate, whose scale would be that of adapters that begin at 0
    "adafactor": Known("transformers.optimization.Adafactor", {"scale_parameter": False, "relative_step": False, "warmup_init": False}),
    "sgd": Known("torch.optim.SGD", {"momentum": 0.9}),
    # Chen et al. 2023, arXiv:2302.06675, §5: a learning rate 3 to 10 times smaller than AdamW's
    "lion": Known("lion_pytorch.Lion", rate_part=0.2),
    # Mishchenko & Defazio 2023, arXiv:2306.06101: finds the learning rate; the options are those its authors advise for diffusion models
    "prodigy": Known("prodigyopt.Prodigy", {"use_bias_correction": True, "safeguard_warmup": True}, rate=1.0),
    # Defazio et al. 2024, arXiv:2405.15682; authors' advice: a learning rate 1 to 10 times that of AdamW with a schedule
    "adamw_schedulefree": Known("schedulefree.AdamWScheduleFree", courseless=True),
}

PLAIN = Known("")  # what holds for an optimiser that is given as module.Class


def known(name: str) -> Known:
    """What is known of an optimiser; nothing of one that is given as `module.Class`."""
    return KNOWN.get(name, PLAIN)


def called(name: object) -> object:
    """The name here of an optimiser that others write as `AdamW8bit` or `AdamWScheduleFree`; any other stays as it is."""
    return _PLAINLY.get(_plainly(name), name) if isinstance(name, str) else name


def _plainly(name: str) -> str:
    return name.lower().replace("_", "").replace("-", "")


_PLAINLY = {_plainly(name): name for name in KNOWN}
