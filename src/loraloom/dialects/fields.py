"""Metadata whose values have a form that other programs rely on: ModelSpec 1.0.1 (github.com/Stability-AI/ModelSpec) and kohya's JSON."""

import re
from collections.abc import Mapping
from datetime import datetime

import msgspec

from loraloom.dialects.metadata import PEFT_CONFIG
from loraloom.errors import SettingsError, suggestion

TRIGGER = "modelspec.trigger_phrase"
HASHES = ("sshs_model_hash", "sshs_legacy_hash", "modelspec.hash_sha256")  # they follow from the tensors
_SPEC = (
    *("sai_model_spec", "architecture", "implementation", "implementation_version", "title", "description", "author", "date", "license"),
    *("usage_hint", "thumbnail", "tags", "merged_from", "trigger_phrase", "resolution", "prediction_type", "timestep_range"),
    *("encoder_layer", "preprocessor", "is_negative_embedding", "unet_dtype", "vae_dtype", "hash_sha256"),
)
_FORMS: Mapping[str, tuple[str, str]] = {
    "modelspec.sai_model_spec": (r"\d+(\.\d+)*", "a version such as 1.0.1"),
    "modelspec.resolution": (r"\d+x\d+", "a width and a height such as 1024x1024"),
    "modelspec.prediction_type": ("epsilon|v", "epsilon or v"),
    "modelspec.timestep_range": (r"\d+,\d+", "two steps such as 0,1000"),
    "modelspec.encoder_layer": (r"\d+", "a whole number"),
    "modelspec.is_negative_embedding": ("true|false", "true or false"),
    "modelspec.thumbnail": ("data:image/jpeg;base64,[A-Za-z0-9+/]+=*", "a JPEG as a data URI: data:image/jpeg;base64,..."),
    "ss_v2": ("True|False", "True or False"),
}
_JSON = (PEFT_CONFIG, "ss_network_args", "ss_tag_frequency", "ss_datasets", "ss_dataset_dirs", "ss_bucket_info")


def check_field(key: str, value: str) -> None:
    """Raises SettingsError for a value that programs which know the key could not read, for a key that nearly is one of ModelSpec's,
    and for what is not said but computed."""
    if key in HASHES:
        raise SettingsError(f"{key}: is computed from the tensors and not set by hand")
    field = key.removeprefix("modelspec.")
    if field != key and field not in _SPEC and (near := suggestion(field, _SPEC)):
        raise SettingsError(f"{key}: ModelSpec has no field of this name{near}")
    if key in _FORMS and not re.fullmatch(_FORMS[key][0], value):
        raise SettingsError(f"{key}: is {_FORMS[key][1]}, not {value[:80]!r}")
    if key == "modelspec.date" and not _is_date(value):
        raise SettingsError(f"{key}: is a date such as 2026-01-31 or 2026-01-31T12:00:00Z, not {value[:80]!r}")
    if key in _JSON and not _is_json(value):
        raise SettingsError(f"{key}: is a JSON object or list, not {value[:80]!r}")


def _is_date(value: str) -> bool:
    try:
        datetime.fromisoformat(value)
    except ValueError:
        return False
    return True


def _is_json(value: str) -> bool:
    try:
        return isinstance(msgspec.json.decode(value), dict | list)
    except (msgspec.DecodeError, RecursionError, UnicodeError):
        return False
