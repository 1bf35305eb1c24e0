"""How a file was made, from the metadata that trainers write: formats.md §5. Texts stay as they are, on one line and not too long."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec

from loraloom.catalogue.inspecting.inspection import Training
from loraloom.catalogue.triggers import pictures

_LONGEST = 300
# The first of these that says anything.
_KEYS: Mapping[str, tuple[str, ...]] = {
    "base_model": ("ss_sd_model_name", "modelspec.base_model", "ss_base_model"),
    "title": ("modelspec.title", "ss_output_name", "name"),
    "author": ("modelspec.author", "author"),
    "license": ("modelspec.license", "license"),
    "description": ("modelspec.description",),
    "merged_from": ("modelspec.merged_from",),
    "rank": ("ss_network_dim",),
    "alpha": ("ss_network_alpha",),
    "steps": ("ss_steps", "ss_max_train_steps"),
    "epochs": ("ss_epoch", "ss_num_epochs"),
    "resolution": ("modelspec.resolution", "ss_resolution"),
    "batch": ("ss_batch_size_per_device", "ss_total_batch_size"),
    "learning_rate": ("ss_learning_rate",),
    "unet_lr": ("ss_unet_lr",),
    "text_encoder_lr": ("ss_text_encoder_lr",),
    "optimizer": ("ss_optimizer",),
    "scheduler": ("ss_lr_scheduler",),
}
# A key, or the beginning of one, that only one program writes.
_TRAINERS = (
    ("loraloom.train", "loraloom"),
    ("ot_", "OneTrainer"),
    ("ss_sd_scripts_commit_hash", "kohya sd-scripts"),
    ("ss_musubi", "musubi-tuner"),
    ("ss_network_module", "kohya sd-scripts"),
    ("lora_adapter_metadata", "diffusers/PEFT"),
)


def training(metadata: Mapping[str, str]) -> Training:
    """What the metadata says; nothing of it is checked."""
    told = {name: next((value for key in keys if (value := _line(metadata.get(key)))), "") for name, keys in _KEYS.items()}
    info = _object(metadata.get("training_info", ""))  # ai-toolkit
    told["steps"] = told["steps"] or _line(info.get("step"))
    told["epochs"] = told["epochs"] or _line(info.get("epoch"))
    count = pictures(metadata)
    return Training(
        **told,
        trainer=_trainer(metadata),
        pictures=str(count) if count else _line(metadata.get("ss_num_train_images")),
        finished=_date(metadata),
    )


def arguments(metadata: Mapping[str, str]) -> Mapping[str, str]:
    """`ss_network_args`, each value as text."""
    return {key: _line(value) for key, value in _object(metadata.get("ss_network_args", "")).items()}


def _trainer(metadata: Mapping[str, str]) -> str:
    software = _object(metadata.get("software", ""))
    if name := _line(software.get("name")):  # ai-toolkit writes JSON here
        return f"{name} {_line(software.get('version'))}".strip()
    found = next((name for start, name in _TRAINERS if any(key.startswith(start) for key in metadata)), "")
    lycoris = metadata.get("ss_network_module", "").startswith("lycoris")
    return f"{found} with LyCORIS" if found.startswith("kohya") and lycoris else found


def _date(metadata: Mapping[str, str]) -> str:
    """ModelSpec writes a date, kohya seconds since 1970."""
    try:
        seconds = float(metadata.get("ss_training_finished_at", ""))
        return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")
    except (ValueError, OverflowError, OSError):
        return _line(metadata.get("modelspec.date"))


def _object(text: str) -> dict[str, Any]:
    try:
        return msgspec.json.decode(text, type=dict[str, Any]) if text else {}
    except (msgspec.DecodeError, RecursionError, UnicodeError):
        return {}


def _line(value: object) -> str:
    """A value on one line; "None" is what Python's trainers write for nothing."""
    if value is None or isinstance(value, dict | list):
        return ""
    text = " ".join(str(value)[: 4 * _LONGEST].split())[:_LONGEST]
    return "" if text == "None" else text
