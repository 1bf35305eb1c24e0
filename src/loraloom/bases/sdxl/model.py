"""What training needs from an SDXL pipeline: Stable Diffusion's, with two text encoders, a pooled text vector and picture sizes.

Podell et al. 2023, arXiv:2307.01952: both encoders' embeddings before their last layers, side by side; of the second the projected
pooled vector too; §2.2: the denoiser is told the picture's size, what was cut off, and the size that is left.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from loraloom.bases.sd1.model import StableDiffusion, Text
from loraloom.lazy import torch

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module


@dataclass(frozen=True)
class StableDiffusionXL(StableDiffusion):
    @property
    def components(self) -> "Mapping[str, Module]":
        pipeline = self.pipeline
        return {"text_encoder": pipeline.text_encoder, "text_encoder_2": pipeline.text_encoder_2, "unet": pipeline.unet}

    def tokens_cut(self, caption: str) -> int:
        """Of the tokenizer that cuts more."""
        second = self.pipeline.tokenizer_2
        found = second(caption, truncation=False, verbose=False).input_ids
        return max(super().tokens_cut(caption), len(found) - int(second.model_max_length))

    def token_ids(self, captions: Sequence[str]) -> "Tensor":
        """int64 [n, 2, max_tokens]: of each text encoder, which fill up with tokens of their own."""
        options = {"padding": "max_length", "truncation": True, "max_length": self.max_tokens, "return_tensors": "pt"}
        both = (self.pipeline.tokenizer, self.pipeline.tokenizer_2)
        return torch.stack([tokenizer(list(captions), **options).input_ids for tokenizer in both], dim=1)

    def embed(self, token_ids: "Tensor") -> Text:
        pipeline = self.pipeline
        first = pipeline.text_encoder(token_ids[:, 0].to(pipeline.text_encoder.device), output_hidden_states=True)
        second = pipeline.text_encoder_2(token_ids[:, 1].to(pipeline.text_encoder_2.device), output_hidden_states=True)
        return Text(torch.cat([first.hidden_states[-2], second.hidden_states[-2]], dim=-1), second.text_embeds)

    def _beside(self, noisy: "Tensor", text: Text, sizes: "Tensor | None") -> "Mapping[str, Any]":
        assert text.pooled is not None
        if sizes is None:
            height, width = (side * self.pixels_per_latent for side in noisy.shape[2:])
            sizes = torch.tensor([[height, width, 0, 0, height, width]]).expand(len(noisy), -1)
        return {
            "added_cond_kwargs": {"text_embeds": text.pooled.to(self.device, self.dtype), "time_ids": sizes.to(self.device, self.dtype)}
        }
