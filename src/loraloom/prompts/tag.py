"""One LoRA tag of a prompt, and its text: `<lora:ink:0.8>`, `<lora:"odd: name":te=0.5:mid=0>`."""

import re
from dataclasses import dataclass, field, replace

from loraloom.prompts.nearly import INVISIBLE
from loraloom.schedule import Schedule, number
from loraloom.strength import LBW_PRESETS, Strength

# A name without quotes ends at the first colon, save for the one of `hf:owner/repo` and of a drive letter.
UNQUOTED_NAME = re.compile(r"hf:[^:/<>]+/[^:<>]*|[A-Za-z]:[\\/][^:<>]*|[^:<>]*")
QUOTED_NAME = re.compile(r'"((?:[^"\\]|\\.)*)"', re.DOTALL)
# Key in a prompt -> field of Strength, for the keys that take a schedule.
SCHEDULE_KEYS = {
    "te": "te",
    "te1": "te1",
    "te2": "te2",
    "te3": "te3",
    "unet": "unet",
    "in": "in_",
    "mid": "mid",
    "out": "out",
}


@dataclass(frozen=True)
class LoraTag:
    """A tag as it was read: the name it asks for and the strengths it gives. Tags are equal if they mean the same, wherever they stand."""

    name: str  # not resolved: a file name, path, alias, hash, `hf:owner/repo`
    first: Schedule | None = None  # the first number; None: the network's preferred strength or the default counts
    keys: Strength = field(default_factory=Strength)  # everything else; its own `default` is not used
    column: int = field(default=0, compare=False)  # of the `<`, from 0
    length: int = field(default=0, compare=False)  # up to and with the `>`

    def strength(self, default: float) -> Strength:
        """The strength of this tag where a missing first number means `default`."""
        return replace(self.keys, default=self.first or Schedule.of(default))

    def __str__(self) -> str:
        """The tag's plainest text; it reads back as an equal tag."""
        parts = ["lora", spelled(self.name)]
        given = {key: getattr(self.keys, name) for key, name in SCHEDULE_KEYS.items()}
        if self.first is not None:
            parts.append(str(self.first))
            if given["unet"] is not None:
                parts.append(str(given.pop("unet")))
        given["lbw"] = None if self.keys.lbw is None else lbw_text(self.keys.lbw)
        given |= {key: getattr(self.keys, key) for key in ("dyn", "module", "start", "stop")}
        parts += [f"{key}={value}" for key, value in given.items() if value is not None]
        return f"<{':'.join(parts)}>"


def lbw_text(factors: tuple[float, ...]) -> str:
    """The preset's name if there is one, else the numbers."""
    named = {preset: name for name, preset in LBW_PRESETS.items()}
    return named.get(factors) or ",".join(number(factor) for factor in factors)


def spelled(name: str) -> str:
    """The name as a tag says it: in quotes where it would not be read as this name without them."""
    read = UNQUOTED_NAME.match(f"{name}:")
    if read and read.group() == name == name.strip() and not name.startswith('"') and not INVISIBLE.search(name):
        return name
    return '"' + name.replace("\\", "\\\\").replace('"', '\\"') + '"'


def unquoted(text: str) -> str:
    """The name that stands in quotes; any other text as it is."""
    quoted = QUOTED_NAME.fullmatch(text)
    return re.sub(r'\\(["\\])', r"\1", quoted[1]) if quoted else text
