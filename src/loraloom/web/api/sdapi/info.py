"""The `info` of an answer: what was drawn, in the WebUI's keys. Clients check them strictly."""

import json
from datetime import datetime
from importlib.metadata import version

from loraloom.web.api.sdapi.body import Generation
from loraloom.web.api.sdapi.samplers import their_sampler
from loraloom.web.api.sdapi.wish import Wish
from loraloom.web.drawing import Drawn, DrawTask


def stamp(moment: datetime) -> str:
    """YYYYMMDDhhmmss, in this computer's time."""
    return moment.astimezone().strftime("%Y%m%d%H%M%S")


def info(task: DrawTask, wish: Wish, body: Generation) -> str:
    """As JSON. Of pictures that were interrupted there is what was asked for."""
    request, drawn = wish.request, list(task.pictures)
    first = drawn[0].recipe if drawn else None
    seeds = [picture.seed for picture in drawn]
    sampler, scheduler = their_sampler(first.sampler if first else request.sampler or "")
    return json.dumps(
        {
            "prompt": request.prompt,
            "all_prompts": [request.prompt] * len(drawn),
            "negative_prompt": request.negative_prompt,
            "all_negative_prompts": [request.negative_prompt] * len(drawn),
            "seed": request.seed,
            "all_seeds": seeds,
            "subseed": -1,
            "all_subseeds": [-1] * len(drawn),
            "subseed_strength": 0,
            "width": drawn[0].width if drawn else request.width or 0,
            "height": drawn[0].height if drawn else request.height or 0,
            "sampler_name": sampler,
            "cfg_scale": (first.guidance if first else request.guidance) or 0,
            "steps": (first.steps if first else request.steps) or 0,
            "batch_size": body.batch_size or 1,
            "restore_faces": False,
            "sd_model_name": wish.base.name,
            "sd_model_hash": (wish.base.sha256 or "")[:10],
            "sd_vae_name": None,
            "sd_vae_hash": None,
            "seed_resize_from_w": -1,
            "seed_resize_from_h": -1,
            "denoising_strength": request.denoise if request.image else None,
            "extra_generation_params": _extra(task, wish, drawn, scheduler),
            "index_of_first_image": 0,
            "infotexts": [str(picture.recipe) for picture in drawn],
            "styles": [],
            "job_timestamp": stamp(task.created),
            "clip_skip": 1,
            "is_using_inpainting_conditioning": False,
            "version": f"loraloom {version('loraloom')}",
        },
        ensure_ascii=False,
    )


def _extra(task: DrawTask, wish: Wish, drawn: list[Drawn], scheduler: str) -> dict[str, str]:
    """Ours among them: what was ignored, and the warnings."""
    hashes = ", ".join(f"{name}: {digest}" for name, digest in (drawn[0].recipe.lora_hashes if drawn else {}).items())
    extra = {"Schedule type": scheduler, "Lora hashes": hashes, "Ignored": ", ".join(wish.ignored), "Warnings": "\n".join(task.notes)}
    return {name: value for name, value in extra.items() if value and value != "Automatic"}
