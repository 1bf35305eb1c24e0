"""One step: samples to a batch, a batch to losses, losses to gradients, gradients to the adapters' tensors."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from loraloom.lazy import torch
from loraloom.train import captions, health, loss, norms
from loraloom.train.cache import Latents, TextCache
from loraloom.train.chance import Order, Sample
from loraloom.train.config import ResolvedConfig
from loraloom.train.dataset import Dataset
from loraloom.train.optimizer import rate_factor, set_rates
from loraloom.train.view import View

if TYPE_CHECKING:
    from torch import Tensor
    from torch.optim import Optimizer

    from loraloom.train.trainable import Trainable


@dataclass(frozen=True)
class Stepper:
    """Everything that a step needs. A step depends on its number, the tensors and the optimiser alone."""

    config: ResolvedConfig
    view: View
    network: "Trainable"
    optimizer: "Optimizer"
    dataset: Dataset
    order: Order
    latents: Latents
    texts: TextCache | None  # None: the text encoder is trained, captions go through it at every step
    alphas_cumprod: "Tensor"  # float32 [timesteps] on the CPU

    def step(self, number: int, *, check: bool) -> tuple[float, float]:
        """(mean loss, learning rate) of step `number`. Raises TrainingError; `check` looks whether every target has a gradient."""
        config, samples = self.config, self.order.samples(number, self.config.per_step)
        names = [self.dataset.pictures[sample.picture].name for sample in samples]
        set_rates(self.optimizer, rate_factor(config, number))
        self.optimizer.zero_grad(set_to_none=True)
        losses: list[Tensor] = []
        with self.network.attached():
            for start in range(0, len(samples), config.batch):
                part = samples[start : start + config.batch]
                each = self.losses(part)
                health.check_loss(each, names[start : start + config.batch], number)
                torch.autograd.backward(each.sum() / config.per_step)
                losses.append(each.detach())
        if check:
            health.check_gradients(self.network, number)
        norm = torch.nn.utils.clip_grad_norm_(self.network.parameters(), config.max_grad_norm or float("inf"))
        health.check_norm(norm, names, number)
        self.optimizer.step()
        if config.max_norm:
            norms.limit_norms(self.network, config.max_norm)
        return float(torch.cat(losses).mean()), float(self.optimizer.param_groups[0]["lr"])

    def losses(self, samples: Sequence[Sample]) -> "Tensor":
        """The weighted loss of each sample, [n]; differentiable."""
        clean = torch.stack([self.latents.draw(sample) for sample in samples])
        noise = torch.stack([self._noise(sample, tuple(clean.shape[1:])) for sample in samples])
        timesteps = torch.stack([torch.randint(len(self.alphas_cumprod), (), generator=each.generator("timestep")) for each in samples])
        alphas, prediction = self.alphas_cumprod[timesteps], self.view.prediction
        texts = [self.caption(sample) for sample in samples]
        noisy = loss.noisy(clean, noise, alphas)
        if self.texts is None:
            predicted = self.network(noisy, timesteps, token_ids=self.view.token_ids(texts), samples=samples)
        else:
            predicted = self.network(noisy, timesteps, embeddings=self.texts.embeddings(texts), samples=samples)
        wanted = loss.target(prediction, clean, noise, alphas).to(predicted.device)
        weights = loss.min_snr_weights(prediction, alphas, self.config.min_snr_gamma).to(predicted.device)
        return loss.per_sample(predicted, wanted, weights)

    def caption(self, sample: Sample) -> str:
        config = self.config
        written = self.dataset.pictures[sample.picture].caption
        return captions.at_step(written, sample, trigger=config.trigger, dropout=config.caption_dropout, shuffle=config.caption_shuffle)

    def _noise(self, sample: Sample, shape: tuple[int, ...]) -> "Tensor":
        """White noise, with a little of the same for a whole channel: Guttenberg 2023, "Diffusion with Offset Noise"."""
        noise = torch.randn(shape, generator=sample.generator("noise"))
        if not self.config.noise_offset:
            return noise
        return noise + self.config.noise_offset * torch.randn(shape[0], 1, 1, generator=sample.generator("noise offset"))
