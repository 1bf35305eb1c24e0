"""Samplers by the names that people know, as diffusers schedulers. Names and options only: no torch, no diffusers."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Sampler:
    """`scheduler` is a class of diffusers; `options` replace what the base's own scheduler is configured with."""

    scheduler: str
    options: Mapping[str, Any] = field(default_factory=dict)
    flow: str | None = None  # the class for flow-matching bases; None: this sampler is not for them


_MULTISTEP = {"algorithm_type": "dpmsolver++", "solver_order": 2, "use_karras_sigmas": False}
_SDE = {**_MULTISTEP, "algorithm_type": "sde-dpmsolver++"}
_KARRAS = {"use_karras_sigmas": True}

# The correspondence is the one of diffusers' documentation ("Schedulers", table A1111/k-diffusion).
SAMPLERS: Mapping[str, Sampler] = {
    "Euler": Sampler("EulerDiscreteScheduler", {"use_karras_sigmas": False}, "FlowMatchEulerDiscreteScheduler"),
    "Euler Karras": Sampler("EulerDiscreteScheduler", _KARRAS),
    "Euler a": Sampler("EulerAncestralDiscreteScheduler"),
    "Heun": Sampler("HeunDiscreteScheduler", {"use_karras_sigmas": False}, "FlowMatchHeunDiscreteScheduler"),
    "DPM2": Sampler("KDPM2DiscreteScheduler", {"use_karras_sigmas": False}),
    "DPM2 a": Sampler("KDPM2AncestralDiscreteScheduler", {"use_karras_sigmas": False}),
    "DPM++ 2M": Sampler("DPMSolverMultistepScheduler", _MULTISTEP),
    "DPM++ 2M Karras": Sampler("DPMSolverMultistepScheduler", {**_MULTISTEP, **_KARRAS}),
    "DPM++ 2M SDE": Sampler("DPMSolverMultistepScheduler", _SDE),
    "DPM++ 2M SDE Karras": Sampler("DPMSolverMultistepScheduler", {**_SDE, **_KARRAS}),
    "LMS": Sampler("LMSDiscreteScheduler", {"use_karras_sigmas": False}),
    "LMS Karras": Sampler("LMSDiscreteScheduler", _KARRAS),
    "DDIM": Sampler("DDIMScheduler"),
    "DDPM": Sampler("DDPMScheduler"),
    "PLMS": Sampler("PNDMScheduler", {"skip_prk_steps": True}),
    "UniPC": Sampler("UniPCMultistepScheduler"),
    "LCM": Sampler("LCMScheduler"),
}


# k-diffusion's names, and ComfyUI's where they differ.
ALIASES: Mapping[str, tuple[str, ...]] = {
    "Euler": ("k_euler", "euler"),
    "Euler a": ("k_euler_a", "k_euler_ancestral", "euler_ancestral", "euler_a"),
    "Heun": ("k_heun", "heun"),
    "DPM2": ("k_dpm_2", "dpm_2"),
    "DPM2 a": ("k_dpm_2_a", "k_dpm_2_ancestral", "dpm_2_ancestral"),
    "DPM++ 2M": ("k_dpmpp_2m", "dpmpp_2m"),
    "DPM++ 2M SDE": ("k_dpmpp_2m_sde", "dpmpp_2m_sde"),
    "LMS": ("k_lms", "lms"),
    "DDIM": ("ddim",),
    "DDPM": ("ddpm",),
    "PLMS": ("plms",),
    "UniPC": ("unipc", "uni_pc"),
    "LCM": ("lcm",),
}
_WITH_KARRAS = " Karras"


def called(name: str) -> str | None:
    """The sampler that a name means, in any case: its own, or k-diffusion's and ComfyUI's, with `_karras` or `_ka` behind it."""
    wanted = name.strip().lower()
    for known in SAMPLERS:
        plain = known.removesuffix(_WITH_KARRAS)
        ends = ("_karras", "_ka") if plain != known else ("",)
        if wanted in (known.lower(), *(other + end for other in ALIASES.get(plain, ()) for end in ends)):
            return known
    return None


def sampler_name(scheduler: str, config: Mapping[str, Any]) -> str:
    """The name of a base's own scheduler; its class name where no sampler here is the same."""
    fitting = [
        name
        for name, sampler in SAMPLERS.items()
        if scheduler in (sampler.scheduler, sampler.flow) and all(config.get(key, value) == value for key, value in sampler.options.items())
    ]
    return fitting[0] if fitting else scheduler
