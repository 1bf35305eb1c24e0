"""Drawing: what to draw, with which base and sampler, and the recipe that every picture carries."""

from loraloom.generate.infotext import Recipe, read_recipe
from loraloom.generate.request import Column, GridRequest, ImageRequest

__all__ = ["Column", "GridRequest", "ImageRequest", "Recipe", "read_recipe"]
