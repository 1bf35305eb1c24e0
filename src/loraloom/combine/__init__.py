"""LoRAs -> LoRA: the same change in another form."""

from loraloom.combine.convert import TYPES, as_type, commonest_dtype, rounding

__all__ = ["TYPES", "as_type", "commonest_dtype", "rounding"]
