"""Named features of a picture's style, and a judge that tells two styles apart by them.

Three families: a colour histogram; statistics of edges and gradients; Gram matrices of a seeded random convolutional
network (Gatys et al. 2015, arXiv:1508.06576; random filters suffice: Ustyuzhaninov et al. 2016, arXiv:1606.00021). The judge is
Fisher's linear discriminant with a shrunk covariance, that is the nearest centroid in whitened feature space.
"""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

Pictures = NDArray[np.uint8]  # [n, 64, 64, 3]
Features = NDArray[np.float64]  # [n, features]


def color_histogram(pictures: Pictures) -> Features:
    """Square roots of the shares of 4×4×4 colours, the white ground left out; [n, 64]."""
    bins = (pictures // 64).astype(np.int64)
    codes = (bins[..., 0] * 16 + bins[..., 1] * 4 + bins[..., 2]).reshape(len(pictures), -1)
    ground = (pictures > 245).all(-1).reshape(len(pictures), -1)
    counts = np.stack([np.bincount(code[~white], minlength=64) for code, white in zip(codes, ground, strict=True)])
    return np.asarray(np.sqrt(counts / np.maximum(1, counts.sum(1, keepdims=True))))


def gradients(pictures: Pictures) -> Features:
    """Histogram of gradient strength (10 bins), the mean and spread of luminance and saturation at edges and off them; [n, 18]."""
    values = pictures.astype(np.float64) / 255
    luminance = values @ np.array([0.299, 0.587, 0.114])
    saturation = values.max(-1) - values.min(-1)
    strength = np.hypot(np.diff(luminance, axis=1)[:, :, :-1], np.diff(luminance, axis=2)[:, :-1])
    edges = np.array([0, 0.005, 0.01, 0.02, 0.04, 0.08, 0.15, 0.25, 0.4, 0.6, 2.0])
    shares = np.stack([np.histogram(one, edges)[0] / one.size for one in strength])
    found = []
    for light, color, slope in zip(luminance[:, :-1, :-1], saturation[:, :-1, :-1], strength, strict=True):
        drawn = light < 0.97
        parts = (slope > 0.15, (slope < 0.02) & drawn)
        found.append([stat for part in parts for value in (light, color) for stat in _mean_and_spread(value[part])])
    return np.concatenate([np.sqrt(shares), np.array(found)], axis=1)


def _mean_and_spread(values: NDArray[np.float64]) -> tuple[float, float]:
    return (float(values.mean()), float(values.std())) if values.size else (0.0, 0.0)


def gram_matrices(pictures: Pictures, seed: int = 0) -> Features:
    """Upper triangles of the Gram matrices of two random convolution layers, log-scaled; [n, 272]."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.from_numpy(pictures).permute(0, 3, 1, 2).double() / 127.5 - 1
    found = []
    for channels in (3, 16):
        filters = torch.randn(16, channels, 3, 3, generator=generator, dtype=torch.double) / (channels * 9) ** 0.5
        x = F.relu(F.conv2d(x, filters, stride=len(found) + 1))
        flat = x.flatten(2)
        gram = flat @ flat.transpose(1, 2) / flat.shape[-1]
        rows, columns = torch.triu_indices(16, 16)
        found.append(torch.log(gram[:, rows, columns] + 1e-4))
    return np.asarray(torch.cat(found, 1).numpy())


FEATURES = {"colour histogram": color_histogram, "edges and gradients": gradients, "Gram matrices": gram_matrices}


def features(pictures: Pictures) -> Features:
    return np.concatenate([feature(pictures) for feature in FEATURES.values()], axis=1)


@dataclass(frozen=True)
class Judge:
    """Tells style B from style A; fitted on real pictures of both."""

    mean: Features
    scale: Features
    axes: Features  # principal axes, [features, kept]
    direction: Features
    middle: float

    @classmethod
    def fit(cls, style_a: Pictures, style_b: Pictures, *, kept: int = 40, shrinkage: float = 0.2) -> "Judge":
        a, b = features(style_a), features(style_b)
        both = np.concatenate([a, b])
        mean, scale = both.mean(0), both.std(0) + 1e-6
        _, _, axes = np.linalg.svd((both - mean) / scale, full_matrices=False)
        axes = axes[:kept].T
        a, b = ((part - mean) / scale @ axes for part in (a, b))
        within = np.cov(np.concatenate([a - a.mean(0), b - b.mean(0)]).T)
        within = (1 - shrinkage) * within + shrinkage * np.trace(within) / len(within) * np.eye(len(within))
        direction = np.linalg.solve(within, b.mean(0) - a.mean(0))
        return cls(mean, scale, axes, direction, float((a.mean(0) + b.mean(0)) @ direction / 2))

    def nearer_to_b(self, pictures: Pictures) -> NDArray[np.bool_]:
        """[n] true where a picture is nearer to style B than to style A."""
        scores = (features(pictures) - self.mean) / self.scale @ self.axes @ self.direction
        return np.asarray(scores > self.middle)
