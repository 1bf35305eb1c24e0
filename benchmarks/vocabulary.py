"""What does the embedded base draw reliably?  `python -m benchmarks.vocabulary`

Draws every concept that it was taught, two seeds each, and looks for the nearest real drawing (16×16 RGB, mean squared
distance) among all concepts. A concept is advertised if both pictures find their own drawing among the nearest three. Writes
docs/vocabulary.md, and docs/images/prompts.png: thirty of the advertised concepts for a person to look at, drawn by lot (seed 0) from
all groups by their size, with a seed that the measurement did not use.
"""

import argparse
import random
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from tools.tiny_base import vocabulary
from tools.tiny_base.pictures import for_denoiser, load

from benchmarks.style_features import Pictures
from loraloom import ImageRequest, Session
from loraloom.bases.tiny.model import load as load_tiny

ROOT = Path(__file__).parents[1]
NEAREST, SEEDS, BATCH, STEPS, GUIDANCE = 3, 2, 64, 20, 2.5
GROUP_TITLES = {
    vocabulary.SMILEYS: "Smileys and hearts",
    vocabulary.PEOPLE: "People and hands",
    vocabulary.ANIMALS: "Animals and nature",
    vocabulary.FOOD: "Food and drink",
    vocabulary.TRAVEL: "Travel, places and weather",
    vocabulary.ACTIVITIES: "Activities",
    vocabulary.OBJECTS: "Objects",
    vocabulary.SYMBOLS: "Symbols",
}
SHEET = 30  # prompts for a person to look at


def draw_all(prompts: list[str], seed: int) -> Pictures:
    """uint8 [n, 64, 64, 3]; picture i has a generator of its own."""
    pipeline = load_tiny()
    pipeline.set_progress_bar_config(disable=True)
    found = []
    for start in range(0, len(prompts), BATCH):
        part = prompts[start : start + BATCH]
        generators = [torch.Generator().manual_seed(seed * 1_000_003 + start + i) for i in range(len(part))]
        drawn = pipeline(part, num_inference_steps=STEPS, guidance_scale=GUIDANCE, generator=generators, output_type="np").images
        found.append((drawn * 255).round().astype(np.uint8))
        print(f"seed {seed}: {start + len(part)}/{len(prompts)}", flush=True)
    return np.concatenate(found)


def own_ranks(found: Pictures, real: Pictures) -> NDArray[np.int64]:
    """For picture i of `found` the place (0 is nearest) of drawing i of `real`."""
    a, b = (pictures.reshape(-1, 16, 4, 16, 4, 3).mean((2, 4)).reshape(len(pictures), -1) for pictures in (found, real))
    distance = (a**2).sum(1)[:, None] - 2 * a @ b.T + (b**2).sum(1)[None]
    return np.asarray((distance < np.diag(distance)[:, None]).sum(1))


def page(concepts: list[vocabulary.Concept], reliable: NDArray[np.bool_]) -> str:
    known = [concept for concept, good in zip(concepts, reliable, strict=True) if good]
    lines = [
        "# What the embedded base draws",
        "",
        f"`tiny` was taught {len(concepts)} concepts. These {len(known)} it draws reliably: with two seeds of two, the picture is",
        f"nearer to its own drawing than to all but {NEAREST - 1} others (`python -m benchmarks.vocabulary` measures it). Prompts are",
        "their names, with or without more words: `red apple`, `a red apple`, `red apple, fruit`.",
        "",
    ]
    for group, title in GROUP_TITLES.items():
        names = sorted(concept.name for concept in known if concept.group == group)
        lines += [f"## {title} ({len(names)})", "", ", ".join(names), ""]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.vocabulary", description=__doc__)
    parser.add_argument("--work", type=Path, default=ROOT / "build" / "tiny", help="where the drawings are fetched to")
    arguments = parser.parse_args()
    everything, _ = load(arguments.work)
    places = [index for index, concept in enumerate(everything) if vocabulary.taught(concept)]
    concepts, real = [everything[index] for index in places], for_denoiser(arguments.work)[places, 0]
    found = [own_ranks(draw_all([concept.name for concept in concepts], seed), real) for seed in range(SEEDS)]
    reliable = np.stack(found).max(0) < NEAREST
    print(f"own drawing nearest: {np.mean([(ranks == 0).mean() for ranks in found]):.1%}, reliable: {reliable.sum()} of {len(concepts)}")
    (ROOT / "docs" / "vocabulary.md").write_text(page(concepts, reliable), "utf-8")
    known = [concept for concept, good in zip(concepts, reliable, strict=True) if good]
    sheet = sheet_of(chosen_by_lot(known))
    sheet.save(ROOT / "docs" / "images" / "prompts.png", optimize=True)


def chosen_by_lot(known: list[vocabulary.Concept]) -> list[str]:
    """Names, spread evenly over the vocabulary's own order, which goes group by group."""
    lot, share = random.Random(0), len(known) / SHEET
    return [lot.choice(known[round(index * share) : round((index + 1) * share)]).name for index in range(SHEET)]


def sheet_of(prompts: list[str]) -> Image.Image:
    """Pictures at three times their size with their prompts below, six a row."""
    session, font = Session(), ImageFont.load_default(15)
    side, below, columns = 192, 34, 6
    sheet = Image.new("RGB", (columns * (side + 12), -(-len(prompts) // columns) * (side + below)), "white")
    pen = ImageDraw.Draw(sheet)
    for index, prompt in enumerate(prompts):
        drawn = session.generate(ImageRequest(prompt=prompt, seed=SEEDS, base="tiny"))[0].image
        left, top = index % columns * (side + 12) + 6, index // columns * (side + below)
        sheet.paste(drawn.resize((side, side), Image.Resampling.BICUBIC), (left, top))
        pen.text((left + side / 2, top + side + 2), prompt, fill="#1b1f24", font=font, anchor="ma")
    return sheet


if __name__ == "__main__":
    main()
