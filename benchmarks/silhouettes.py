"""What a picture shows, judged by its outline alone: colours, shading and line style do not count."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from benchmarks.style_features import Pictures

SIDE = 32
GROUND = 30  # of 255: how far the ground may stray from the border's own colour
Outlines = NDArray[np.bool_]  # [n, 32, 32]


def silhouettes(pictures: Pictures) -> Outlines:
    """Everything that the ground does not reach from the border, cut to its bounding box, 32×32."""
    return np.stack([_silhouette(picture) for picture in pictures])


def _silhouette(picture: NDArray[np.uint8]) -> NDArray[np.bool_]:
    border = np.concatenate([picture[0], picture[-1], picture[:, 0], picture[:, -1]]).astype(np.int64)
    distance = np.abs(picture.astype(np.int64) - np.median(border, axis=0)).max(-1)
    ground = Image.fromarray(((distance < GROUND) * 255).astype(np.uint8))
    framed = Image.new("L", (ground.width + 2, ground.height + 2), 255)
    framed.paste(ground, (1, 1))
    ImageDraw.floodfill(framed, (0, 0), 128)
    drawn = np.asarray(framed)[1:-1, 1:-1] != 128
    rows, columns = np.flatnonzero(drawn.any(1)), np.flatnonzero(drawn.any(0))
    if not len(rows):
        return np.zeros((SIDE, SIDE), bool)
    height, width = rows[-1] - rows[0] + 1, columns[-1] - columns[0] + 1
    side = max(height, width)  # a square box keeps the proportions
    square = np.zeros((side, side), np.uint8)
    top, left = (side - height) // 2, (side - width) // 2
    square[top : top + height, left : left + width] = drawn[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] * 255
    return np.asarray(Image.fromarray(square).resize((SIDE, SIDE), Image.Resampling.BOX)) > 127


def ranks(found: Outlines, gallery: Outlines, owners: NDArray[np.int64], wanted: NDArray[np.int64]) -> NDArray[np.int64]:
    """Rank (0 is best) of each picture's own concept among all concepts of the gallery.

    `owners` [gallery] says whose outline each is, a concept may have several; `wanted` [found] is each picture's concept.
    Similarity is intersection over union.
    """
    a, b = found.reshape(len(found), -1).astype(np.float64), gallery.reshape(len(gallery), -1).astype(np.float64)
    shared = a @ b.T
    likeness = shared / np.maximum(1, a.sum(1)[:, None] + b.sum(1)[None] - shared)
    best = np.full((len(found), owners.max() + 1), -1.0)
    for column, owner in enumerate(owners):
        best[:, owner] = np.maximum(best[:, owner], likeness[:, column])
    own = best[np.arange(len(found)), wanted]
    return np.asarray((best > own[:, None]).sum(1))
