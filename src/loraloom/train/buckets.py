"""Buckets: a few shapes of about the same area, so that pictures keep theirs and a batch still has one.

Podell et al. 2023, arXiv:2307.01952, §2.3 (multi-aspect training); the shapes are those that kohya's trainer makes.
"""

import math
from dataclasses import dataclass
from functools import cached_property

from loraloom.errors import SettingsError
from loraloom.train.config import ResolvedConfig
from loraloom.train.pictures import Shape


@dataclass(frozen=True)
class Buckets:
    """Sides are multiples of `step` between `least` and `most`; the area is at most `resolution`²."""

    resolution: int
    step: int
    least: int
    most: int
    upscale: bool = True  # pictures that are smaller than their bucket

    @classmethod
    def of(cls, job: ResolvedConfig) -> "Buckets | None":
        """None where every picture is cut to a square. Raises SettingsError for sides that leave no shape."""
        if not job.buckets:
            return None
        made = cls(job.resolution, job.bucket_step, job.bucket_min, job.bucket_max, not job.no_upscale)
        if not made.shapes:
            raise SettingsError(
                f"buckets: no shape has sides from {made.least} to {made.most} that are multiples of {made.step}, and at most "
                f"{made.resolution}² pixels; give another bucket_min, bucket_max or bucket_step"
            )
        return made

    @cached_property
    def shapes(self) -> tuple[Shape, ...]:
        """For each width the greatest height, and their mirror images; from tall to wide."""
        found: set[Shape] = set()
        for width in range(-(-self.least // self.step) * self.step, self.most + 1, self.step):
            height = min(self.resolution**2 // width, self.most) // self.step * self.step
            if height >= self.least:
                found |= {(width, height), (height, width)}
        return tuple(sorted(found, key=lambda shape: (shape[0] / shape[1], shape)))

    def shape_for(self, size: Shape) -> Shape:
        """The shape whose aspect is nearest, of several the largest. Without upscaling a picture that does not fill it keeps its own
        size, cut to multiples of `step`; one `step` is the least."""
        aspect = math.log(size[0] / size[1])
        nearest = min(self.shapes, key=lambda shape: (round(abs(math.log(shape[0] / shape[1]) - aspect), 9), -shape[0] * shape[1]))
        if self.upscale or (size[0] >= nearest[0] and size[1] >= nearest[1]):
            return nearest
        width, height = (min(max(self.step, side // self.step * self.step), self.most) for side in size)
        return width, height


def aspect_error(size: Shape, shape: Shape) -> float:
    """|width/height of the picture − that of its shape|, as ss_bucket_info counts it."""
    return abs(size[0] / size[1] - shape[0] / shape[1])


def lost(size: Shape, shape: Shape) -> float:
    """The part of the picture that is cut off, 0..1."""
    ours, theirs = size[0] / size[1], shape[0] / shape[1]
    return 1 - min(ours, theirs) / max(ours, theirs)
