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
from loraloom.train.loss import Process
from loraloom.train.noise import noise, perturbed
from loraloom.train.optimizer import rate_factor, set_rates
from loraloom.train.timesteps import timestep
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
    process: Process

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

    def losses(self, samples: Sequence[Sample], pixels: "Tensor | None" = None) -> "Tensor":
        """The weighted loss of each sample, [n]; differentiable. `pixels` [n, 1, h, w] says how much each place counts."""
        config, process = self.config, self.process
        clean = torch.stack([self.latents.draw(sample) for sample in samples])
        found = [noise(sample, tuple(clean.shape[1:]), config) for sample in samples]
        seen = torch.stack([perturbed(each, sample, config) for each, sample in zip(found, samples, strict=True)])
        timesteps = torch.stack([timestep(sample, config, process.timesteps) for sample in samples])
        predicted = self._predict(process.noisy(clean, seen, timesteps), process.heard(timesteps), samples)
        wanted = process.target(clean, torch.stack(found), timesteps).to(predicted.device)
        threshold = loss.thresholds(config.huber_schedule, config.huber_c, process, timesteps).to(predicted.device)
        distances = loss.distance(config.loss, predicted, wanted, threshold)
        return loss.per_sample(distances, self._weights(timesteps).to(predicted.device), pixels)

    def _predict(self, noisy: "Tensor", timesteps: "Tensor", samples: Sequence[Sample]) -> "Tensor":
        texts = [self.caption(sample) for sample in samples]
        if self.texts is None:
            return self.network(noisy, timesteps, token_ids=self.view.token_ids(texts), samples=samples)
        return self.network(noisy, timesteps, embeddings=self.texts.embeddings(texts), samples=samples)

    def _weights(self, timesteps: "Tensor") -> "Tensor":
        """How much each sample's timestep counts, [n]."""
        shares = self.process.alphas_cumprod[timesteps]
        if self.config.debiased_estimation:
            return loss.debiased(self.process.prediction, shares)
        return loss.min_snr(self.process.prediction, shares, self.config.min_snr_gamma)

    def caption(self, sample: Sample) -> str:
        config = self.config
        written = self.dataset.pictures[sample.picture].caption
        return captions.at_step(written, sample, trigger=config.trigger, dropout=config.caption_dropout, shuffle=config.caption_shuffle)
