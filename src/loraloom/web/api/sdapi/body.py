"""What clients of the WebUI send: every field that it knows, with its defaults, and `null` wherever one is sent.

None stands where the base decides here, not the WebUI: steps, guidance, size.
"""

import json
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict
from pydantic_core import PydanticSerializationError, to_json

from loraloom.bounds import Real, Text, Whole


def _writable(value: Any) -> Any:
    """The answer repeats the request, so what cannot be repeated is refused."""
    try:
        to_json(value)  # less deep than json goes
        json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
    except (PydanticSerializationError, ValueError, RecursionError) as error:
        what = "it is nested too deeply, or holds half a character or a number that is not finite"
        raise ValueError(f"cannot be written as JSON again: {what}") from error
    return value


Anything = Annotated[Any, AfterValidator(_writable)]
Named = Annotated[dict[str, Any], AfterValidator(_writable)]


class Generation(BaseModel):
    """Of both txt2img and img2img. Fields that nobody knows are kept apart, and named in the answer."""

    model_config = ConfigDict(extra="allow", frozen=True)
    __pydantic_extra__: dict[str, Anything]

    prompt: Text | None = ""
    negative_prompt: Text | None = ""
    styles: list[Text] | None = None
    seed: Whole | None = -1
    subseed: Whole | None = -1
    subseed_strength: Real | None = 0
    seed_resize_from_h: Whole | None = -1
    seed_resize_from_w: Whole | None = -1
    sampler_name: Text | None = None
    sampler_index: Text | None = None  # its older name; counts where `sampler_name` is null
    scheduler: Text | None = None
    batch_size: Whole | None = 1
    n_iter: Whole | None = 1
    steps: Whole | None = None
    cfg_scale: Real | None = None
    distilled_cfg_scale: Real | None = None
    width: Whole | None = None
    height: Whole | None = None
    restore_faces: bool | None = None
    tiling: bool | None = None
    do_not_save_samples: bool | None = False
    do_not_save_grid: bool | None = False
    eta: Real | None = None
    denoising_strength: Real | None = None
    s_min_uncond: Real | None = None
    s_churn: Real | None = None
    s_tmax: Real | None = None
    s_tmin: Real | None = None
    s_noise: Real | None = None
    override_settings: Named | None = None
    override_settings_restore_afterwards: bool | None = True
    refiner_checkpoint: Text | None = None
    refiner_switch_at: Real | None = None
    disable_extra_networks: bool | None = False
    firstpass_image: Text | None = None
    comments: Named | None = None
    clip_skip: Whole | None = None
    script_name: Text | None = None
    script_args: Annotated[list[Any], AfterValidator(_writable)] | None = None
    alwayson_scripts: Named | None = None
    send_images: bool | None = True
    save_images: bool | None = False
    force_task_id: Text | None = None
    infotext: Text | None = None
    strict_lora: bool = False  # ours: an unknown LoRA is an error instead of a warning


class TextToImage(Generation):
    """POST /sdapi/v1/txt2img."""

    enable_hr: bool | None = False
    firstphase_width: Whole | None = 0
    firstphase_height: Whole | None = 0
    hr_scale: Real | None = 2.0
    hr_upscaler: Text | None = None
    hr_second_pass_steps: Whole | None = 0
    hr_resize_x: Whole | None = 0
    hr_resize_y: Whole | None = 0
    hr_checkpoint_name: Text | None = None
    hr_sampler_name: Text | None = None
    hr_scheduler: Text | None = None
    hr_prompt: Text | None = ""
    hr_negative_prompt: Text | None = ""
    hr_cfg: Real | None = None
    hr_distilled_cfg: Real | None = None
    hr_additional_modules: list[Text] | None = None


class ImageToImage(Generation):
    """POST /sdapi/v1/img2img. Pictures are base64, with or without `data:image/...;base64,`."""

    init_images: list[str] | None = None
    resize_mode: Whole | None = 0  # 0 stretches, 1 cuts, 2 fills up
    image_cfg_scale: Real | None = None
    mask: str | None = None  # white is drawn anew
    mask_blur: Whole | None = None
    mask_blur_x: Whole | None = 4
    mask_blur_y: Whole | None = 4
    mask_round: bool | None = True
    inpainting_fill: Whole | None = 0  # 0 fills the mask with what is around it, 1 keeps what is there
    inpaint_full_res: bool | None = True  # only the part around the mask is drawn, at full size
    inpaint_full_res_padding: Whole | None = 0
    inpainting_mask_invert: Whole | bool | None = 0
    initial_noise_multiplier: Real | None = None
    latent_mask: Text | None = None
    include_init_images: bool | None = False


class Answer(BaseModel):
    """Of txt2img and img2img. `info` is JSON as text."""

    images: list[str]
    parameters: dict[str, Any]
    info: str
