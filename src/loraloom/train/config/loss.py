"""How a sample is noised, and how its loss counts."""

from typing import Annotated, ClassVar, Literal, Self

from pydantic import BaseModel, Field, model_validator

from loraloom.train.config.option import Flags

Distance = Literal["l2", "l1", "huber", "smooth_l1"]
HuberSchedule = Literal["constant", "exponential", "snr"]
Sampling = Literal["uniform", "logit_normal", "mode", "cosmap", "beta"]


class LossFields(BaseModel):
    panel: ClassVar[str] = "Loss and noise"  # of the command's help

    loss: Distance = Field("l2", description="how an error counts: l2 (its square), l1, or huber and smooth_l1, which forgive outliers")
    huber_c: float = Field(0.1, gt=0, le=10, description="error above which huber and smooth_l1 count less than its square")
    huber_schedule: HuberSchedule = Field("snr", description="course of huber_c over the timesteps: constant, exponential or snr")
    min_snr_gamma: float | None = Field(None, ge=0, description="min-SNR weight of the loss; 0 is off")
    debiased_estimation: Annotated[bool, Flags("--debiased")] = Field(False, description="weigh timesteps by 1/√SNR, instead of min-SNR")
    noise_offset: float = Field(0.0, ge=0, le=1, description="brightness noise, for darker darks and brighter lights; 0 is off")
    noise_offset_random: bool = Field(False, description="draw the strength of that noise anew for each sample, from 0 up to what is given")
    multires_noise_iterations: Annotated[int, Flags("--multires-noise")] = Field(
        0, ge=0, le=12, description="levels of coarser and coarser noise that are added (pyramid noise), 6 to 10; 0 is off"
    )
    multires_noise_discount: float = Field(0.3, ge=0, le=1, description="strength of each of those levels, as a part of the finer one")
    input_perturbation: Annotated[float, Flags("--input-perturbation", "--ip-noise-gamma")] = Field(
        0.0, ge=0, le=1, description="extra noise that the denoiser is not to find; 0.1 is usual, 0 is off"
    )
    input_perturbation_random: bool = Field(False, description="draw the strength of that noise anew for each sample")
    zero_terminal_snr: bool = Field(False, description="rescale the noise so that the last timestep is noise alone; for v-prediction")
    timestep_sampling: Sampling = Field("uniform", description="which timesteps are trained: uniform, logit_normal, mode, cosmap or beta")
    timestep_shift: float = Field(1.0, gt=0, le=100, description="above 1 noisier timesteps are drawn more often, as large pictures need")
    min_timestep: int = Field(0, ge=0, description="first timestep that is drawn; 0 has the least noise")
    max_timestep: int = Field(1000, ge=1, description="timestep before which drawing ends; 1000 draws the noisiest too")
    logit_mean: float = Field(0.0, description="mean of logit_normal; above 0 noisier timesteps are drawn more often")
    logit_std: float = Field(1.0, gt=0, description="spread of logit_normal")
    mode_scale: float = Field(1.29, ge=-1, le=1.75, description="weight of the middle timesteps in mode")
    beta_a: float = Field(2.0, gt=0, le=1000, description="first number of beta; larger draws noisier timesteps")
    beta_b: float = Field(2.0, gt=0, le=1000, description="second number of beta; larger draws clearer timesteps")

    @model_validator(mode="after")
    def _everything_has_an_effect(self) -> Self:
        for name, (other, values) in _NEEDED.items():
            if getattr(self, name) != LossFields.model_fields[name].default and getattr(self, other) not in values:
                raise ValueError(f"{name} is read by {other} = {' or '.join(values)}; it is {getattr(self, other)}")
        if (
            self.multires_noise_discount != LossFields.model_fields["multires_noise_discount"].default
            and not self.multires_noise_iterations
        ):
            raise ValueError("multires_noise_discount needs multires_noise_iterations above 0")
        for name in ("noise_offset", "input_perturbation"):
            if getattr(self, f"{name}_random") and not getattr(self, name):
                raise ValueError(f"{name}_random needs {name} above 0")
        if self.debiased_estimation and self.min_snr_gamma:
            raise ValueError("debiased_estimation and min_snr_gamma both weigh timesteps; choose one")
        return self


_NEEDED = {  # field: the field and the values of it with which it means something
    "huber_c": ("loss", ("huber", "smooth_l1")),
    "huber_schedule": ("loss", ("huber", "smooth_l1")),
    "logit_mean": ("timestep_sampling", ("logit_normal",)),
    "logit_std": ("timestep_sampling", ("logit_normal",)),
    "mode_scale": ("timestep_sampling", ("mode",)),
    "beta_a": ("timestep_sampling", ("beta",)),
    "beta_b": ("timestep_sampling", ("beta",)),
}
