"""A training job: the only definition of it. Command-line options, web form and the saved recipe derive from `TrainConfig`."""

from collections.abc import Mapping
from typing import Any, Self

from pydantic import ConfigDict, ValidationError, model_validator

from loraloom.adapters import TYPES
from loraloom.errors import SettingsError, suggestion
from loraloom.train.config.adapters import AdapterFields
from loraloom.train.config.course import CourseFields
from loraloom.train.config.files import FileFields
from loraloom.train.config.job import JobFields
from loraloom.train.config.loss import LossFields
from loraloom.train.config.pictures import PictureFields

PARTS = (JobFields, AdapterFields, CourseFields, PictureFields, LossFields, FileFields)  # as the command's help shows them


class TrainConfig(FileFields, LossFields, PictureFields, CourseFields, AdapterFields, JobFields):
    """One run. Where a field is None the family's default counts (`resolve`)."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.conv_rank == 0 and (self.conv_alpha is not None or self.tucker):
            raise ValueError("conv_alpha and tucker need a conv_rank above 0")
        if self.text_encoder_learning_rate is not None and not any(name.startswith("text_encoder") for name in self.components):
            raise ValueError("text_encoder_learning_rate is set, but no text encoder is in components")
        if self.type not in (names := [kind.name for kind in TYPES]):
            raise ValueError(f"no adapter type {self.type!r}{suggestion(self.type, names) or '; known are ' + ', '.join(names)}")
        return self


def read_config(values: Mapping[str, Any]) -> TrainConfig:
    """A job from named values; raises SettingsError that names every wrong one."""
    try:
        return TrainConfig.model_validate(dict(values))
    except ValidationError as error:
        raise SettingsError("training options: " + "; ".join(_explain(item) for item in error.errors())) from error


def _explain(item: Any) -> str:
    name = ".".join(map(str, item["loc"]))
    if item["type"] == "extra_forbidden":
        return f"there is no option {name!r}{suggestion(name, TrainConfig.model_fields)}"
    if item["type"] == "missing":
        return f"{name} is missing: {TrainConfig.model_fields[name].description}"
    reason = item["msg"].removeprefix("Value error, ").removeprefix("Input ")
    return f"{name} = {item['input']!r} {reason}" if name else reason
