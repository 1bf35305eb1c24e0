"""Which modules are trained, and how. Without rules kohya's choice (formats.md §6), with rules (`config.rule`) theirs."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from loraloom.adapters import Adapter, DoRA, Norm
from loraloom.adapters.scaled import Scaled
from loraloom.bases import Base, Layer
from loraloom.errors import SettingsError
from loraloom.train.config import ResolvedConfig
from loraloom.train.config.recipe import Recipe, Value, options_of, trained_type
from loraloom.train.config.rule import Rule

_LOCON = (".resnets.", ".downsamplers.", ".upsamplers.")  # ResnetBlock2D, Downsample2D, Upsample2D
_TRAINED = ("linear", "conv")


@dataclass(frozen=True)
class Planned:
    """What one layer's adapter will be."""

    layer: Layer
    kind: type[Adapter]
    rank: int
    alpha: float  # as the file will say it
    rate: float  # of the learning rate
    options: Mapping[str, Value]  # of the type


def plan(config: ResolvedConfig, base: Base) -> tuple[Planned, ...]:
    """Every layer that is trained. Raises SettingsError for a target that fits nothing, and for types without what the job asks of them."""
    chosen = _by_rules(config, base) if config.targets else _usual(config, base)
    if not chosen:
        raise SettingsError(f"components {', '.join(config.components)} of {base.title} have no modules that this job trains")
    planned = tuple(_planned(config, layer, recipe) for layer, recipe in chosen)
    _refuse_without_effect(config, planned)
    return planned


def _usual(config: ResolvedConfig, base: Base) -> list[tuple[Layer, Recipe]]:
    return [(layer, config.recipe) for layer in _layers(config, base) if _is_usual(config, layer, config.recipe)]


def _by_rules(config: ResolvedConfig, base: Base) -> list[tuple[Layer, Recipe]]:
    """The last rule that fits a layer decides; where all of them leave modules alone, it is the usual choice without those."""
    rules = [(rule, config.completed(rule.recipe) if rule.recipe else None) for rule in config.rules]
    only_less = all(recipe is None for _, recipe in rules)
    fitting: set[str] = set()
    chosen = []
    for layer in _layers(config, base):
        found = config.recipe if only_less and _is_usual(config, layer, config.recipe) else None
        for rule, recipe in rules:
            if _takes(recipe, layer) and rule.fits(layer, usual=_is_usual(config, layer, recipe or config.recipe)):
                fitting.add(rule.text)
                found = recipe
        if found is not None:
            chosen.append((layer, found))
    for rule, recipe in rules:
        if rule.text not in fitting:
            raise SettingsError(_fits_nothing(rule, recipe, config, base))
    return chosen


def _fits_nothing(rule: Rule, recipe: Recipe | None, config: ResolvedConfig, base: Base) -> str:
    said = f"target {rule.text!r} fits no module of {', '.join(config.components)} that it could train"
    unread = [layer for layer in base.layers if layer.unread and layer.target.component in config.components]
    if meant := [layer for layer in unread if rule.fits(layer, usual=layer.attention)]:
        return f"{said}: what {meant[0].target} gives is not read by {base.title}, so it would learn nothing"
    elsewhere = {
        layer.target.component
        for layer in base.layers
        if layer.target.component not in config.components and _takes(recipe, layer) and rule.fits(layer, usual=layer.attention)
    }
    if elsewhere:
        return f"{said}; it fits modules of {' and '.join(sorted(elsewhere))}: add --component {' --component '.join(sorted(elsewhere))}"
    if meant := [layer for layer in _layers(config, base) if rule.fits(layer, usual=layer.attention)]:
        return f"{said}: {_why_not_taken(rule, meant[0])}"
    return said + rule.nearest(base.layers)


def _why_not_taken(rule: Rule, layer: Layer) -> str:
    """Of a layer that the pattern means and the rule's type does not train."""
    if layer.kind == "embedding":
        return f"{layer.target} is an embedding, and no type trains those"
    if layer.kind == "norm":
        return f"{layer.target} is a norm, which only the type norm trains; write {rule.text.partition('=')[0]}=norm"
    return f"{layer.target} is no norm, and the type norm trains nothing else"


def _layers(config: ResolvedConfig, base: Base) -> Sequence[Layer]:
    return [layer for layer in base.layers if layer.target.component in config.components and not layer.unread]


def _takes(recipe: Recipe | None, layer: Layer) -> bool:
    """Whether a rule with this recipe means layers of this kind: norms are trained only as norms, embeddings not at all."""
    if recipe is None or recipe.kind is None:
        return layer.kind != "embedding"
    return layer.kind in (("norm",) if recipe.kind.name == "norm" else _TRAINED)


def _is_usual(config: ResolvedConfig, layer: Layer, recipe: Recipe) -> bool:
    if not _takes(recipe, layer):
        return False
    if layer.kind == "norm":
        return True
    return layer.attention or (config.conv_rank > 0 and any(part in f".{layer.target.module}." for part in _LOCON))


def _planned(config: ResolvedConfig, layer: Layer, recipe: Recipe) -> Planned:
    """Kernels larger than 1×1 take the convolutions' rank where there is one. alpha keeps the job's ratio to a rank of a rule's own."""
    kind = trained_type(recipe)
    wide = math.prod(layer.shape[2:]) > 1
    rank, alpha = (config.conv_rank, config.conv_alpha) if wide and config.conv_rank else (config.rank, config.alpha)
    if recipe.rank is not None:
        rank, alpha = recipe.rank, recipe.rank * alpha / rank
    if recipe.alpha is not None:
        alpha = recipe.alpha
    options = dict(recipe.options)
    if wide and config.tucker:
        options["tucker"] = True
    if "tucker" in options and "tucker" not in options_of(kind.inner_type if issubclass(kind, DoRA) else kind):
        raise SettingsError(f"tucker: {kind.name} has no Tucker core; leave it out")
    return Planned(layer, kind, rank, alpha * math.sqrt(rank) if config.rslora else alpha, recipe.lr_factor or 1.0, options)


def _refuse_without_effect(config: ResolvedConfig, planned: Sequence[Planned]) -> None:
    """Options that some of the types have no place for: better said now than looked for later."""
    kinds = {item.kind.inner_type if issubclass(item.kind, DoRA) else item.kind for item in planned}
    inner = kinds - {Norm} or kinds  # norms beside another type take no part in any of this
    asked = {
        "rslora": (config.rslora, {kind for kind in inner if not issubclass(kind, Scaled)}, "has no alpha/rank"),
        "rank_dropout": (config.rank_dropout, {kind for kind in inner if not issubclass(kind, Scaled)}, "has no ranks"),
        "dropout": (config.dropout, {kind for kind in inner if kind.reads_weight or kind is Norm}, "changes what the layer gives"),
        "max_norm": (config.max_norm, {kind for kind in inner if "oft" in kind.name}, "turns weights; use its option constraint"),
        "lora_plus": (config.lora_plus != 1, inner if not any(kind.late for kind in inner) else set(), "has no tensor that begins at 0"),
    }
    for option, (given, without, reason) in asked.items():
        if given and without:
            names = " and ".join(sorted(kind.name for kind in without))
            raise SettingsError(f"{option}: {names} {reason}; leave {option} out, or train those modules as another type")
