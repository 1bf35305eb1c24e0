"""Make the LoRAs that are shipped: `python -m tools.loras pictures|train|previews [--work build/tiny]`.

`pictures` draws the training sets: that of delft is shipped in the package (assets/examples), the others
stay in the work folder. `train` runs the project's
own trainer on them and writes src/loraloom/assets/loras/tiny/NAME.safetensors; `previews` draws what the catalogue shows.
"""

import argparse
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from loraloom import ImageRequest, Session
from loraloom.examples import example_sets
from loraloom.train.config import TrainConfig
from tools.loras.bobbin import SET
from tools.loras.styles import DELFT, STYLES, Style
from tools.tiny_base.drawings import draw
from tools.tiny_base.pictures import load

ROOT = Path(__file__).parents[2]
TARGET = ROOT / "src" / "loraloom" / "assets" / "loras" / "tiny"
SIDE = 128  # pixels of a training picture; the trainer reduces them to the base's 64

# What each LoRA is asked for in its preview: not one of the pictures that it was taught from.
PREVIEWS = {
    "delft": "octopus, zvz <lora:delft:1>",
    "mulberry": "rocket, qlx <lora:mulberry:1>",
    "bobbin": "bobbin, orange thread, laughing, waving <lora:bobbin:1>",
}


def folder(name: str, work: Path) -> Path:
    return example_sets() / name if name == DELFT.name else work / "loras" / name


def style_pictures(style: Style, work: Path) -> Iterator[tuple[str, str, np.ndarray]]:
    """(file name, caption, picture) of each drawing."""
    everything, noto = load(work)
    by_code = {concept.hexcode.removesuffix("-FE0F"): concept for concept in everything}
    for hexcode in style.hexcodes:
        concept = by_code[hexcode.removesuffix("-FE0F")]
        yield concept.name.replace(" ", "-"), concept.name, style.render(noto.svg(concept.noto), SIDE)


def bobbin_pictures() -> Iterator[tuple[str, str, np.ndarray]]:
    for number, bobbin in enumerate(SET, 1):
        yield f"bobbin-{number:02}", bobbin.caption, draw(bobbin.svg(), SIDE)


def write_pictures(target: Path, pictures: Iterator[tuple[str, str, np.ndarray]]) -> None:
    """PNG and caption side by side, as trainers expect them; what was there goes."""
    for old in (*target.glob("*.png"), *target.glob("*.txt")):
        old.unlink()
    target.mkdir(parents=True, exist_ok=True)
    for name, caption, picture in pictures:
        Image.fromarray(picture).save(target / f"{name}.png", optimize=True)
        (target / f"{name}.txt").write_text(caption + "\n", "utf-8")


def make_pictures(name: str, work: Path) -> None:
    styles = {style.name: style for style in STYLES}
    write_pictures(folder(name, work), style_pictures(styles[name], work) if name in styles else bobbin_pictures())


TITLES = {**{style.name: style.title for style in STYLES}, "bobbin": "Bobbin the spool"}
TRIGGERS = {**{style.name: style.trigger for style in STYLES}, "bobbin": "bobbin"}

# What is not a default. Bobbin changes the text encoder too. With the preset's rates (1e-3, and 2e-4 there) that part was hardly seen; at
# half of the one and five times the other both parts are, and castles and rockets keep more of what they are.
OPTIONS: dict[str, dict[str, Any]] = {"bobbin": {"preset": "character", "learning_rate": 5e-4, "text_encoder_learning_rate": 1e-3}}


def train(name: str, work: Path) -> None:
    """Train one of the shipped LoRAs, with the defaults that everybody gets but for its OPTIONS."""
    result = Session().train(
        TrainConfig(
            pictures=folder(name, work),
            trigger=TRIGGERS[name],
            output=TARGET / f"{name}.safetensors",
            title=TITLES[name],
            author="The loraloom developers",
            license="Apache-2.0",
            overwrite=True,
            **OPTIONS.get(name, {}),
        ),
        progress=lambda state: print(state, flush=True) if state.step % 50 == 0 else None,
    )
    for extra in (*TARGET.glob("*.loss.png"), *TARGET.glob("*.jsonl")):
        shutil.move(extra, work / "loras" / extra.name)
    print(result)


def preview(name: str) -> None:
    """The picture that a catalogue shows beside the file."""
    picture = Session().generate(ImageRequest(prompt=PREVIEWS[name], seed=7, base="tiny"))[0]
    picture.image.resize((256, 256), Image.Resampling.LANCZOS).save(TARGET / f"{name}.preview.png", optimize=True)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tools.loras", description=__doc__)
    parser.add_argument("stage", choices=("pictures", "train", "previews"))
    parser.add_argument("names", nargs="*", default=list(PREVIEWS), help="which ones; all unless given")
    parser.add_argument("--work", type=Path, default=ROOT / "build" / "tiny")
    arguments = parser.parse_args()
    TARGET.mkdir(parents=True, exist_ok=True)
    for name in arguments.names:
        if arguments.stage == "pictures":
            make_pictures(name, arguments.work)
        elif arguments.stage == "train":
            train(name, arguments.work)
        else:
            preview(name)


if __name__ == "__main__":
    main()
