"""Names of tensors without what frameworks and savers put into them: wrappers of modules, prefixes of programs, names of adapters.

`unet.module.down_blocks.0._orig_mod....to_q.lora_A.my_style.weight` means `unet.down_blocks.0....to_q.lora_A.weight`. No module of
any model here is called as one of these, so they can be taken out wherever they stand.
"""

import re
from collections.abc import Collection, Iterator, Mapping
from typing import NamedTuple

# torch.compile, FSDP, activation checkpoints, Lightning's Fabric, DeepSpeed and Opacus: at any depth, also where dots became `_`.
_WRAPPERS = ("_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module", "_forward_module", "_wrapped_module")
_ANYWHERE = re.compile(rf"(?:{'|'.join(_WRAPPERS)})[._]")
_FLAT = re.compile(r"^((?:lora|oft)_(?:unet|te\d?)_|lycoris_)module_")
# Before the component or right behind it.
_AROUND = frozenset({"module", "_module", "model", "models", "pipeline", "pipe", "base_model", "network", "state_dict"})
_COMPONENTS = frozenset({"unet", "transformer", "diffusion_model", "text_encoder", "text_encoder_2", "text_encoder_3"})
_PEFT = "base_model.model."
# How a module's path, or a name with underscores, begins: what stands before it is around it.
_BEGINS = re.compile(
    r"(?:down_blocks|up_blocks|mid_block|input_blocks|output_blocks|middle_block|conv_in|conv_out|time_embedding|add_embedding|text_model"
    r"|encoder|text_encoders|clip_[lg])\.|(?:lora|oft|lycoris)_"
)
# A tensor of PEFT's, with the name of its adapter between: `lora_A.my_style.weight`, `hada_w1_a.my_style`.
_NAMED = re.compile(
    r"\.(?P<field>lora_(?:A|B|E|down|up|mid|embedding_A|embedding_B|magnitude_vector)|hada_[wt][12](?:_[ab])?|lokr_(?:w[12](?:_[ab])?|t2)"
    r"|ia3_l|oft_R|boft_[Rs])\.(?P<adapter>(?!weight$|bias$|scaled_oft$).+?)(?P<end>\.weight|\.bias)?$"
)
# What ordinary names begin and end with. A list of names has few different beginnings and ends, so that looking at these alone takes a
# tenth of the time of looking at every name.
_LONG = 36  # characters; `diffusion_model.diffusion_model.` has 32
_ORDINARY_BEGINNING = re.compile(
    rf"base_model\.model\.(?!(?:{'|'.join(sorted(_AROUND | _COMPONENTS))})\.)"
    rf"|(?!(?:{'|'.join(sorted(_AROUND))})\.)(?!(?:{'|'.join(sorted(_COMPONENTS))})\.(?:{'|'.join(sorted(_AROUND | _COMPONENTS))})\.)"
)
_ORDINARY_END = re.compile(
    r"(?:\.|^)(?:(?:lora_(?:A|B|down|up|mid)|lora_magnitude_vector|oft_R|(?:\w*_lora\.|lora\.|lora_linear_layer\.)?(?:down|up)|[ab][12]|bm|[qp]_layer)"
    r"\.weight|bias|alpha|dora_scale|scale|scalar|diff|diff_b|hada_[wt]\w+|lokr_\w+|on_input|scaled_oft|oft_blocks|lambda_layer"
    r"|lora_[ABE]|lora_embedding_[AB]|lora_magnitude_vector|magnitude|ia3_l|[wb]_norm|rescale|oft_diag|bias_\w+)$"
)


class Plain(NamedTuple):
    name: str
    adapter: str = ""  # the name that PEFT knew it by
    around: str = ""  # what was taken out, in order: "module.", "_orig_mod."


def plain(key: str) -> Plain:
    """A tensor's name as every reader knows it. The same name where nothing is put into it."""
    taken = _ANYWHERE.findall(key)
    name, before = _without_prefix(_ANYWHERE.sub("", key) if taken else key)
    name, flat = _FLAT.subn(r"\1", name)
    named = _NAMED.search(name)
    if named:
        name = f"{name[: named.start()]}.{named['field']}{named['end'] or ''}"
    around = "".join((before, "module_" * flat, *dict.fromkeys(f"{wrapper[:-1]}." for wrapper in taken)))
    return Plain(name, named["adapter"] if named else "", around)


def changed(keys: Collection[str]) -> Mapping[str, Plain]:
    """Those of the keys into which something is put."""
    return {key: found for key in keys if (found := plain(key)).name != key} if _hinted(keys) else {}


def _hinted(keys: Collection[str]) -> bool:
    """Whether anything may be put into one of them."""
    text = "\n".join(keys)
    if "_orig_mod" in text or "_module" in text:
        return True
    if not all(_ORDINARY_BEGINNING.match(start) for start in {key[:_LONG] for key in keys}):
        return True
    ends = {key[key.rfind(".", 0, -7) :] if key.endswith(".weight") else key[key.rfind(".") :] for key in keys}
    return not all(map(_ORDINARY_END.search, ends))


def adapters(names: Mapping[str, Plain]) -> Iterator[str]:
    """The different names of adapters, in the order of the file."""
    yield from dict.fromkeys(found.adapter for found in names.values() if found.adapter)


def _without_prefix(key: str) -> tuple[str, str]:
    """(the key from its component on, what stood around that). The same key where it does not lead to anything that is known."""
    parts = key.split(".")
    length = next((index for index, part in enumerate(parts) if part not in _AROUND and part not in _COMPONENTS), 0)
    components = [part for part in parts[:length] if part in _COMPONENTS]
    rest = ".".join(parts[length:])
    if not length or not (components or _BEGINS.match(rest)):
        return key, ""
    kept = f"{components[-1]}." if components else _PEFT if "base_model" in parts[:length] else ""
    if key.startswith(kept) and key.removeprefix(kept) == rest:
        return key, ""
    around = [part for part in parts[:length] if part in _AROUND and not (kept == _PEFT and part in ("base_model", "model"))]
    return f"{kept}{rest}", "".join(f"{part}." for part in around or components[:-1] or ["model"])
