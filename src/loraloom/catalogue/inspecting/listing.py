"""A file's keys, shapes, dtypes and cleaned metadata as a small text to share: no weights, no places, no names of data sets.

`{"source": ..., "family": ..., "metadata": {...}, "keys": {key: [dtype, shape]}}`, the format of tests/keys.
"""

import re

import msgspec

from loraloom.bases.detect import detect
from loraloom.catalogue.inspecting.training import arguments
from loraloom.dialects.metadata import PEFT_CONFIG
from loraloom.tensorfile import Header

# What detection and reading depend on, and nothing of the maker's: his pictures, folders, words and names stay out.
_KEPT = (
    *("ss_base_model_version", "ss_v2", "ss_network_module", "ss_network_dim", "ss_network_alpha", "ss_sd_scripts_commit_hash"),
    *(
        "modelspec.architecture",
        "modelspec.implementation",
        "modelspec.sai_model_spec",
        "modelspec.prediction_type",
        "modelspec.resolution",
    ),
    *("sshs_model_hash", "sshs_legacy_hash", "software", "format", "version", PEFT_CONFIG),
)
# Of `ss_network_args`: what says how the tensors are to be read.
_ARGUMENTS = re.compile(
    r"algo|(conv|network)_(dim|alpha)|preset|factor|use_(cp|tucker|scalar|effective_conv2d)|dora_wd|wd_on_output|wd_on_out|rs_lora|"
    r"decompose_both|full_matrix|block_size|unit|constraint|rescaled|train_norm|unbalanced_factorization|bypass_mode|down_on_input"
)
_LONGEST = 20_000
_PLACE = re.compile(r"[A-Za-z]:[\\/]|[\\/][\w.-]+[\\/]|~[\\/]|file:")
_PEFT_NAMES = ("base_model_name_or_path", "auto_mapping", "parent_library", "revision", "loftq_config")


def listing(header: Header) -> str:
    """One line of JSON, keys sorted, so that the same file gives the same bytes."""
    found = detect(header.shapes, header.metadata)
    document = {
        "source": "loraloom inspect --report",
        "family": found.family or found.title,
        "metadata": dict(sorted(cleaned(header).items())),
        "keys": {key: [header.entries[key].dtype, list(header.entries[key].shape)] for key in sorted(header.entries)},
    }
    return msgspec.json.encode(document).decode() + "\n"


def cleaned(header: Header) -> dict[str, str]:
    """The metadata that reading depends on; a value that looks like a place on somebody's disk is left out."""
    metadata = header.metadata
    found = {key: metadata[key] for key in _KEPT if key in metadata and len(metadata[key]) <= _LONGEST}
    if PEFT_CONFIG in found:
        found[PEFT_CONFIG] = _without_names(found[PEFT_CONFIG])
    kept = {key: value for key, value in arguments(metadata).items() if _ARGUMENTS.fullmatch(key)}
    if kept:
        found["ss_network_args"] = msgspec.json.encode(dict(sorted(kept.items()))).decode()
    web = "modelspec.implementation"  # a repository's address
    return {
        key: value for key, value in found.items() if value and ((key == web and value.startswith("https://")) or not _PLACE.search(value))
    }


def _without_names(config: str) -> str:
    try:
        options = msgspec.json.decode(config, type=dict[str, object])
    except (msgspec.DecodeError, RecursionError, UnicodeError):
        return ""
    return msgspec.json.encode({key: value for key, value in sorted(options.items()) if not key.endswith(_PEFT_NAMES)}).decode()
