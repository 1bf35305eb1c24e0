"""What to draw: one definition for the command line, the HTTP schema and the recipe in the picture. No torch."""

import secrets
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from loraloom.bounds import Name, Text, Words
from loraloom.errors import SettingsError, suggestion
from loraloom.generate.samplers import SAMPLERS, called
from loraloom.prompts import LoraTag
from loraloom.schedule import Schedule
from loraloom.settings import explain

MAX_SEED = 2**53  # whole in JavaScript and JSON readers; the seeds of a batch count up from the first
MAX_SIDE = 8192
MAX_CELLS = 1024  # of a grid


def random_seed() -> int:
    """A seed for who gave none: short enough to read out."""
    return secrets.randbelow(2**32)


def _random(seed: int | None) -> int | None:
    """-1 means a random seed to every tool."""
    return None if seed == -1 else seed


def _eights(side: int) -> int:
    if side % 8:
        raise ValueError(f"sides are multiples of 8; take {side // 8 * 8 or 8} or {side // 8 * 8 + 8} instead of {side}")
    return side


MAX_ENCODED = 64 * 2**20  # characters of a picture
Encoded = Annotated[str, Field(min_length=1, max_length=MAX_ENCODED)]  # PNG, JPEG or WebP as base64 or as a data URI
Side = Annotated[int, Field(ge=8, le=MAX_SIDE), AfterValidator(_eights)]


class Drawing(BaseModel):
    """What every job that draws has. None: the base's own default."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    negative_prompt: Words = ""
    seed: Annotated[int | None, AfterValidator(_random)] = Field(default=None, ge=-1, le=MAX_SEED)  # None or -1: a random one
    steps: int | None = Field(default=None, ge=1, le=1000)
    guidance: float | None = Field(default=None, ge=0, le=100, allow_inf_nan=False)
    width: Side | None = None  # pixels
    height: Side | None = None  # pixels
    sampler: Name | None = None  # a name of SAMPLERS; None: what the base comes with
    base: Name | None = None  # "tiny", "nano", a folder, a checkpoint file, owner/name on the hub; None: the setting
    mode: Literal["auto", "merge", "branch"] = "auto"
    loader: Literal["auto", "native", "diffusers"] | None = None  # who runs the LoRAs; None: the setting
    force: bool = False  # run LoRAs of another family where shapes fit
    strict: bool = False  # refuse LoRAs of which a part does not fit
    lenient: bool = False  # mistakes in prompts and unknown LoRAs are notes, and the rest is drawn
    skip_missing: bool = False  # unknown LoRAs are notes, and the rest is drawn

    @field_validator("sampler")
    @classmethod
    def _known_sampler(cls, name: str | None) -> str | None:
        if name is None or (known := called(name)):
            return name and known
        raise ValueError(f'no sampler "{name}"{suggestion(name, SAMPLERS) or "; there are " + ", ".join(SAMPLERS)}')

    @classmethod
    def of(cls, **values: Any) -> Self:
        """The request with these values; raises SettingsError that names each mistake, instead of pydantic's error."""
        try:
            return cls(**values)
        except ValidationError as error:
            raise SettingsError(explain(error, known=cls.model_fields)) from error


class ImageRequest(Drawing):
    """One prompt, one picture or several: picture i has the seed `seed + i` and equals the one drawn alone with that seed."""

    prompt: Words
    pictures: int = Field(default=1, ge=1, le=1000)
    image: Encoded | None = None  # what to begin with instead of noise; without width and height its size counts
    mask: Encoded | None = None  # what of `image` is drawn anew: white is, black stays
    denoise: float = Field(default=0.75, gt=0, le=1)  # how far from `image`: the part of the steps that is run

    @model_validator(mode="after")
    def _mask_of_something(self) -> Self:
        if self.mask is not None and self.image is None:
            raise ValueError("a mask needs an image that it belongs to")
        return self


class Column(BaseModel):
    """A column of a grid: these tags are added to every row's prompt."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    label: Annotated[Text, Field(max_length=1000)]
    tags: Words = ""


class GridRequest(Drawing):
    """Every prompt with every column. The first column is the base alone; then `loras` at each of `strengths`, then `columns`.

    Every cell is what an ImageRequest with the cell's prompt and this seed draws.
    """

    prompts: tuple[Words, ...] = Field(min_length=1)
    loras: tuple[Name, ...] = ()  # names as in a tag
    strengths: tuple[Annotated[float, Field(allow_inf_nan=False, ge=-1e6, le=1e6)], ...] = (0.5, 1.0)
    columns: tuple[Column, ...] = ()

    @property
    def all_columns(self) -> tuple[Column, ...]:
        """In order, none twice. Strength 0 is the first column already."""
        made = [
            Column(label=f"{name} {strength:g}", tags=str(LoraTag(name, Schedule.of(strength))))
            for name in dict.fromkeys(self.loras)
            for strength in dict.fromkeys(self.strengths)
            if strength != 0
        ]
        return (Column(label="base"), *made, *(column for column in self.columns if column.tags))

    @model_validator(mode="after")
    def _not_too_large(self) -> Self:
        cells = len(self.prompts) * len(self.all_columns)
        if cells > MAX_CELLS:
            raise ValueError(f"{len(self.prompts)} prompts × {len(self.all_columns)} columns are {cells} pictures; at most {MAX_CELLS}")
        return self
