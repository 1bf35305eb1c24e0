"""Which tensors learn at which rate, and which of them decay.

LoRA+: the tensors that begin at 0 learn `lora_plus` times as fast.  Hayou et al. 2024, arXiv:2402.12354.
"""

from typing import TYPE_CHECKING, Any

from loraloom.train.config import ResolvedConfig

if TYPE_CHECKING:
    from loraloom.train.trainable import Trainable


def parameter_groups(network: "Trainable", config: ResolvedConfig) -> list[dict[str, Any]]:
    """A group for each peak learning rate of each component. Tensors that rest at another value than 0 have no weight decay."""
    groups: dict[tuple[str, float, bool], dict[str, Any]] = {}
    for target, field, parameter in network.slots():
        adapter = network.adapters[target]
        peak = config.learning_rate_of(target.component) * network.rates.get(target, 1.0)
        if field in adapter.late:
            peak *= config.lora_plus
        decays = field not in adapter.undecayed
        kept = {"peak": peak, "params": []} | ({} if decays else {"weight_decay": 0.0})
        groups.setdefault((target.component, peak, decays), kept)["params"].append(parameter)
    order = {component: place for place, component in enumerate(config.components)}
    return [groups[key] for key in sorted(groups, key=lambda key: order[key[0]])]
