"""A training job: the only definition of it. Command-line options, web form and the saved recipe derive from `TrainConfig`."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Self, get_args

from pydantic import ConfigDict, ValidationError, ValidationInfo, field_validator, model_validator

from loraloom.bases.base import TEXT_ENCODERS
from loraloom.errors import SettingsError, suggestion
from loraloom.train.config.adapters import AdapterFields
from loraloom.train.config.captions import CaptionFields
from loraloom.train.config.course import CourseFields
from loraloom.train.config.files import FileFields
from loraloom.train.config.job import JobFields
from loraloom.train.config.kohya import REMARKS, understood
from loraloom.train.config.loss import LossFields
from loraloom.train.config.memory import MemoryFields
from loraloom.train.config.pictures import PictureFields
from loraloom.train.config.recipe import Recipe, read_recipe, trained_type
from loraloom.train.config.rule import Rule, read_rule
from loraloom.train.config.validation import ValidationFields
from loraloom.train.presets import PRESETS

# As the command's help shows them.
PARTS = (
    JobFields,
    AdapterFields,
    CourseFields,
    PictureFields,
    CaptionFields,
    LossFields,
    MemoryFields,
    ValidationFields,
    FileFields,
)


class TrainConfig(
    FileFields, ValidationFields, MemoryFields, LossFields, CaptionFields, PictureFields, CourseFields, AdapterFields, JobFields
):
    """One run. Where a field is None the family's default counts (`resolve`)."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _true_is_no_number(cls, value: object, info: ValidationInfo) -> object:
        field = cls.model_fields[info.field_name or ""]
        if isinstance(value, bool) and bool not in (field.annotation, *get_args(field.annotation)):
            raise ValueError(f"is {str(value).lower()}, which only a switch can be")
        return value

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.conv_rank == 0 and (self.conv_alpha is not None or self.tucker) and not self.targets:
            raise ValueError("conv_alpha and tucker need a conv_rank above 0, or targets")
        if self.text_encoder_learning_rate is not None and "components" in self.model_fields_set and not self._names_text_encoder:
            raise ValueError(f"text_encoder_learning_rate is set, but components has no text encoder; {TEXT_ENCODERS} names them all")
        if self.validation and self.validation_share:
            raise ValueError("validation and validation_share exclude one another: is a folder meant, or a part of the pictures?")
        if self.validate_every is not None and not (self.validation or self.validation_share):
            raise ValueError("validate_every needs validation, a folder, or a validation_share above 0")
        if len(set(self.dialects)) < len(self.dialects):
            raise ValueError(f"dialects has one of {', '.join(self.dialects)} twice")
        if self.preset and self.preset not in PRESETS:
            raise ValueError(f"no preset {self.preset!r}{suggestion(self.preset, PRESETS) or '; known are ' + ', '.join(PRESETS)}")
        try:
            for rule in self.rules:
                trained_type(self.completed(rule.recipe) if rule.recipe else self.recipe)
            trained_type(self.recipe)
        except SettingsError as error:
            raise ValueError(str(error)) from error
        if not self.buckets and (self.no_upscale or self.bucket_step or self.bucket_min or self.bucket_max):
            raise ValueError("no_upscale, bucket_step, bucket_min and bucket_max need buckets")
        if self.caption and self.caption_from_name:
            raise ValueError("caption and caption_from_name exclude one another: is one caption meant, or that of each file's name?")
        if self.mask_background and not self.masks:
            raise ValueError("mask_background needs masks")
        if self.regularization_weight != 1 and not self.regularization:
            raise ValueError("regularization_weight needs regularization pictures")
        return self

    @property
    def _names_text_encoder(self) -> bool:
        return any(name.startswith(TEXT_ENCODERS) for name in self.components)

    def said(self) -> dict[str, Any]:
        """What this job says itself, by field: neither a default nor None."""
        return {name: value for name, value in self.model_dump(exclude_unset=True).items() if value is not None}

    @property
    def recipe(self) -> Recipe:
        """The job's type and its options. Raises SettingsError."""
        found = read_recipe(self.type)
        if found.rank or found.alpha or found.lr_factor:
            raise SettingsError(f"type = {self.type!r}: rank, alpha and learning rate of the job have options of their own")
        return replace(found, dora=self.dora or found.dora)

    @property
    def rules(self) -> tuple[Rule, ...]:
        """What `targets` say. Raises SettingsError."""
        return tuple(read_rule(text, self.recipe) for text in self.targets)

    def completed(self, recipe: Recipe) -> Recipe:
        """A target's recipe, with the job's type and options where it names no type, and the job's DoRA where it says nothing."""
        job = self.recipe
        if recipe.kind is None or recipe.kind is job.kind:
            recipe = replace(recipe, kind=job.kind, options={**job.options, **recipe.options})
        dora = job.dora and recipe.kind is not None and recipe.kind.name != "norm"
        return replace(recipe, dora=dora if recipe.dora is None else recipe.dora)


def read_config(values: Mapping[str, Any], where: Callable[[str], str] = lambda _: "") -> TrainConfig:
    """A job from named values; raises SettingsError that names every wrong one. `where` says in front of a name where it stands."""
    try:
        return TrainConfig.model_validate(understood(values))
    except ValidationError as error:
        raise SettingsError("training options: " + "; ".join(_explain(item, where) for item in error.errors())) from error


def _explain(item: Any, where: Callable[[str], str]) -> str:
    name = ".".join(map(str, item["loc"]))
    place = where(str(item["loc"][0])) if item["loc"] else ""
    if item["type"] == "extra_forbidden" and name in REMARKS:
        return f"{place}{name} is an option of kohya's trainer; here: {REMARKS[name]}"
    if item["type"] == "extra_forbidden":
        return f"{place}there is no option {name!r}{suggestion(name, TrainConfig.model_fields)}"
    if item["type"] == "missing":
        return f"{name} is missing: {TrainConfig.model_fields[name].description}"
    reason = item["msg"].removeprefix("Value error, ").removeprefix("Input ")
    return f"{place}{name} = {item['input']!r} {reason}" if name else reason
