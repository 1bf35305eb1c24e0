"""The engine's laws on an NVIDIA GPU: what a CPU gives, and the base as it was. Every other test runs on the CPU."""

import copy

import pytest
import torch
from diffusers import StableDiffusionPipeline
from running import generators, mix, run
from support import close, everything, fingerprint, network
from test_types import DTYPES, MODES, PRECISE, by_hand, of_type
from test_types import outputs as on_cpu

from loraloom.bases import NANO
from loraloom.bases.nano.model import load as load_nano
from loraloom.engine import Engine
from loraloom.lorafile import Mix

if not torch.cuda.is_available():
    pytest.skip("no CUDA device", allow_module_level=True)


@pytest.fixture(scope="module", autouse=True)
def _float32_products():
    """Convolutions of float32 in float32: cuDNN takes ten bits of the mantissa else."""
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    yield
    torch.backends.cudnn.allow_tf32 = before


@pytest.fixture(scope="module")
def there(pipeline):
    """The same weights on the GPU."""
    found = copy.deepcopy(pipeline).to("cuda")
    found.set_progress_bar_config(disable=True)
    return found


def outputs(pipeline):
    """As `test_types.outputs`, of a pipeline on the GPU; on the CPU again."""
    generator = torch.Generator().manual_seed(1)
    latents, ids = torch.randn(2, 4, 8, 8, generator=generator), torch.arange(64).reshape(2, 32) % 500
    with torch.no_grad():
        text = pipeline.text_encoder(ids.to("cuda")).last_hidden_state
        return pipeline.unet(latents.to("cuda", text.dtype), 500, text).sample.cpu()


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", PRECISE)
def test_the_output_is_that_of_a_cpu_and_the_base_comes_back(pipeline, there, name, mode):
    """1e-4 of the largest value in float32: two devices add in other orders."""
    file, prints = of_type(name), fingerprint(there)
    expected = by_hand(pipeline, file, 0.3)
    assert not close(on_cpu(pipeline), expected, 1e-3)
    before = outputs(there)
    with Engine(there).attached(mix((file, 0.3)), mode=mode) as report:
        assert report.modules == len(file.adapters)
        assert close(outputs(there), expected, 1e-4)
    assert fingerprint(there) == prints
    assert torch.equal(outputs(there), before)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", PRECISE)
def test_half_precision_comes_back_to_the_bit(there, name, dtype, mode):
    half = copy.deepcopy(there).to(dtype)
    wide = copy.deepcopy(half).to("cpu", torch.float32)
    file, prints = of_type(name), fingerprint(half)
    expected = by_hand(wide, file, 0.3)
    own = float((outputs(half).float() - on_cpu(wide)).abs().max()) / float(on_cpu(wide).abs().max())
    with Engine(half).attached(mix((file, 0.3)), mode=mode):
        found = outputs(half).float()
    assert close(found, expected, max(10 * own, 0.02 if dtype == torch.bfloat16 else 0.005))
    assert fingerprint(half) == prints


@pytest.mark.parametrize("name", PRECISE)
def test_pictures_with_different_mixes_equal_their_single_runs(there, name):
    one, two = of_type(name, seed=1), of_type(name, seed=2)
    mixes = [mix((one, 0.2)), Mix(), mix((one, -0.1), (two, "te=0.1:unet=0.2")), mix((two, 0.1), negative=((one, 0.2),))]
    together = run(there, mixes, steps=2, prompt=["a cat"] * 4, generator=generators(0, 1, 2, 3))
    for index, each in enumerate(mixes):
        alone = run(there, each, steps=2, prompt="a cat", generator=torch.Generator().manual_seed(index))
        assert close(together[index].cpu(), alone[0].cpu(), 1e-3)


def test_schedules_draw_what_a_cpu_draws(pipeline, there):
    ink, neon = network(NANO, everything, seed=1), network(NANO, seed=100, rank=2)
    given = mix((ink, "te=0.1@1,0.6@3:unet=0~1"), (neon, "0.5@1,0@3"))
    assert close(run(there, given, steps=4).cpu(), run(pipeline, given, steps=4), 1e-3)


def test_networks_are_swapped_on_a_compiled_model(there):
    """Inductor's own kernels, not the eager backend of the tests on a CPU."""
    compiled, ink, neon = copy.deepcopy(there), network(NANO, everything, seed=1), network(NANO, seed=100, rank=2)
    expected = []
    for file in (ink, neon):
        with Engine(there).attached(mix((file, 0.7))):
            expected.append(outputs(there))
    engine = Engine(compiled)
    engine.prepare(rank=8)
    compiled.unet.compile()
    for file, wanted in zip((ink, neon), expected, strict=True):
        with engine.attached(mix((file, 0.7))):
            assert close(outputs(compiled), wanted, 1e-3)


def test_a_base_that_moves_while_nothing_is_attached_is_served_where_it_is(there):
    moved, file = copy.deepcopy(there), network(NANO, everything, seed=1)
    engine = Engine(moved)
    with engine.attached(mix((file, 0.7))):
        expected = outputs(moved)
    moved.to("cpu")
    with engine.attached(mix((file, 0.7))):
        assert close(on_cpu(moved), expected, 1e-4)


@pytest.mark.parametrize("room", [True, False])
def test_a_base_from_a_file_comes_back_from_a_copy_or_without_room_from_the_file(tmp_path, monkeypatch, room):
    load_nano().save_pretrained(tmp_path)
    opened = StableDiffusionPipeline.from_pretrained(tmp_path).to("cuda")
    file, prints = network(NANO, everything, seed=1), fingerprint(opened)
    if not room:
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (0, 2**40))
    with Engine(opened).attached(mix((file, 0.7)), mode="merge") as report:
        assert (report.nbytes > 0) is room
    assert fingerprint(opened) == prints
