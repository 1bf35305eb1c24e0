"""Where checkpoints of one file keep a base's tensors: CompVis' and Stability's layout, which the WebUI and ComfyUI read. Names only.

Each component stands under a prefix of its own. The UNet has its original names there (`Layer.original`), CLIP those of transformers,
and OpenCLIP its own, in which q, k and v are one tensor and some tensors are transposed.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple


class Place(NamedTuple):
    """Where a parameter stands."""

    key: str
    part: int | None = None  # which third of the tensor's rows it is: of q, k and v in one
    turned: bool = False  # the tensor is its transpose


@dataclass(frozen=True)
class Kept:
    """One component in a checkpoint of one file."""

    prefix: str  # of its keys
    renamed: Mapping[str, Place] = field(default_factory=dict, repr=False)  # all its parameters, where names are not transformers' own

    def places(self, module: str, original: str | None, parameter: str) -> tuple[Place, ...]:
        """Every way to spell a parameter ("weight", "bias") of a module. Empty where this layout does not have it."""
        if self.renamed:
            found = self.renamed.get(f"{module}.{parameter}")
            return () if found is None else (found._replace(key=self.prefix + found.key),)
        names = (original,) if original is not None else (module, module.removeprefix("text_model."))
        return tuple(Place(f"{self.prefix}{name}.{parameter}") for name in names)


UNET = Kept("model.diffusion_model.")
CLIP = Kept("cond_stage_model.transformer.")  # of Stable Diffusion 1.x
CLIP_OF_TWO = Kept("conditioner.embedders.0.transformer.")  # of SDXL
OPENCLIP = "cond_stage_model.model."  # of Stable Diffusion 2.x
OPENCLIP_OF_TWO = "conditioner.embedders.1.model."  # of SDXL
