"""What a field of a job is called on the command line, where that is not its own name."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Flags:
    """`learning_rate: Annotated[float | None, Flags("--lr", "--learning-rate")]`."""

    names: tuple[str, ...]

    def __init__(self, *names: str) -> None:
        object.__setattr__(self, "names", names)
