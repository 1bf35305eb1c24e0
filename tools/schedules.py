"""The picture of docs/prompts.md: one prompt under eight schedules, and four mixes in one batch. `python -m tools.schedules`"""

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
PROMPT, SEED = "rocket, qlx", 7
STYLE = Style(steps=20, guidance=2.5)
SCHEDULES = (
    "mulberry:0",
    "mulberry:1",
    "mulberry:0@1,1@4",
    "mulberry:0@1,1@8",
    "mulberry:1@1,0@8",
    "mulberry:0~1",
    "mulberry:1~0",
    "mulberry:1@0~0@50%,1@75%",
)
MIXES = ("<lora:mulberry:1>", "<lora:delft:1>", "<lora:bobbin:0.8>", "<lora:mulberry:0.5> <lora:delft:0.7>")


def mix(tags: str) -> Mix:
    loras = folder().parent / "loras" / "tiny"
    return Mix(tuple((dialects.read(loras / f"{tag.name}.safetensors", TINY), tag.strength(1.0)) for tag in parse(tags).loras))


def main() -> None:
    pipeline = load()
    pipeline.set_progress_bar_config(disable=True)
    engine = Engine(pipeline)
    by_step: list[Image.Image] = []
    for schedule in SCHEDULES:
        with engine.attached(mix(f"<lora:{schedule}>"), steps=STYLE.steps):
            by_step += draw(pipeline, [Shot(PROMPT, SEED)], STYLE)
    with engine.attached([mix(tags) for tags in MIXES], steps=STYLE.steps) as report:
        batch = list(draw(pipeline, [Shot("castle, zvz, qlx", SEED)] * len(MIXES), STYLE))
    print(report)
    half = len(SCHEDULES) // 2
    parts = [
        sheet(["rocket"], [f"<lora:{one}>" for one in SCHEDULES[:half]], [by_step[:half]], caption=""),
        sheet(["rocket"], [f"<lora:{one}>" for one in SCHEDULES[half:]], [by_step[half:]], caption=""),
        sheet(["castle"], list(MIXES), [batch], caption=f"the last row is one batch · tiny · {STYLE.steps} steps · seed {SEED}"),
    ]
    whole = Image.new("RGB", (max(part.width for part in parts), sum(part.height for part in parts)), "white")
    top = 0
    for part in parts:
        whole.paste(part, (0, top))
        top += part.height
    whole.save(TARGET, optimize=True)
    print(TARGET)


if __name__ == "__main__":
    main()
