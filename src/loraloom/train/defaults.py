"""What a training job takes where its maker said nothing, by family. formats.md §7: what people use."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Scheduler = Literal["constant", "linear", "cosine", "cosine_with_restarts", "polynomial", "rex"]


@dataclass(frozen=True)
class Defaults:
    """Defaults of one family. Anything that follows from other settings (alpha = rank) is in `config.resolve`."""

    rank: int
    learning_rate: float  # of the denoiser; means something only together with alpha/rank
    steps: int
    batch: int
    scheduler: Scheduler = "cosine"
    warmup: float = 0.05  # of the steps
    min_snr_gamma: float = 5.0  # Hang et al. 2023, arXiv:2303.09556, §3.4
    caption_dropout: float = 0.0
    text_encoder: float = 0.5  # its learning rate, as a part of the denoiser's


DEFAULTS: Mapping[str, Defaults] = {
    # No min-SNR weights: they leave out the noisiest steps, where this base (zero terminal SNR) decides its colours. A quarter of the
    # captions is left out, because guidance draws away from what the base draws without one: where that half never learned the style,
    # colours go past the taught ones. Of 50 prompts, 26 were nearer to a taught green without dropout, 36 with 0.15, 37 with 0.35.
    "tiny": Defaults(rank=8, learning_rate=1e-3, steps=750, batch=4, min_snr_gamma=0, caption_dropout=0.25),
    "sd1": Defaults(rank=16, learning_rate=1e-4, steps=1500, batch=1),
    # As SD 1.x. Its 768 models predict velocity, for which min-SNR has a weight of its own (loss.py): the same 5.
    "sd2": Defaults(rank=16, learning_rate=1e-4, steps=1500, batch=1),
    # As many numbers in four times as many modules, and pictures of four times the size: one at a time, and the same rate for a rank of
    # 16. The text encoders learn at a tenth: two of them, the second with a vector that stands for the whole text, forget sooner.
    "sdxl": Defaults(rank=16, learning_rate=1e-4, steps=1500, batch=1, text_encoder=0.1),
    "nano": Defaults(rank=4, learning_rate=1e-3, steps=20, batch=2),
    "nanov": Defaults(rank=4, learning_rate=1e-3, steps=20, batch=2),
    "nanoxl": Defaults(rank=4, learning_rate=1e-3, steps=20, batch=2),
}
