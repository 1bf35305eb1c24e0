"""What we write into a file's metadata besides what its maker said: the names of the base, the type, and what the dialect needs."""

import json
from collections import Counter
from collections.abc import Mapping

import msgspec

from loraloom.adapters import Adapter
from loraloom.bases import Base, Target
from loraloom.bases.detect import detect

PEFT_CONFIG = "lora_adapter_metadata"
_STALE = (PEFT_CONFIG, "sshs_legacy_hash", "sshs_model_hash")  # true of the file that was read, not of the one that is written
_RANKS = ("ss_network_dim", "ss_network_alpha")
_SIZES = ("conv_dim", "conv_alpha", "factor", "rs_lora")  # of `ss_network_args`
_ALGOS = {"oft": "diag-oft", "oft-diag": "diag-oft", "oft-onetrainer": "diag-oft"}  # where LyCORIS' word is not ours


def stamped(metadata: Mapping[str, str], adapters: Mapping[Target, Adapter], base: Base, extra: Mapping[str, str]) -> dict[str, str]:
    """`metadata` with the base's names, which other tools match by prefix, the type's, and `extra`. Names that say the same family
    more exactly stay: `sd_v2_v` is an SD 2.x that predicts velocity."""
    names = {"ss_base_model_version": base.version, "modelspec.architecture": f"{base.architecture}/lora"}
    own = {key: metadata[key] for key in names if detect({}, {key: metadata.get(key, "")}).title == base.title}
    return {
        **{key: value for key, value in metadata.items() if key not in _STALE},
        **names,
        **own,
        **_network(metadata, adapters),
        "modelspec.sai_model_spec": "1.0.1",
        "modelspec.implementation": "diffusers",
        **extra,
    }


def resized(metadata: Mapping[str, str], adapters: Mapping[Target, Adapter]) -> dict[str, str]:
    """`metadata` without what says the ranks, alphas and factors of the network that it came with; what `adapters` have instead is added
    when they are written, or is "Dynamic", kohya's word for it, where ranks differ."""
    ranks = {scaling[0] for adapter in adapters.values() if (scaling := adapter.scaling()) is not None}
    dynamic = len(ranks) > 1
    kept = {key: value for key, value in metadata.items() if key not in _RANKS} | (dict.fromkeys(_RANKS, "Dynamic") if dynamic else {})
    if arguments := _arguments(metadata):
        kept["ss_network_args"] = json.dumps({key: value for key, value in arguments.items() if key not in _SIZES})
    return kept


def _network(metadata: Mapping[str, str], adapters: Mapping[Target, Adapter]) -> dict[str, str]:
    """The module that would have trained such a network, as kohya's trainer names it, and LyCORIS' arguments."""
    names = Counter(adapter.name for adapter in adapters.values())
    if not names:
        return {}
    ((most, _),) = Counter({name: count for name, count in names.items() if name != "norm"} or names).most_common(1)
    inner, *wrappers = most.split("+")
    arguments = _arguments(metadata)
    if set(names) == {"lora"} and arguments.get("algo", "lora") in ("lora", "locon"):
        found = {"ss_network_module": metadata.get("ss_network_module", "networks.lora")}
    else:
        dora = {"dora_wd": "True"} if "dora" in wrappers else {}
        norm = {"train_norm": "True"} if "norm" in names else {}
        kept = {key: value for key, value in arguments.items() if key not in ("dora_wd", "train_norm")}
        args = {**kept, "algo": _ALGOS.get(inner, inner), **dora, **norm}
        found = {"ss_network_module": "lycoris.kohya", "ss_network_args": json.dumps(args)}
    scaled = [scaling for adapter in adapters.values() if (scaling := adapter.scaling()) is not None]
    if scaled:
        (((rank, multiplier), _),) = Counter(scaled).most_common(1)
        sizes = {"ss_network_dim": str(rank), "ss_network_alpha": f"{rank * multiplier:.6g}"}
        found |= {key: metadata.get(key, value) for key, value in sizes.items()}
    return found


def _arguments(metadata: Mapping[str, str]) -> dict[str, str]:
    """`ss_network_args`, or nothing where it is not what trainers write."""
    try:
        return msgspec.json.decode(metadata.get("ss_network_args", "{}"), type=dict[str, str])
    except (msgspec.MsgspecError, RecursionError, UnicodeError):
        return {}
