"""Laws of masks and regularisation: where a mask is black nothing counts, and a regularisation picture counts as its weight says."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from loraloom.bases import NANO
from loraloom.bases.sd1.model import StableDiffusion
from loraloom.errors import DatasetError
from loraloom.train import TrainConfig, loss, resolve, train
from loraloom.train.cache import Latents
from loraloom.train.chance import Sample
from loraloom.train.dataset import Dataset, read_dataset
from loraloom.train.masks import open_mask
from loraloom.train.masks import weights as mask_weights
from loraloom.train.pictures import cut_at
from loraloom.train.store import Store

Make = Callable[..., Path]
Job = Callable[..., TrainConfig]


def read(folder: Path, **values: Any) -> Dataset:
    return read_dataset(resolve(TrainConfig.model_validate({"pictures": folder, "resolution": 16} | values), NANO))


def half(path: Path, size: tuple[int, int] = (24, 20)) -> None:
    """White on the left."""
    values = np.zeros((size[1], size[0]), dtype=np.uint8)
    values[:, : size[0] // 2] = 255
    Image.fromarray(values).save(path)


def masks(dataset: Dataset) -> dict[str, str | None]:
    return {picture.name: picture.mask.name if picture.mask else None for picture in dataset.pictures}


def test_masks_are_found_where_the_job_says(pictures: Path, tmp_path: Path) -> None:
    half(pictures / "a.mask.png")
    (tmp_path / "masks").mkdir()
    half(tmp_path / "masks" / "b.png", (12, 10))
    Image.open(pictures / "c.png").convert("RGBA").save(pictures / "c.png")
    plain = read(pictures)
    assert masks(plain) == {"a.png": None, "b.png": None, "c.png": None}
    assert any("masks that are not used without --masks beside: a.mask.png" in note for note in plain.notes)
    assert masks(read(pictures, masks="beside")) == {"a.png": "a.mask.png", "b.png": None, "c.png": None}
    assert masks(read(pictures, masks=str(tmp_path / "masks"))) == {"a.png": None, "b.png": "b.png", "c.png": None}
    assert masks(read(pictures, masks="alpha")) == {"a.png": None, "b.png": None, "c.png": "c.png"}
    assert any("2 of 3 pictures have no transparency and count everywhere: a.png, b.png" in n for n in read(pictures, masks="alpha").notes)
    assert len({read(pictures, masks=where).fingerprint for where in ("", "beside")}) == 2


def test_masks_that_cannot_be_used_are_refused_by_name(pictures: Path) -> None:
    with pytest.raises(DatasetError, match="masks: besides is no folder; give one, or alpha or beside"):
        read(pictures, masks="besides")
    half(pictures / "a.mask.png", (20, 24))
    with pytest.raises(DatasetError, match=r"a\.mask\.png: the mask is 20×24, its picture a\.png is 24×20"):
        read(pictures, masks="beside")
    (pictures / "b.mask.png").write_bytes(b"no")
    with pytest.raises(DatasetError, match=r"(?s)2 masks cannot be used:.*a\.mask\.png.*b\.mask\.png: not a picture"):
        read(pictures, masks="beside")
    for name in "ab":
        Image.new("L", (24, 20)).save(pictures / f"{name}.mask.png")
    assert any("2 masks are black all over" in note for note in read(pictures, masks="beside").notes)


def test_a_mask_is_cut_as_its_picture(tmp_path: Path) -> None:
    half(tmp_path / "a.mask.png", (32, 16))
    mask = open_mask(tmp_path / "a.mask.png", tmp_path / "a.png", (32, 16))
    whole = mask_weights(mask, (32, 16), pixels_per_latent=2, background=0.25)
    assert whole.shape == (1, 8, 16)
    assert (whole[..., :8] == 1).all()
    assert (whole[..., 8:] == 0.25).all()
    assert (mask_weights(mask, (16, 16), pixels_per_latent=2, background=0, at=(0, 0)) == 1).all()
    assert (mask_weights(mask, (16, 16), pixels_per_latent=2, background=0, at=(1, 0)) == 0).all()


def test_what_is_behind_a_black_mask_does_not_change_the_loss() -> None:
    distances = torch.rand(2, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    places, weights = torch.ones(2, 1, 8, 8), torch.ones(2)
    assert torch.equal(loss.per_sample(distances, weights, places), loss.per_sample(distances, weights))
    places[..., 4:] = 0
    before = loss.per_sample(distances, weights, places)
    distances[..., 4:] += 100
    assert torch.equal(loss.per_sample(distances, weights, places), before)


def test_pictures_without_a_mask_count_everywhere(pictures: Path, nano: Any) -> None:
    half(pictures / "a.mask.png")
    job = resolve(TrainConfig(pictures=pictures, masks="beside", resolution=16), NANO)
    dataset = read_dataset(job)
    latents = Latents.prepare(StableDiffusion(nano), dataset, job, Store(""), done=lambda _: None)
    found = latents.weights([Sample(0, 1, 0, "a"), Sample(0, 1, 1, "b")])
    assert found is not None
    assert found.shape == (2, 1, 8, 8)
    assert (found[1] == 1).all()
    assert found[0].mean() == pytest.approx(0.5)
    flipped = replace(latents, flip=True)
    turned = {bool(flipped.weights([Sample(0, step, 0, "a")])[0, 0, 0, 0] == 0) for step in range(20)}
    assert turned == {True, False}
    cut = replace(latents, random_crop=True, masks={})
    shares = {float(cut.weights([Sample(0, step, 0, "a")]).mean()) for step in range(20)}
    assert len(shares) > 3
    assert (
        Latents.prepare(StableDiffusion(nano), read(pictures), job, Store(""), done=lambda _: None).weights([Sample(0, 1, 0, "a")]) is None
    )


def test_white_masks_and_no_masks_learn_the_same(job: Job, nano: Any, pictures: Path) -> None:
    plain = train(job(steps=2, dtype="float32"), nano, NANO).hash
    for name in "abc":
        Image.new("L", (24, 20), 255).save(pictures / f"{name}.mask.png")
    assert train(job(steps=2, dtype="float32", masks="beside", overwrite=True), nano, NANO).hash == plain
    for name in "abc":
        half(pictures / f"{name}.mask.png")
    assert train(job(steps=2, dtype="float32", masks="beside", overwrite=True), nano, NANO).hash != plain


def test_regularisation_pictures_have_no_trigger_and_their_own_captions(pictures: Path, tmp_path: Path, make_pictures: Make) -> None:
    make_pictures(tmp_path / "reg" / "3_cat", {"x": None, "y": "a cat, outside"})
    found = read(pictures, trigger="zvz", caption="one for all", caption_suffix="today", regularization=(tmp_path / "reg",))
    assert [(picture.name, picture.caption) for picture in found.regular] == [
        ("regularization/reg/3_cat/x.png", "cat today"),
        ("regularization/reg/3_cat/y.png", "a cat, outside today"),
    ]
    assert {picture.caption for picture in found.own} == {"zvz, one for all today"}
    assert list(found.tag_frequency()) == ["pictures"]
    (tmp_path / "nothing").mkdir()
    with pytest.raises(DatasetError, match=r"nothing: no pictures"):
        read(pictures, regularization=(tmp_path / "nothing",))


def test_regularisation_of_weight_zero_teaches_nothing(job: Job, nano: Any, tmp_path: Path, make_pictures: Make) -> None:
    def trained(folder: Path, weight: float) -> str:
        values = {"steps": 3, "dtype": "float32", "overwrite": True, "regularization": (folder,), "regularization_weight": weight}
        return train(job(**values), nano, NANO).hash

    one = make_pictures(tmp_path / "cats", {"x": "a cat"})
    other = make_pictures(tmp_path / "dogs", {"x": "a dog, running"}, size=(40, 40))
    assert trained(one, 0) == trained(other, 0) != trained(one, 1)
    assert trained(one, 1) != trained(other, 1)


@pytest.mark.parametrize(
    ("size", "at", "mirrored", "expected"),
    [
        ((100, 100), (0.5, 0.5), False, (0, 0)),
        ((200, 100), (0.5, 0.5), False, (8, 0)),
        ((200, 100), (0.25, 0.9), False, (4, 0)),
        ((200, 100), (0.25, 0.9), True, (12, 0)),
        ((10, 40), (0.0, 1.0), False, (0, 48)),
    ],
)
def test_where_a_picture_is_cut_is_told_in_scaled_pixels(
    size: tuple[int, int], at: tuple[float, float], mirrored: bool, expected: tuple[int, int]
) -> None:
    assert cut_at(size, (16, 16), at, mirrored=mirrored) == expected
