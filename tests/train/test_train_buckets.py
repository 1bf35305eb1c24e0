"""Laws of buckets and of the order: batches are full and of one shape, every picture comes as often as it should."""

from collections import Counter

import pytest

from loraloom.bases import NANO, SD1, SDXL
from loraloom.errors import SettingsError
from loraloom.train import TrainConfig, resolve
from loraloom.train.buckets import Buckets, lost
from loraloom.train.order import Order


def buckets(base=SD1, **values: object) -> Buckets:
    found = Buckets.of(resolve(TrainConfig.model_validate({"pictures": "x", "buckets": True} | values), base))
    assert found is not None
    return found


@pytest.mark.parametrize(("base", "step"), [(SD1, 64), (NANO, 8)], ids=["sd1", "nano"])
def test_shapes_hold_their_bounds(base, step: int) -> None:
    found = buckets(base)
    side = base.resolution
    assert (side, side) in found.shapes
    for width, height in found.shapes:
        assert width * height <= side**2
        assert width % step == height % step == 0
        assert side // 2 <= min(width, height)
        assert max(width, height) <= 2 * side
        assert (height, width) in found.shapes
    assert len(set(found.shapes)) == len(found.shapes)


def test_sd1s_shapes_are_kohyas() -> None:  # model_util.make_bucket_resolutions((512, 512), 256, 1024, 64)
    wide = [(1024, 256), (960, 256), (896, 256), (832, 256), (768, 320), (704, 320), (640, 384), (576, 448), (512, 512)]
    assert set(buckets().shapes) == {*wide, *((height, width) for width, height in wide)}


@pytest.mark.parametrize(
    ("size", "shape"),
    [
        ((4000, 3000), (576, 448)),
        ((3000, 4000), (448, 576)),
        ((1000, 1000), (512, 512)),
        ((9000, 100), (1024, 256)),
        ((600, 600), (512, 512)),
    ],
)
def test_a_picture_goes_to_the_shape_that_is_nearest(size: tuple[int, int], shape: tuple[int, int]) -> None:
    assert buckets().shape_for(size) == shape
    assert lost(size, shape) < 0.05 or size == (9000, 100)


def test_without_upscaling_no_side_grows() -> None:
    found = buckets(no_upscale=True)
    for size in [(200, 130), (500, 530), (3000, 70), (65, 64), (511, 513), (4000, 3000)]:
        shape = found.shape_for(size)
        assert shape[0] % 64 == shape[1] % 64 == 0
        assert shape[0] <= size[0]
        assert shape[1] <= size[1]
    assert found.shape_for((30, 20)) == (64, 64)  # the least that there is
    assert buckets().shape_for((200, 130)) == (640, 384)


def test_bounds_without_a_shape_are_refused_with_them() -> None:
    with pytest.raises(SettingsError, match="no shape has sides from 600 to 700 that are multiples of 64"):
        buckets(bucket_min=600, bucket_max=700)


def test_the_step_follows_the_size_of_the_base() -> None:
    steps = [resolve(TrainConfig(pictures="x"), base).bucket_step for base in (SD1, NANO)]
    assert steps == [64, 8]
    assert SDXL.resolution == 1024


SHAPES = ((16, 16), (16, 16), (24, 8), (8, 24), (24, 8), (16, 16))
MIXED = Order(3, tuple("abcdef"), (1, 2, 3, 1, 1, 4), SHAPES)


@pytest.mark.parametrize("batch", [1, 2, 4, 5])
def test_batches_are_full_and_of_one_shape(batch: int) -> None:
    for step in range(1, 200):
        samples = MIXED.samples(step, batch, 2)
        assert len(samples) == 2 * batch
        for start in (0, batch):
            assert len({SHAPES[sample.picture] for sample in samples[start : start + batch]}) == 1


@pytest.mark.parametrize("batch", [1, 2, 4, 5])
def test_every_picture_comes_as_often_as_its_folder_says(batch: int) -> None:
    epochs = 60
    counts = Counter(sample.picture for step in range(1, epochs * 12 // batch + 1) for sample in MIXED.samples(step, batch))
    for picture, times in enumerate(MIXED.repeats):
        assert abs(counts[picture] - times * epochs) <= 2 * batch  # of each shape less than a batch is left over


def test_a_step_does_not_depend_on_those_before_it() -> None:
    forward = [MIXED.samples(step, 3) for step in range(1, 60)]
    anew = Order(3, tuple("abcdef"), (1, 2, 3, 1, 1, 4), SHAPES)
    assert [anew.samples(step, 3) for step in range(59, 0, -1)] == forward[::-1]
    assert len({sample.name for step in forward for sample in step}) == sum(map(len, forward))


def test_without_buckets_the_order_is_that_of_one_shape() -> None:
    plain, one = Order(3, tuple("abc"), (1, 2, 1)), Order(3, tuple("abc"), (1, 2, 1), ((8, 8),) * 3)
    assert [plain.samples(step, 2) for step in range(1, 20)] == [one.samples(step, 2) for step in range(1, 20)]


def test_regularisation_pictures_come_as_often_as_all_others_together() -> None:
    order = Order(0, tuple("abcde"), (5, 1, 1, 1, 2), regular=frozenset({2, 3, 4}))
    assert order.epoch_length == 12
    flat = [sample.picture for step in range(1, 201) for sample in order.samples(step, 6)]
    counts = Counter(flat)
    assert counts[0] + counts[1] == counts[2] + counts[3] + counts[4] == 600
    assert counts[0] == 500
    assert counts[4] == 300
    assert all(sum(picture < 2 for picture in flat[start : start + 2]) == 1 for start in range(0, 1200, 2))  # strewn evenly


def test_regularisation_leaves_the_order_of_the_others_as_it_was() -> None:
    with_them = Order(0, tuple("abcde"), (5, 1, 1, 1, 2), regular=frozenset({2, 3, 4}))
    without = Order(0, tuple("ab"), (5, 1))
    own = [sample.name for step in range(1, 41) for sample in with_them.samples(step, 6) if sample.picture < 2]
    assert own == [sample.name for step in range(1, 21) for sample in without.samples(step, 6)]
