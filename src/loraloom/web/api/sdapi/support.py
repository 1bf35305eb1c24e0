"""What of a WebUI request is done, what is left out and said, and what is refused because the picture would be another one."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from loraloom.errors import NotSupported
from loraloom.web.api.sdapi.body import Generation, ImageToImage

# Field: when it would change the picture in a way that the person who asked counts on. A field that a body has not is never active.
_REFUSED: Mapping[str, Callable[[Any], bool]] = {
    "enable_hr": bool,
    "refiner_checkpoint": lambda name: name not in (None, "", "None"),
    "script_name": lambda name: name not in (None, "", "None"),
    "firstpass_image": bool,
    "infotext": bool,
    "tiling": bool,
    "latent_mask": bool,
    "subseed_strength": lambda strength: (strength or 0) > 0,
    "s_churn": lambda churn: (churn or 0) > 0,
    "clip_skip": lambda layers: (layers or 0) > 1,
    "inpainting_fill": lambda fill: fill not in (None, 0, 1),
    "resize_mode": lambda mode: mode not in (None, 0, 1, 2),
}
# Field: when it asks for something at all. Clients send many of these with every request.
_IGNORED: Mapping[str, Callable[[Any], bool]] = {
    "styles": bool,
    "restore_faces": bool,
    "eta": lambda eta: eta not in (None, 0, 1),
    "s_noise": lambda noise: noise not in (None, 1),
    "s_min_uncond": bool,
    "image_cfg_scale": lambda scale: scale not in (None, 0, 1.5),
    "initial_noise_multiplier": lambda factor: factor not in (None, 0, 1),
    "distilled_cfg_scale": lambda scale: scale not in (None, 0, 3.5),
    "comments": bool,
}
_OFF = ("", "none", "automatic", "use same checkpoint", "use same sampler")
_VAE_SETTINGS = ("sd_vae",)


def refuse_unsupported(body: Generation) -> None:
    """Raise NotSupported that names everything that this server cannot do and that would change the picture."""
    found = [name for name, active in _REFUSED.items() if hasattr(body, name) and active(getattr(body, name))]
    if isinstance(body, ImageToImage) and len(body.init_images or ()) > 1:
        found.append(f"{len(body.init_images or ())} init_images at once")
    if min(body.seed_resize_from_h or 0, body.seed_resize_from_w or 0) > 0:
        found.append("seed_resize_from_w and _h")
    found += [f"the script {name!r}" for name, unit in (body.alwayson_scripts or {}).items() if _runs(unit)]
    found += [f"override_settings.{name}" for name, value in (body.override_settings or {}).items() if _changes(name, value)]
    if found:
        raise NotSupported(f"this server does not do {', '.join(found)}; the picture would be another one. Send the request without")


def ignored(body: Generation) -> Iterator[str]:
    """Names of what was asked for and is left out."""
    yield from (name for name, active in _IGNORED.items() if hasattr(body, name) and active(getattr(body, name)))
    handled = ("sd_model_checkpoint", "CLIP_stop_at_last_layers", *_VAE_SETTINGS)
    yield from (f"override_settings.{name}" for name in body.override_settings or {} if name not in handled)
    yield from body.model_extra or {}


def _runs(unit: Any) -> bool:
    """Whether a script is switched on: `{"args": []}`, `[false, ...]` and units with `"enabled": false` are not."""
    arguments = unit.get("args", ()) if isinstance(unit, Mapping) else unit
    units = list(arguments.values()) if isinstance(arguments, Mapping) else arguments
    if not isinstance(units, Sequence) or isinstance(units, str) or not units or units[0] is False:
        return False
    return any(not (isinstance(each, Mapping) and each.get("enabled") is False) and each not in (None, {}, [], "") for each in units)


def _changes(name: str, value: Any) -> bool:
    if name in _VAE_SETTINGS:
        return str(value or "").lower() not in _OFF
    return name == "CLIP_stop_at_last_layers" and value not in (None, 0, 1)
