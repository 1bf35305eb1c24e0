"""Stage 1: draw every picture that the base learns from, once, into two uint8 arrays."""

from pathlib import Path

import numpy as np
from tools.tiny_base.drawings import EmojiSet, draw
from tools.tiny_base.sources import EMOJIBASE, EMOJILIB, FLUENT_FLAT, FLUENT_LINE, NOTO, fetch
from tools.tiny_base.vocabulary import Concept, concepts

VARIANTS = 6  # drawings of each concept at slightly different size and place: seeds then differ in more than noise


def load(work: Path) -> tuple[list[Concept], EmojiSet]:
    """The vocabulary and the drawings of the base's own style."""
    noto = EmojiSet(fetch(NOTO, work / "sources"))
    return concepts(fetch(EMOJIBASE, work / "sources"), fetch(EMOJILIB, work / "sources"), noto), noto


def for_autoencoder(work: Path) -> np.ndarray:
    """uint8 [n, 64, 64, 3]: all three sets, the line drawings in several colours."""
    target = work / "autoencoder_pictures.npy"
    if not target.exists():
        rng = np.random.default_rng(0)
        everything, noto = load(work)
        flat, line = (EmojiSet(fetch(source, work / "sources")) for source in (FLUENT_FLAT, FLUENT_LINE))
        colors = ("#111111", "#111111", "#1d3557", "#9d0208", "#386641", "#5a189a")
        found = []
        for concept in everything:
            for emoji, copies in ((noto, 2), (flat, 1), (line, 1)):
                name = emoji.name(concept.hexcode) or ""
                for _ in range(copies if name else 0):
                    found.append(
                        draw(
                            emoji.svg(name, color=str(rng.choice(colors))),
                            scale=rng.uniform(0.75, 1.05),
                            shift=tuple(rng.uniform(-3, 3, 2)),
                        )
                    )
        np.save(target, np.stack(found))
    drawn: np.ndarray = np.load(target)
    return drawn


def for_denoiser(work: Path) -> np.ndarray:
    """uint8 [concepts, VARIANTS, 64, 64, 3]; the first variant is the drawing as it is."""
    target = work / "denoiser_pictures.npy"
    if not target.exists():
        rng = np.random.default_rng(1)
        everything, noto = load(work)
        found = np.empty((len(everything), VARIANTS, 64, 64, 3), np.uint8)
        for row, concept in zip(found, everything, strict=True):
            svg = noto.svg(concept.noto)
            row[0] = draw(svg)
            for variant in range(1, VARIANTS):
                row[variant] = draw(svg, scale=rng.uniform(0.86, 1.0), shift=tuple(rng.uniform(-2.5, 2.5, 2)))
        np.save(target, found)
    drawn: np.ndarray = np.load(target)
    return drawn
