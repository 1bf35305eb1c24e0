"""What to combine or to resize: one definition for the command line, the HTTP schema and the library. No torch."""

from typing import Annotated, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from loraloom.adapters import MAX_RANK
from loraloom.bounds import Name, Words
from loraloom.combine.goal import Goal
from loraloom.errors import SettingsError
from loraloom.settings import explain
from loraloom.tensorfile.dtypes import short_dtype

Rank = Annotated[int, Field(ge=1, le=MAX_RANK)]


class Sized(BaseModel):
    """What a new file may be: its size, type, naming and precision. Exact if neither a rank nor an error nor an energy is given."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    rank: Rank | None = None  # of every module, at most
    error: float | None = Field(default=None, ge=0, lt=1)  # of every module's change, relative (Frobenius), at most
    energy: float | None = Field(default=None, gt=0, le=1)  # the share of the squared singular values that stays, at least
    max_rank: Rank | None = None  # with an error or an energy: no rank above this
    type: Literal["lora", "lokr", "full"] | None = None  # of every adapter; None: lora, or full where an exact lora would be no thinner
    factor: int | None = Field(default=None, ge=-1, le=MAX_RANK)  # of a lokr: how large w1 may be, -1 near the square root; None: best
    dialect: Name = "kohya"
    tool: Name | None = None  # a program that reads it: its own naming instead of `dialect`
    dtype: Annotated[Literal["fp16", "bf16", "fp32"] | None, BeforeValidator(short_dtype)] = None  # None: fp32 where it is exact, else fp16

    @model_validator(mode="after")
    def _one_goal(self) -> Self:
        try:
            _ = self.goal
        except SettingsError as error:
            raise ValueError(str(error)) from error
        return self

    @property
    def goal(self) -> Goal:
        return Goal(self.rank, self.error, self.energy, self.max_rank, self.type, self.factor)

    @classmethod
    def of(cls, **values: object) -> Self:
        """The request with these values; raises SettingsError that names each mistake, instead of pydantic's error."""
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            raise SettingsError(explain(error, known=cls.model_fields)) from error


class CombineRequest(Sized):
    """A mix, or what turns `base` into `tuned`, that becomes one network. The difference of two checkpoints needs a rank, an error or an
    energy, as no exact LoRA of it is small; or the type `full`."""

    mix: Words = ""  # as a prompt writes it: tags alone
    tuned: str | None = Field(
        default=None, min_length=1, max_length=4096
    )  # instead of a mix: the base after training, a folder or a checkpoint
    components: tuple[Name, ...] | None = Field(default=None, min_length=1, max_length=100)  # None: all
    base: str | None = Field(
        default=None, min_length=1, max_length=4096
    )  # of `tuned`; in a mix for types whose change depends on its weights
    flatten: bool = False  # take the mean of strengths that change by step
    steps: int | None = Field(default=None, ge=1, le=1000)  # of the run that the mean is of; None: the base's usual number

    @model_validator(mode="after")
    def _steps_of_a_mean(self) -> Self:
        if self.steps is not None and not self.flatten:
            raise ValueError("steps: are those of a mean; ask for one with flatten, or leave them out")
        return self

    @model_validator(mode="after")
    def _one_origin(self) -> Self:
        if self.tuned is None:
            return self
        if self.mix or self.flatten:
            what = "there is a mix too" if self.mix else "flatten is for a mix"
            raise ValueError(f"tuned: {what}; a file is made of one of the two")
        if self.base is None:
            raise ValueError("tuned: give the base too, the checkpoint before it was trained")
        if self.goal.exact and self.type != "full":
            raise ValueError("tuned: give a rank or an error; the whole difference of two checkpoints (type full) is as large as they are")
        return self


class ResizeRequest(Sized):
    """One network at a smaller size. Its dtype stays what it was where none is given."""

    base: Name | None = None  # for types whose change depends on the base's weights

    @model_validator(mode="after")
    def _a_size(self) -> Self:
        if self.goal.exact:
            raise ValueError("how small? give a rank, an error or an energy; a change of type, naming or precision alone is `convert`")
        return self
