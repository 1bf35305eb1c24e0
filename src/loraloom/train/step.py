"""One step: samples to a batch, a batch to losses, losses to gradients, gradients to the adapters' tensors."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from loraloom.adapters import Adapter
from loraloom.bases import Target
from loraloom.lazy import torch
from loraloom.train import health, loss, norms, precision
from loraloom.train.average import Average
from loraloom.train.cache import Latents, TextCache
from loraloom.train.chance import Sample
from loraloom.train.checkpoint import State
from loraloom.train.config import ResolvedConfig
from loraloom.train.dataset import Dataset
from loraloom.train.loss import Process
from loraloom.train.noise import noise, perturbed
from loraloom.train.optimizers import state
from loraloom.train.optimizers.course import rate_factor
from loraloom.train.optimizers.make import evaluated, rate, set_rates
from loraloom.train.order import Order
from loraloom.train.timesteps import timestep
from loraloom.train.view import View
from loraloom.train.wording import Wording

if TYPE_CHECKING:
    from torch import Tensor
    from torch.amp import GradScaler
    from torch.optim import Optimizer

    from loraloom.train.trainable import Trainable

_AVERAGE = "average."  # before the names of the average's tensors in a state


@dataclass(frozen=True)
class Stepper:
    """Everything that a step needs. A step depends on its number, the tensors and what `taken` gives alone."""

    config: ResolvedConfig
    view: View
    network: "Trainable"
    optimizer: "Optimizer"
    scaler: "GradScaler"
    average: Average | None
    dataset: Dataset
    order: Order
    latents: Latents
    texts: TextCache | None  # None: the text encoder is trained, captions go through it at every step
    process: Process
    sentinel: health.Sentinel = field(default_factory=health.Sentinel)
    abandonable: Callable[[], AbstractContextManager[None]] = nullcontext  # around what changes nothing that lasts

    def step(self, number: int) -> tuple[float, float]:
        """(mean loss, learning rate) of step `number`. Raises TrainingError for what is not a number, and where no gradient arrives."""
        config, samples = self.config, self.order.samples(number, self.config.batch, self.config.accumulate)
        names = [self.dataset.pictures[sample.picture].name for sample in samples]
        set_rates(self.optimizer, rate_factor(config, number))
        self.optimizer.zero_grad(set_to_none=True)
        losses: list[Tensor] = []
        with self.network.attached(), self.abandonable():
            for start in range(0, len(samples), config.batch):
                part = samples[start : start + config.batch]
                each = self.losses(part)
                health.check_loss(each, names[start : start + config.batch], number)
                torch.autograd.backward(self.scaler.scale(each.sum() / config.per_step))
                losses.append(each.detach())
        self._update(number, names)
        return float(torch.cat(losses).mean()), rate(self.optimizer)

    def _update(self, number: int, names: Sequence[str]) -> None:
        """From gradients to tensors. A step in which float16 overflows changes nothing but the scale of the next ones."""
        self.scaler.unscale_(self.optimizer)
        norm = torch.nn.utils.clip_grad_norm_(self.network.parameters(), self.config.max_grad_norm or float("inf"))
        overflown = self.scaler.is_enabled() and not bool(norm.isfinite())
        if overflown:
            self.sentinel.overflown(self.scaler.get_scale(), names, number)
        else:
            self.sentinel.look(self.network, number)
            health.check_norm(norm, names, number)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        if overflown:
            return
        if self.config.max_norm:
            norms.limit_norms(self.network, self.config.max_norm)
        if self.average is not None:
            self.average.update(number)

    def published(self) -> "Mapping[Target, Adapter]":
        """The adapters as a file holds them: averaged where the job or the optimiser averages. Copies on the CPU; nothing moves."""
        if self.average is not None:
            return self.average.snapshot()
        with evaluated(self.optimizer):
            return self.network.snapshot()

    def taken(self) -> "tuple[dict[str, Tensor], dict[str, Any]]":
        """What a run that goes on needs beside the adapters: the optimiser's tensors and the average's, and numbers as JSON."""
        tensors, numbers = state.taken(self.optimizer)
        averages = {} if self.average is None else {f"{_AVERAGE}{name}": tensor for name, tensor in self.average.values.items()}
        return tensors | averages, numbers | {"scaler": self.scaler.state_dict()}

    def restore(self, saved: State) -> None:
        """Everything as it was after step `saved.step`."""
        for target, name, parameter in self.network.slots():
            parameter.data.copy_(saved.adapters[f"{target}.{name}"])
        averages = {name.removeprefix(_AVERAGE): tensor for name, tensor in saved.moments.items() if name.startswith(_AVERAGE)}
        moments = {name: tensor for name, tensor in saved.moments.items() if not name.startswith(_AVERAGE)}
        state.given_back(self.optimizer, moments, saved.optimizer)
        if self.scaler.is_enabled():
            self.scaler.load_state_dict(dict(saved.optimizer["scaler"]))
        if self.average is not None:
            self.average.restore(averages)

    def losses(self, samples: Sequence[Sample]) -> "Tensor":
        """The weighted loss of each sample, all of one shape, [n]; differentiable."""
        config, process = self.config, self.process
        clean = torch.stack([self.latents.draw(sample) for sample in samples])
        found = [noise(sample, tuple(clean.shape[1:]), config) for sample in samples]
        seen = torch.stack([perturbed(each, sample, config) for each, sample in zip(found, samples, strict=True)])
        timesteps = torch.stack([timestep(sample, config, process.timesteps) for sample in samples])
        predicted = self._predict(process.noisy(clean, seen, timesteps), process.heard(timesteps), samples)
        wanted = process.target(clean, torch.stack(found), timesteps).to(predicted.device)
        threshold = loss.thresholds(config.huber_schedule, config.huber_c, process, timesteps).to(predicted.device)
        distances = loss.distance(config.loss, predicted, wanted, threshold)
        importance = torch.tensor([self._importance(sample) for sample in samples])
        places = self.latents.weights(samples)
        weights = (self._weights(timesteps) * importance).to(predicted.device)
        return loss.per_sample(distances, weights, None if places is None else places.to(predicted.device))

    def _predict(self, noisy: "Tensor", timesteps: "Tensor", samples: Sequence[Sample]) -> "Tensor":
        """In mixed precision where that is asked for; float32."""
        texts = [self.caption(sample) for sample in samples]
        told = {"token_ids": self.view.token_ids(texts)} if self.texts is None else {"embeddings": self.texts.embeddings(texts)}
        with precision.autocast(self.config, self.view):
            predicted: Tensor = self.network(noisy, timesteps, sizes=self.latents.sizes(samples), samples=samples, **told)
        return predicted

    def _weights(self, timesteps: "Tensor") -> "Tensor":
        """How much each sample's timestep counts, [n]."""
        shares = self.process.alphas_cumprod[timesteps]
        if self.config.debiased_estimation:
            return loss.debiased(self.process.prediction, shares)
        return loss.min_snr(self.process.prediction, shares, self.config.min_snr_gamma)

    def caption(self, sample: Sample) -> str:
        return Wording.of(self.config).at_step(self.dataset.pictures[sample.picture].caption_of(sample), sample)

    def _importance(self, sample: Sample) -> float:
        """How much the loss of this sample's picture counts."""
        return self.config.regularization_weight if self.dataset.pictures[sample.picture].folder.regular else 1.0
