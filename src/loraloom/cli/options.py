"""Options that several commands share: one name, one help text."""

from collections.abc import Callable, Collection
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import typer

from loraloom.errors import SettingsError
from loraloom.tensorfile.dtypes import named_dtype

Negative = Annotated[str, typer.Option("--negative", help="What the picture should not show.")]
Seed = Annotated[int | None, typer.Option(help="The same seed gives the same picture. -1: random. (default: random)", show_default=False)]
Steps = Annotated[int | None, typer.Option(help="Sampler steps. (default: the base's own)", show_default=False)]
Guidance = Annotated[float | None, typer.Option(help="How closely to follow the prompt. (default: the base's own)", show_default=False)]
Width = Annotated[int | None, typer.Option(help="Pixels, a multiple of 8. (default: the base's own)", show_default=False)]
Height = Annotated[int | None, typer.Option(help="Pixels, a multiple of 8. (default: the base's own)", show_default=False)]
Sampler = Annotated[str | None, typer.Option(help='Such as "Euler a" or "DPM++ 2M Karras". (default: the base\'s own)', show_default=False)]
Base = Annotated[
    str | None,
    typer.Option(
        help="tiny (embedded), a folder in diffusers' layout, a .safetensors checkpoint, or a name on the hub.", show_default=False
    ),
]
LoraFolder = Annotated[list[Path] | None, typer.Option("--lora-folder", help="A folder of LoRAs, at any depth; may be repeated.")]
FollowLinks = Annotated[
    bool, typer.Option("--follow-links", help="Links in the library may lead out of its folders. (default: the setting)")
]
Mode = Annotated[Literal["auto", "merge", "branch"], typer.Option(help="How LoRAs run: added into the weights, or beside them.")]
Loader = Annotated[
    Literal["auto", "native", "diffusers"] | None,
    typer.Option(
        help="Who runs LoRAs: the native engine where it knows the base (auto), or diffusers. (default: the setting)", show_default=False
    ),
]
Force = Annotated[bool, typer.Option("--force", help="Use LoRAs that were made for another base, where shapes fit.")]
Strict = Annotated[bool, typer.Option("--strict", help="Refuse a LoRA of which a part does not fit.")]
SkipMissing = Annotated[bool, typer.Option("--skip-missing", help="Draw without the LoRAs that are not there, and say which.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace the file that --output names.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document and nothing else.")]
Rank = Annotated[int | None, typer.Option(help="One rank for every module.", show_default=False)]
Error = Annotated[
    float | None, typer.Option(help="The smallest rank for each module whose change is within this: 0.01.", show_default=False)
]
Energy = Annotated[
    float | None, typer.Option(help="The smallest rank for each module that keeps this share of the squares: 0.99.", show_default=False)
]
MaxRank = Annotated[int | None, typer.Option(help="With --error or --energy: no rank above this.", show_default=False)]
Type = Annotated[
    Literal["lora", "lokr", "full"] | None, typer.Option("--type", "--as", help="Make every adapter this.", show_default=False)
]
Factor = Annotated[
    int | None, typer.Option(help="For lokr: how large w1 may be, -1 near the square root. (default: the best)", show_default=False)
]


def number_format(word: str) -> str:
    """fp16, bf16 or fp32, by any of the names that people have for it."""
    try:
        return str(named_dtype(word))
    except SettingsError as error:
        raise typer.BadParameter(str(error)) from error


Dialect = Annotated[str, typer.Option(help="How its tensors are named: kohya, peft, ...")]
Tool = Annotated[
    str | None,
    typer.Option(
        "--for",
        help="Write it as this program reads it: comfyui, forge, sdnext, invokeai, kohya (sd-scripts), diffusers, peft, lycoris.",
        show_default=False,
    ),
]
Plain = Annotated[bool, typer.Option("--plain", help="As plain LoRA factors: cores are folded, biases and norms left out and named.")]
NewFile = Annotated[
    str, typer.Argument(help="The new file: a name in your library, or a path such as ./ink.safetensors.", show_default=False)
]
Replace = Annotated[bool, typer.Option("--overwrite", help="Replace what is there.")]
WeightsOf = Annotated[
    str | None, typer.Option("--base", help="The base, for types whose change depends on its weights.", show_default=False)
]
Plot = Annotated[str | None, typer.Option(help="Draw the error and rank of each module here: a .png file.", show_default=False)]


_Made = TypeVar("_Made")
# Where an option is not called as its field.
_CALLED = {
    "negative_prompt": "--negative",
    "prompt": "PROMPT",
    "prompts": "PROMPT",
    "loras": "--lora",
    "columns": "--column",
    "kind": "--type",
}


def asked(make: Callable[..., _Made], **values: Any) -> _Made:
    """What `make` makes of these fields of a request; a mistake in one has the name of its option."""
    try:
        return make(**values)
    except SettingsError as error:
        raise SettingsError("\n".join(_in_options(line, values) for line in str(error).splitlines()), fields=error.fields) from error


def _in_options(line: str, fields: Collection[str]) -> str:
    """`seed: ...` as `--seed: ...`"""
    field, colon, rest = line.partition(":")
    name = field.partition(".")[0]
    return f"{_CALLED.get(name, '--' + name.replace('_', '-'))}{colon}{rest}" if colon and name in fields else line
