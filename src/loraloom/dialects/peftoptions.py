"""What PEFT's config says of an adapter besides its size: read, without effect on it once it is trained, or refused by name.

PEFT 0.21. A method or an option that is in none of these tables is not guessed at: a method is refused, an option that is set is
reported. `tests/dialects/test_peft_methods.py` compares the tables with the PEFT that is installed.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from loraloom.adapters import BEGINNINGS

METHODS = ("LORA", "ADALORA", "LOHA", "LOKR", "OFT", "IA3")  # peft_type of what is read
_PROMPTS = "adds vectors to a language model's prompt and changes no weight of it"
_SHARED = "multiplies matrices that all modules share, or that are drawn at random and not in the file"
_PLACES = "changes single values or frequencies of each weight"
_TURNS = "turns weights in a way that is computed nowhere here"
_OWN = "computes its change with a formula of its own"
_WHOLE = "keeps new weights in place of the base's, and the file does not say what they replaced"
OTHER_METHODS: Mapping[str, str] = {
    "PROMPT_TUNING": _PROMPTS,
    "MULTITASK_PROMPT_TUNING": _PROMPTS,
    "P_TUNING": _PROMPTS,
    "PREFIX_TUNING": _PROMPTS,
    "CPT": _PROMPTS,
    "CARTRIDGE": _PROMPTS,
    "ADAPTION_PROMPT": _PROMPTS,
    "TRAINABLE_TOKENS": _WHOLE,
    "LN_TUNING": _WHOLE,
    "BEFT": _WHOLE,
    "OSF": _WHOLE,
    "VERA": _SHARED,
    "PVERA": _SHARED,
    "RANDLORA": _SHARED,
    "VBLORA": _SHARED,
    "UNILORA": _SHARED,
    "TINYLORA": _SHARED,
    "FROD": _SHARED,
    "LILY": _SHARED,
    "FOURIERFT": _PLACES,
    "WAVEFT": _PLACES,
    "SHIRA": _PLACES,
    "C3A": _PLACES,
    "BOFT": _TURNS,
    "HRA": _TURNS,
    "ROAD": _TURNS,
    "PSOFT": _TURNS,
    "POLY": "chooses among several adapters by the input",
    "XLORA": "chooses among several adapters by the input",
    "HIRA": _OWN,
    "GLORA": _OWN,
    "MISS": _OWN,
    "BONE": _OWN,
    "DELORA": _OWN,
    "GRALORA": _OWN,
    "ADAMSS": _OWN,
    "PEANUT": _OWN,
    "SHADOW": _OWN,
    "SUPERTUNING": _OWN,
    "DEFT": _OWN,
}

# `init_lora_weights` under which up·down is the whole change, whatever the factors began with.
_USUAL_BEGINNINGS = (True, False, None, "gaussian", "eva", "orthogonal", "mica")
_OTHER_BEGINNINGS: Mapping[str, str] = {
    "corda": "which depends on the pictures or texts that it was prepared with",
    "lora_ga": "which depends on the gradients that it was prepared with",
    "loftq": "which depends on how the base was quantised",
}
_NITER = "pissa_niter_"

# Options that change what is computed, with what they do; refused wherever they are set.
CHANGING: Mapping[str, str] = {
    "bias": "trained the base's own biases too, and the file has them in place of the base's",
    "modules_to_save": "trained whole modules too, and the file has them in place of the base's",
    "trainable_token_indices": "trained single rows of an embedding too, and the file has them in place of the base's",
    "layer_replication": "repeats layers of the base, which then is another model",
    "target_parameters": "adapts parameters that are no layer",
    "use_qalora": "pools the inputs of each module",
    "use_bdlora": "cuts the factors into blocks",
    "alora_invocation_tokens": "acts only after certain tokens",
    "arrow_config": "chooses among several adapters by the input",
    "monteclora_config": "draws its weights at random",
    "kasa_config": "took a part of the base's own weights away",
    "coft": "limits its rotations while it runs",
}
# Options that say where an adapter stands, how large it is, or how it was trained.
WITHOUT_EFFECT = frozenset(
    {
        *("task_type", "peft_type", "auto_mapping", "peft_version", "base_model_name_or_path", "revision", "inference_mode"),
        *("target_modules", "exclude_modules", "layers_to_transform", "layers_pattern", "feedforward_modules", "fan_in_fan_out"),
        *("r", "rank_pattern", "lora_alpha", "alpha", "alpha_pattern", "use_rslora", "use_dora", "lora_bias", "init_lora_weights"),
        *("lora_dropout", "rank_dropout", "module_dropout", "rank_dropout_scale", "init_weights", "init_ia3_weights"),
        *("loftq_config", "eva_config", "corda_config", "lora_ga_config", "velora_config", "qalora_group_size", "ensure_weight_tying"),
        *("megatron_config", "megatron_core", "runtime_config", "use_effective_conv2d", "decompose_both", "decompose_factor"),
        *("oft_block_size", "eps", "block_share", "use_cayley_neumann", "num_cayley_neumann_terms"),
        *("target_r", "init_r", "tinit", "tfinal", "deltaT", "beta1", "beta2", "orth_reg_weight", "total_step"),
    }
)
_NOTHING: tuple[Any, ...] = (None, False, "", "none", [], {})


def refusal(options: Mapping[str, Any]) -> str:
    """Why adapters with this config of one component are not read, with what to do instead; empty if they are."""
    method = str(options.get("peft_type") or METHODS[0])[:60]
    if method not in METHODS:
        why = OTHER_METHODS.get(method, "is not known here")
        return f"PEFT's {method} is not read: it {why}; {_merged(whole=why is not _PROMPTS)}"
    for name, what in CHANGING.items():
        if options.get(name) not in _NOTHING:
            return f"PEFT's {name} = {repr(options.get(name))[:60]} {what}; {_merged()}"
    return _beginning_refused(options.get("init_lora_weights"))


def beginning(options: Mapping[str, Any]) -> str:
    """The key in `BEGINNINGS` of an adapter that began inside of the base's weights, or nothing."""
    told = _lower(options.get("init_lora_weights"))
    return told if isinstance(told, str) and told in BEGINNINGS and options.get("peft_type") != "ADALORA" else ""


def unknown(options: Mapping[str, Any]) -> Iterator[str]:
    """Options that are set and in no table, in sentences."""
    for name, value in options.items():
        if name not in WITHOUT_EFFECT and name not in CHANGING and value not in _NOTHING:
            yield f"its PEFT config has {name[:60]} = {repr(value)[:60]}, which is not known here; it is read as if it were not there"


def _beginning_refused(told: Any) -> str:
    value = _lower(told)
    if value in _USUAL_BEGINNINGS or str(value) in BEGINNINGS:
        return ""
    name = repr(told)[:60]
    if isinstance(value, str) and value.startswith(_NITER):
        why = "whose random numbers are not in the file"
    else:
        why = _OTHER_BEGINNINGS.get(str(value), "which is not known here")
    return (
        f"PEFT's init_lora_weights = {name} took the adapter's beginning out of the base's own weights, {why}; have its trainer save it "
        "with save_pretrained(..., path_initial_model_for_weight_conversion=FOLDER_OF_THE_BEGINNING), which makes a plain LoRA of it"
    )


def _lower(told: Any) -> Any:
    return told.lower() if isinstance(told, str) else told


def _merged(*, whole: bool = True) -> str:
    """What to do instead."""
    if not whole:
        return "there is nothing to do with it for pictures"
    return "merge it with PEFT's merge_and_unload(), save that model, and extract the difference between it and its base"
