"""The picture of docs/prompts.md: schedules of the denoiser, schedules of the text encoder, and four mixes in one batch.

`python -m tools.schedules`
"""

from pathlib import Path

from PIL import Image

from loraloom import dialects
from loraloom.bases import TINY
from loraloom.bases.tiny.model import folder, load
from loraloom.engine import Engine
from loraloom.generate.draw import Shot, Style, draw
from loraloom.generate.grid import sheet
from loraloom.lorafile import Mix
from loraloom.prompts import parse

TARGET = Path(__file__).parents[1] / "docs" / "images" / "schedules.png"
SEED, STYLE = 7, Style(steps=20, guidance=2.5)
ROCKET, BOBBIN = "rocket, qlx", "bobbin, red thread, laughing, waving"
ROWS = (  # (label, prompt, schedules)
    ("rocket", ROCKET, ("mulberry:0", "mulberry:1", "mulberry:0@1,1@4", "mulberry:0@1,1@8")),
    ("rocket", ROCKET, ("mulberry:1@1,0@8", "mulberry:0~1", "mulberry:1~0", "mulberry:1@0~0@50%,1@75%")),
    ("bobbin", BOBBIN, ("bobbin:te=0", "bobbin:te=1", "bobbin:te=1@1,0@8", "bobbin:te=1~0")),
)
MIXES = ("<lora:mulberry:1>", "<lora:delft:1>", "<lora:bobbin:0.8>", "<lora:mulberry:0.5> <lora:delft:0.7>")


def mix(tags: str) -> Mix:
    loras = folder().parent / "loras" / "tiny"
    return Mix(tuple((dialects.read(loras / f"{tag.name}.safetensors", TINY), tag.strength(1.0)) for tag in parse(tags).loras))


def main() -> None:
    pipeline = load()
    pipeline.set_progress_bar_config(disable=True)
    engine = Engine(pipeline)
    parts: list[Image.Image] = []
    for label, prompt, schedules in ROWS:
        tags = [f"<lora:{one}>" for one in schedules]
        drawn: list[Image.Image] = []
        for tag in tags:
            with engine.attached(mix(tag), steps=STYLE.steps):
                drawn += draw(pipeline, [Shot(prompt, SEED)], STYLE)
        parts.append(sheet([label], tags, [drawn], caption=""))
    with engine.attached([mix(tags) for tags in MIXES], steps=STYLE.steps) as report:
        batch = list(draw(pipeline, [Shot("castle, zvz, qlx", SEED)] * len(MIXES), STYLE))
    print(report)
    parts.append(sheet(["castle"], list(MIXES), [batch], caption=f"the last row is one batch · tiny · {STYLE.steps} steps · seed {SEED}"))
    whole = Image.new("RGB", (max(part.width for part in parts), sum(part.height for part in parts)), "white")
    top = 0
    for part in parts:
        whole.paste(part, (whole.width - part.width, top))  # columns below one another: labels differ in width
        top += part.height
    whole.save(TARGET, optimize=True)
    print(TARGET)


if __name__ == "__main__":
    main()
