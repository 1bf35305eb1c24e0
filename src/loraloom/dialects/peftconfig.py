"""PEFT's config: alpha and rank by module, which PEFT keeps out of the tensors. Reading it, and writing the one that fits a network.

diffusers stores it as JSON under `lora_adapter_metadata`, keys prefixed by the component; in PEFT's own folders it is
`adapter_config.json`, without prefixes. A file without one means alpha = r (diffusers, `lora_base.py`).
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from typing import Any

import msgspec

from loraloom.dialects import peftoptions
from loraloom.dialects.held import Held
from loraloom.dialects.metadata import PEFT_CONFIG
from loraloom.errors import LimitExceeded, UnknownFormat

MAX_PATTERNS = 2000  # the largest UNet has 794 modules
RANKED = ("lora_down.weight", "hada_w1_b", "lokr_w2_b", "lokr_w1_b")  # tensors of which the first length is the rank
_OWN = {"peft_type", "r", "rank_pattern", "alpha_pattern", "use_rslora", "lora_alpha", "alpha"}


class Config(msgspec.Struct):
    """What the scales of a component's adapters depend on."""

    r: int | None = None
    rank_pattern: dict[str, int] | None = None
    lora_alpha: float | None = None
    alpha: float | None = None  # what the configs of LoHa and LoKr call it
    alpha_pattern: dict[str, float] | None = None
    use_rslora: bool = False
    use_cayley_neumann: bool = True
    num_cayley_neumann_terms: int = 5
    init_r: int = 12  # AdaLoRA's: the rank that its scale was divided by, whatever is left of it
    told: bool = False  # whether there is a config at all

    @property
    def is_usual_oft(self) -> bool:
        return self.use_cayley_neumann and self.num_cayley_neumann_terms == 5

    def alpha_of(self, module: str, rank: int) -> float:
        """alpha as a kohya file would store it: rsLoRA's alpha/√r becomes alpha·√r over r."""
        given = self.lora_alpha if self.lora_alpha is not None else self.alpha
        alpha = _by_pattern(self.alpha_pattern, module, rank if given is None else given)
        return alpha * (rank**0.5 if self.use_rslora else 1.0)

    @property
    def adaptive_scale(self) -> float:
        """AdaLoRA's: PEFT divides by the rank of the beginning and 1e-5 more."""
        alpha = self.lora_alpha if self.lora_alpha else float(self.init_r)
        return alpha / (self.init_r + 1e-5)

    def rank_of(self, module: str) -> int | None:
        """For modules of which no tensor tells it."""
        return None if self.r is None else int(_by_pattern(self.rank_pattern, module, self.r))


def _by_pattern(patterns: Mapping[str, float] | None, module: str, otherwise: float) -> float:
    """PEFT takes the first pattern that means the module: its end, or with `^` all of it (peft.utils.get_pattern_key)."""
    if not patterns:
        return otherwise
    parts = module.split(".")
    ends = [".".join(parts[start:]) for start in range(len(parts))] + [f"^{module}", f"^{module.removeprefix('text_model.')}"]
    return next((value for name, value in patterns.items() if name in ends), otherwise)


def of(metadata: Mapping[str, str], component: str) -> Config:
    """The config of a component; raises UnknownFormat or LimitExceeded for one that PEFT does not write."""
    return _config(metadata.get(PEFT_CONFIG, "{}"), component)


def refusal(metadata: Mapping[str, str], component: str) -> str:
    """Why what PEFT wrote for a component is not read, or nothing. Raises as `of`."""
    return _refusal(metadata.get(PEFT_CONFIG, "{}"), component)


def beginning(metadata: Mapping[str, str], component: str) -> str:
    """The key in `adapters.BEGINNINGS` of a component's adapters, or nothing. Raises as `of`."""
    return peftoptions.beginning(_options(metadata.get(PEFT_CONFIG, "{}"), component))


def doubts(metadata: Mapping[str, str], components: Iterable[str]) -> Iterator[str]:
    """What of the config is not known here, in sentences. Raises as `of`."""
    found = (_options(metadata.get(PEFT_CONFIG, "{}"), component) for component in components)
    yield from dict.fromkeys(sentence for options in found for sentence in peftoptions.unknown(options))


@lru_cache(maxsize=8)  # asked for once for every target of a file
def _config(text: str, component: str) -> Config:
    options = dict(_options(text, component))
    if options.get("peft_type") == "ADALORA":  # says which ranks were left: the tensors have only those
        options.pop("rank_pattern", None)
    try:
        own = msgspec.convert({**options, "told": bool(options)}, Config)
    except msgspec.MsgspecError as error:
        raise UnknownFormat(f"{PEFT_CONFIG} is not what PEFT writes ({error})") from error
    return msgspec.structs.replace(own, alpha_pattern=_plain(own.alpha_pattern or {}), rank_pattern=_plain(own.rank_pattern or {}))


@lru_cache(maxsize=8)
def _refusal(text: str, component: str) -> str:
    return peftoptions.refusal(_options(text, component))


@lru_cache(maxsize=8)
def _options(text: str, component: str) -> Mapping[str, Any]:
    """Of one component: in diffusers' metadata its name stands before each."""
    try:
        config = msgspec.json.decode(text, type=dict[str, Any])
    except (msgspec.MsgspecError, RecursionError, UnicodeError) as error:
        raise UnknownFormat(f"{PEFT_CONFIG} is not what PEFT writes ({error})") from error
    prefix = "" if _OWN & config.keys() else f"{component}."
    return {key.removeprefix(prefix): value for key, value in config.items() if key.startswith(prefix)}


def _plain(patterns: Mapping[str, Any]) -> dict[str, Any]:
    """Patterns as names. PEFT takes any regular expression, but one from a stranger can run for hours: names only."""
    if len(patterns) > MAX_PATTERNS:
        raise LimitExceeded(f"{PEFT_CONFIG}: {len(patterns):,} patterns, the limit is {MAX_PATTERNS:,}")
    named = {pattern.removesuffix("$").replace("\\.", "."): value for pattern, value in patterns.items()}
    for name in named:
        if not name.removeprefix("^").replace(".", "").replace("_", "").isalnum():
            raise UnknownFormat(f"the pattern {name[:80]!r} is a regular expression; only names of modules are read, write them out")
    return named


def describe(held: Mapping[str, Held]) -> dict[str, Any]:
    """The config of one component's adapters, by the module's name as PEFT will look for it. All are of one type."""
    first = next(iter(held.values()))
    ranks = {module: adapter.rank for module, adapter in held.items()}
    alphas = {module: adapter.alpha for module, adapter in held.items()}
    ((rank, _),) = Counter(ranks.values()).most_common(1)
    ((alpha, _),) = Counter(alphas.values()).most_common(1)
    shared = {
        "peft_type": first.kind,
        "r": rank,
        "rank_pattern": {module: value for module, value in ranks.items() if value != rank},
        "alpha_pattern": {module: value for module, value in alphas.items() if value != alpha},
        "target_modules": sorted(held),
    }
    if first.kind != "LORA":
        return {**shared, "alpha": alpha, **first.options}
    dora, bias = any(adapter.dora for adapter in held.values()), any(adapter.bias for adapter in held.values())
    return {**shared, "lora_alpha": alpha, "use_rslora": False, "use_dora": dora, "lora_bias": bias}
