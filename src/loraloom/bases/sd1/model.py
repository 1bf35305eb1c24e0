"""What training needs from a pipeline of Stable Diffusion 1.x and 2.x: latents, text embeddings, noise and the target of the loss."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, get_args

from loraloom.errors import NotSupported
from loraloom.lazy import torch

if TYPE_CHECKING:
    import diffusers
    from torch import Tensor
    from torch.nn import Module

Prediction = Literal["epsilon", "v_prediction", "flow_prediction"]


class Text(NamedTuple):
    """What the denoiser is told in words."""

    embeddings: "Tensor"  # [n, tokens, width]
    pooled: "Tensor | None" = None  # [n, width], of the bases that take the whole text as one vector too


@dataclass(frozen=True)
class StableDiffusion:
    """A pipeline as a trainer sees it. The weights are the pipeline's own; nothing here changes them."""

    pipeline: "diffusers.StableDiffusionPipeline"

    @property
    def components(self) -> "Mapping[str, Module]":
        """The adapted components by name, in the order in which they run."""
        return {"text_encoder": self.pipeline.text_encoder, "unet": self.pipeline.unet}

    @property
    def prediction(self) -> Prediction:
        scheduler = self.pipeline.scheduler
        if "FlowMatch" in type(scheduler).__name__:  # diffusers' flow schedulers know one prediction and do not name it
            return "flow_prediction"
        kind: Prediction = scheduler.config.prediction_type
        if kind not in get_args(Prediction):
            raise NotSupported(f"the base predicts {kind!r}; training knows {', '.join(get_args(Prediction))}")
        return kind

    @property
    def frozen(self) -> "Mapping[str, Module]":
        """Everything whose weights decide what training sees."""
        return {**self.components, "vae": self.pipeline.vae}

    @property
    def device(self) -> "torch.device":
        return torch.device(self.pipeline.unet.device)

    @property
    def dtype(self) -> "torch.dtype":
        """In which the denoiser computes."""
        dtype: torch.dtype = self.pipeline.unet.dtype
        return dtype

    @property
    def pixels_per_latent(self) -> int:
        return int(self.pipeline.vae_scale_factor)

    @property
    def max_tokens(self) -> int:
        return int(self.pipeline.tokenizer.model_max_length)

    def tokens_cut(self, caption: str) -> int:
        """How many tokens of the caption do not fit; 0 if all do."""
        found = self.pipeline.tokenizer(caption, truncation=False, verbose=False).input_ids
        return max(0, len(found) - self.max_tokens)

    def token_ids(self, captions: Sequence[str]) -> "Tensor":
        """int64 [n, max_tokens]; captions that are too long are cut."""
        tokenizer = self.pipeline.tokenizer
        encoded = tokenizer(list(captions), padding="max_length", truncation=True, max_length=self.max_tokens, return_tensors="pt")
        ids: Tensor = encoded.input_ids
        return ids

    def embed(self, token_ids: "Tensor") -> Text:
        """What the text encoder makes of them; differentiable."""
        return Text(self.pipeline.text_encoder(token_ids.to(self.pipeline.text_encoder.device)).last_hidden_state)

    def encode(self, picture: "Tensor") -> "tuple[Tensor, Tensor]":
        """Mean and log-variance of the scaled latents, float32 [4, h, w] each, of one picture [3, H, W] in -1..1."""
        vae = self.pipeline.vae
        with torch.no_grad():
            posterior = vae.encode(picture[None].to(vae.device, vae.dtype)).latent_dist
        scale = float(vae.config.scaling_factor)
        shift = 2 * torch.log(torch.tensor(scale))
        return posterior.mean[0].float().cpu() * scale, posterior.logvar[0].float().cpu() + shift

    @property
    def alphas_cumprod(self) -> "Tensor":
        """float32 [timesteps]: the share of the signal's variance at each timestep; (1−σ)²/((1−σ)²+σ²) of a flow, σ = 1/n .. 1."""
        if self.prediction == "flow_prediction":
            count = self.pipeline.scheduler.config.num_train_timesteps
            sigma = torch.arange(1, count + 1, dtype=torch.float64) / count
            shares: Tensor = (1 - sigma).square() / ((1 - sigma).square() + sigma.square())
            return shares.float()
        alphas: Tensor = self.pipeline.scheduler.alphas_cumprod
        return alphas.float()

    def denoise(self, noisy: "Tensor", timesteps: "Tensor", text: Text, sizes: "Tensor | None" = None) -> "Tensor":
        """The UNet's prediction, float32 [n, 4, h, w]; it computes in the dtype of its weights.

        `sizes` [n, 6] are height and width of the picture as it was, top and left of the cut, height and width of what was cut, in
        pixels: bases that are told them take them, where nothing is given as of an uncut picture; the others ignore them."""
        device, dtype = self.device, self.dtype
        inputs = noisy.to(device, dtype), timesteps.to(device), text.embeddings.to(device, dtype)
        prediction: Tensor = self.pipeline.unet(*inputs, return_dict=False, **self._beside(noisy, text, sizes))[0]
        return prediction.float()

    def _beside(self, noisy: "Tensor", text: Text, sizes: "Tensor | None") -> "Mapping[str, Any]":
        """What else the UNet takes."""
        return {}
