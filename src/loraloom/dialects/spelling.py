"""Parts of names that several dialects share."""

from loraloom.bases import Base, Layer

_CLIPS = {"text_encoder": "clip_l", "text_encoder_2": "clip_g"}
_OPEN_CLIP_WIDTH = 1024  # ViT-H, the only text encoder of SD 2.x


def modules(layer: Layer) -> tuple[str, ...]:
    """A module's names, diffusers' first: its original one, and the one without `text_model.`, which transformers 5 dropped."""
    module = layer.target.module
    names = [module]
    if layer.original is not None:
        names.append(layer.original)
    if module.startswith("text_model."):
        names.append(module.removeprefix("text_model."))
    return tuple(dict.fromkeys(names))


def original(layer: Layer) -> str:
    """The name from before diffusers, or the module's own."""
    return layer.target.module if layer.original is None else layer.original


def clip(layer: Layer, base: Base) -> str:
    """What ComfyUI and OneTrainer call a text encoder."""
    if base.text_widths == (_OPEN_CLIP_WIDTH,):
        return "clip_h"
    return _CLIPS.get(layer.target.component, layer.target.component)


def is_text(layer: Layer) -> bool:
    return layer.place.is_text
