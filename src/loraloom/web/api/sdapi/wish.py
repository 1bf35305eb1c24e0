"""From a WebUI request to ours: one job of `n_iter` parts with `batch_size` pictures each."""

from dataclasses import dataclass
from typing import Any

from loraloom.errors import SettingsError
from loraloom.generate.request import ImageRequest, random_seed
from loraloom.prompts import parse_lenient
from loraloom.web import limits
from loraloom.web.api.sdapi.body import Generation, ImageToImage
from loraloom.web.api.sdapi.canvas import Canvas, as_text
from loraloom.web.api.sdapi.samplers import our_sampler
from loraloom.web.api.sdapi.support import ignored, refuse_unsupported
from loraloom.web.bases import KnownBase
from loraloom.web.drawing import Part
from loraloom.web.service import Service


@dataclass(frozen=True)
class Wish:
    """`request` is all of it, its parts are drawn one after the other."""

    request: ImageRequest
    parts: tuple[Part, ...]
    base: KnownBase
    ignored: tuple[str, ...]


def read_wish(body: Generation, service: Service) -> Wish:
    """What the request means here. Raises NotSupported and SettingsError that name what is wrong, NotFound for an unknown checkpoint."""
    refuse_unsupported(body)
    batch, batches = body.batch_size or 1, body.n_iter or 1
    if batch < 1 or batches < 1 or batch * batches > limits.PICTURES:
        raise SettingsError(f"batch_size × n_iter: {batch} × {batches} pictures; at least 1 and at most {limits.PICTURES}")
    base = service.base(_checkpoint(body) or service.chosen)
    canvas = Canvas.of(body) if isinstance(body, ImageToImage) else None
    values: dict[str, Any] = {
        "prompt": _text(body.prompt, body),
        "negative_prompt": _text(body.negative_prompt, body),
        "steps": body.steps,
        "guidance": body.cfg_scale,
        "width": body.width,
        "height": body.height,
        "sampler": our_sampler(body.sampler_name or body.sampler_index, body.scheduler),
        "base": base.name,
        "lenient": not body.strict_lora,
    }
    if canvas:
        values |= {"width": canvas.image.width, "height": canvas.image.height, "image": as_text(canvas.image)}
        values |= {"mask": canvas.mask and as_text(canvas.mask)}
        values |= {} if body.denoising_strength is None else {"denoise": body.denoising_strength}
    seed = random_seed() if body.seed in (None, -1) else body.seed
    request = ImageRequest.of(**values, seed=seed, pictures=batch * batches)
    first = request.seed or 0
    patch = canvas.patch if canvas else None
    parts = [Part(request.model_copy(update={"seed": first + number * batch, "pictures": batch}), patch) for number in range(batches)]
    return Wish(request, tuple(parts), base, tuple(ignored(body)))


def _checkpoint(body: Generation) -> str | None:
    name = (body.override_settings or {}).get("sd_model_checkpoint")
    return str(name) if name else None


def _text(prompt: str | None, body: Generation) -> str:
    """The prompt; without its tags where the client wants no networks."""
    return parse_lenient(prompt or "")[0].text if body.disable_extra_networks else prompt or ""
