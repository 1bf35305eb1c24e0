"""What clients of the WebUI send: every field that it knows, with its defaults, and `null` wherever one is sent.

None stands where the base decides here, not the WebUI: steps, guidance, size.
"""

from typing import Any

from pydantic import BaseModel, ConfigDict


class Generation(BaseModel):
    """Of both txt2img and img2img. Fields that nobody knows are kept apart, and named in the answer."""

    model_config = ConfigDict(extra="allow", frozen=True)

    prompt: str | None = ""
    negative_prompt: str | None = ""
    styles: list[str] | None = None
    seed: int | None = -1
    subseed: int | None = -1
    subseed_strength: float | None = 0
    seed_resize_from_h: int | None = -1
    seed_resize_from_w: int | None = -1
    sampler_name: str | None = None
    sampler_index: str | None = None  # its older name; counts where `sampler_name` is null
    scheduler: str | None = None
    batch_size: int | None = 1
    n_iter: int | None = 1
    steps: int | None = None
    cfg_scale: float | None = None
    distilled_cfg_scale: float | None = None
    width: int | None = None
    height: int | None = None
    restore_faces: bool | None = None
    tiling: bool | None = None
    do_not_save_samples: bool | None = False
    do_not_save_grid: bool | None = False
    eta: float | None = None
    denoising_strength: float | None = None
    s_min_uncond: float | None = None
    s_churn: float | None = None
    s_tmax: float | None = None
    s_tmin: float | None = None
    s_noise: float | None = None
    override_settings: dict[str, Any] | None = None
    override_settings_restore_afterwards: bool | None = True
    refiner_checkpoint: str | None = None
    refiner_switch_at: float | None = None
    disable_extra_networks: bool | None = False
    firstpass_image: str | None = None
    comments: dict[str, Any] | None = None
    clip_skip: int | None = None
    script_name: str | None = None
    script_args: list[Any] | None = None
    alwayson_scripts: dict[str, Any] | None = None
    send_images: bool | None = True
    save_images: bool | None = False
    force_task_id: str | None = None
    infotext: str | None = None
    strict_lora: bool = False  # ours: an unknown LoRA is an error instead of a warning


class TextToImage(Generation):
    """POST /sdapi/v1/txt2img."""

    enable_hr: bool | None = False
    firstphase_width: int | None = 0
    firstphase_height: int | None = 0
    hr_scale: float | None = 2.0
    hr_upscaler: str | None = None
    hr_second_pass_steps: int | None = 0
    hr_resize_x: int | None = 0
    hr_resize_y: int | None = 0
    hr_checkpoint_name: str | None = None
    hr_sampler_name: str | None = None
    hr_scheduler: str | None = None
    hr_prompt: str | None = ""
    hr_negative_prompt: str | None = ""
    hr_cfg: float | None = None
    hr_distilled_cfg: float | None = None
    hr_additional_modules: list[str] | None = None


class ImageToImage(Generation):
    """POST /sdapi/v1/img2img. Pictures are base64, with or without `data:image/...;base64,`."""

    init_images: list[str] | None = None
    resize_mode: int | None = 0  # 0 stretches, 1 cuts, 2 fills up
    image_cfg_scale: float | None = None
    mask: str | None = None  # white is drawn anew
    mask_blur: int | None = None
    mask_blur_x: int | None = 4
    mask_blur_y: int | None = 4
    mask_round: bool | None = True
    inpainting_fill: int | None = 0  # 0 fills the mask with what is around it, 1 keeps what is there
    inpaint_full_res: bool | None = True  # only the part around the mask is drawn, at full size
    inpaint_full_res_padding: int | None = 0
    inpainting_mask_invert: int | bool | None = 0
    initial_noise_multiplier: float | None = None
    latent_mask: str | None = None
    include_init_images: bool | None = False


class Answer(BaseModel):
    """Of txt2img and img2img. `info` is JSON as text."""

    images: list[str]
    parameters: dict[str, Any]
    info: str
