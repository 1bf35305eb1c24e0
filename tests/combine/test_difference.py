"""Two checkpoints and the LoRA between them: what was planted is found, what moved is written, and nothing is left out in silence."""

import json
from contextlib import ExitStack, contextmanager

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from layouts import saved, single_file
from loraloom import ImageRequest, Session, read
from loraloom.basefile import BaseFile, open_base
from loraloom.bases import NANO, NANOXL, Target
from loraloom.bases.nano.model import load
from loraloom.bases.nanoxl.model import load as load_nanoxl
from loraloom.combine import CombineRequest, Goal, difference
from loraloom.engine.live import live_modules
from loraloom.errors import BadTensor, BaseError, DialectCannotHold, Interrupted, NothingApplied, NotSupported, SettingsError, WrongBase
from loraloom.tensorfile import Header

PLANTED = 3  # ranks
POSITIONS, TOKENS = (Target("text_encoder", f"text_model.embeddings.{name}_embedding") for name in ("position", "token"))
CONV, NORM = Target("unet", "conv_in"), Target("unet", "conv_norm_out")


def planted(pipeline, base, seed=0, which=lambda layer: layer.attention and not layer.place.is_text):
    """A change of rank 3, of the size of the weights, on every layer that `which` picks."""
    generator = torch.Generator().manual_seed(seed)
    for target, module in live_modules(pipeline, base).items():
        layer = base.by_target[target]
        if which(layer) and layer.kind != "norm":
            weight = module.weight.data
            up, down = torch.randn(len(weight), PLANTED, generator=generator), torch.randn(PLANTED, weight[0].numel(), generator=generator)
            weight += (up @ down * 0.02).reshape(weight.shape)
    return pipeline


def moved(pipeline, seed=0, size=0.02):
    """Every parameter of the UNet and the text encoders, as fine-tuning leaves them."""
    generator = torch.Generator().manual_seed(seed)
    parts = [part for name, part in pipeline.components.items() if name.startswith(("unet", "text_encoder")) and part is not None]
    for parameter in (parameter for part in parts for parameter in part.parameters()):
        parameter.data += torch.randn(parameter.shape, generator=generator) * size
    return pipeline


@contextmanager
def both(before, after):
    with ExitStack() as stack:
        yield tuple(stack.enter_context(open_base(path)) for path in (before, after))


@pytest.fixture(scope="module")
def before(tmp_path_factory):
    return saved(load(), NANO, tmp_path_factory.mktemp("bases") / "before", "folder")


@pytest.mark.parametrize("layout", ["folder", "shards", "single file", "single file without text_model"])
def test_a_planted_rank_is_found_and_nothing_else(before, tmp_path, layout):
    """1e-5 at a larger rank, float32; exactly its rank from an error."""
    after = saved(planted(load(), NANO), NANO, tmp_path / "after", layout)
    with both(before, after) as (one, other):
        whole = difference(one, other, Goal(rank=16))
        assert {module.target for module in whole.modules} == {
            layer.target for layer in NANO.layers if layer.attention and not layer.place.is_text
        }
        for target, adapter in whole.file.adapters.items():
            change = other.weight(target).double() - one.weight(target).double()
            assert float((adapter.delta(torch.zeros(change.shape)) - change).norm()) <= 1e-5 * float(change.norm())
        assert {module.rank for module in difference(one, other, Goal(error=1e-3)).modules} == {PLANTED}


@pytest.mark.parametrize(("base", "make"), [(NANO, load), (NANOXL, load_nanoxl)], ids=["nano", "nanoxl"])
@pytest.mark.parametrize("dialect", ["kohya", "comfyui"])
def test_the_base_with_the_file_is_the_tuned_checkpoint(tmp_path, base, make, dialect):
    """Weights, biases, norms and embeddings of every component; 1e-6 of the weight, float32."""
    saved(make(), base, tmp_path / "a", "folder")
    save_file(single_file(moved(make()), base), tmp_path / "b.safetensors")
    request = CombineRequest(base=str(tmp_path / "a"), tuned=str(tmp_path / "b.safetensors"), error=0, dtype="fp32", dialect=dialect)
    found = Session().extract(request, tmp_path / "o.safetensors")
    assert found.worst.written < 1e-5
    file = read(tmp_path / "o.safetensors")
    with both(tmp_path / "a", tmp_path / "b.safetensors") as (one, other):
        assert file.adapters.keys() == base.by_target.keys()
        for target, adapter in file.adapters.items():
            weight, tuned = one.weight(target), other.weight(target)
            assert torch.allclose(weight + adapter.delta(weight), tuned, rtol=0, atol=1e-6)
            bias, tuned_bias = one.parameter(target, "bias"), other.parameter(target, "bias")
            if bias is not None:
                assert torch.allclose(bias + adapter.bias_delta(bias), tuned_bias, rtol=0, atol=1e-6)


def test_a_naming_without_norms_refuses_at_the_first_one(before, tmp_path):
    after = saved(moved(load()), NANO, tmp_path / "after", "folder")
    told = []
    request = CombineRequest(base=str(before), tuned=str(after), rank=4, dialect="peft")
    with pytest.raises(DialectCannotHold, match="norm"):
        Session().extract(request, tmp_path / "o.safetensors", on_module=lambda *now: told.append(now[0]))
    first = next(number for number, layer in enumerate(NANO.layers) if layer.kind == "norm")
    assert told == list(range(1, first + 1))


def test_the_file_draws_what_the_tuned_checkpoint_draws(before, tmp_path):
    """At most 1/255."""
    after = saved(moved(load()), NANO, tmp_path / "after", "folder")
    session = Session(lora_folders=[tmp_path / "loras"])
    session.extract(CombineRequest(base=str(before), tuned=str(after), error=0, dtype="fp32"), tmp_path / "loras" / "tuned.safetensors")

    def drawn(prompt, base):
        return np.asarray(session.generate(ImageRequest(prompt=prompt, seed=3, base=str(base)))[0].image.convert("RGB")).astype(int)

    assert int(np.abs(drawn("a cat", after) - drawn("a cat <lora:tuned:1>", before)).max()) <= 1
    assert int(np.abs(drawn("a cat", after) - drawn("a cat", before)).max()) > 1


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float8_e4m3fn])
def test_the_same_weights_make_no_file_whatever_their_layout_and_dtype(before, tmp_path, dtype):
    half = {key: value.to(dtype) for key, value in single_file(load(), NANO).items()}
    save_file(half, tmp_path / "half.safetensors")
    with both(before, tmp_path / "half.safetensors") as files:
        for one, other in (files, files[::-1]):
            with pytest.raises(NothingApplied, match=r"have the same weights in unet, text_encoder.*only before has .*vae"):
                difference(one, other, Goal(rank=4))


def test_a_folder_in_half_precision_is_the_same_base(before, tmp_path):
    """The VAE too."""
    after = saved(load().to(torch.float16), NANO, tmp_path / "half", "fp16 variant")
    with both(before, after) as files, pytest.raises(NothingApplied, match=r"nothing is written$"):
        difference(*files, Goal(rank=4))


def test_half_precision_leaves_what_moved(before, tmp_path):
    """float16 keeps 11 bits: of weights near 1 it loses 5e-4, and the planted change is 0.02 of them or more."""
    tensors = {key: value.half() for key, value in single_file(planted(load(), NANO), NANO).items()}
    save_file(tensors, tmp_path / "half.safetensors")
    with both(before, tmp_path / "half.safetensors") as (one, other):
        found = difference(one, other, Goal(error=0.05))
    assert {module.rank for module in found.modules} == {PLANTED}
    assert all(NANO.by_target[module.target].attention for module in found.modules)


def test_biases_and_norms_alone_are_written_without_ranks(before, tmp_path):
    tuned = load()
    tuned.unet.conv_in.bias.data += 1
    tuned.unet.conv_norm_out.bias.data += 2
    after = saved(tuned, NANO, tmp_path / "after", "folder")
    found = Session().extract(CombineRequest(base=str(before), tuned=str(after), rank=4), tmp_path / "o.safetensors")
    assert {(row.module, row.type, row.rank) for row in found.rows} == {(str(CONV), "full", 0), (str(NORM), "norm", 0)}
    file = read(tmp_path / "o.safetensors")
    assert torch.equal(file.adapters[CONV].bias, torch.ones(16).half())
    assert torch.equal(file.adapters[NORM].shift, torch.full((16,), 2.0).half())


def test_what_a_lora_has_no_place_for_is_told(before, tmp_path):
    tuned = planted(load(), NANO, which=lambda layer: layer.target in (CONV, TOKENS, POSITIONS))
    for parameter in list(tuned.vae.parameters())[:3]:
        parameter.data += 1
    after = saved(tuned, NANO, tmp_path / "after", "folder")
    found = Session().extract(CombineRequest(base=str(before), tuned=str(after), rank=4), tmp_path / "o.safetensors")
    embeddings, vae = found.warnings
    assert str(TOKENS) in embeddings
    assert str(POSITIONS) in embeddings
    assert "other tools have no place" in embeddings
    assert vae == "vae: 3 tensors differ, and a LoRA has no place for them"
    assert {TOKENS, POSITIONS, CONV} == read(tmp_path / "o.safetensors").adapters.keys()


def test_a_component_that_one_of_the_two_lacks_is_told_and_refused_if_it_was_asked_for(before, tmp_path):
    after = saved(planted(load(), NANO), NANO, tmp_path / "after.safetensors", "unet")
    with both(before, after) as (one, other):
        found = difference(one, other, Goal(rank=4))
        assert "text_encoder: only before has it, so it was not compared" in found.notes
        with pytest.raises(SettingsError, match="after has no text_encoder to compare; it has unet"):
            difference(one, other, Goal(rank=4), components=("text_encoder",))


def test_only_the_components_that_were_asked_for_are_compared(before, tmp_path):
    after = saved(moved(load()), NANO, tmp_path / "after", "folder")
    request = CombineRequest(base=str(before), tuned=str(after), rank=2, components=("text_encoder",))
    assert set(Session().extract(request, tmp_path / "o.safetensors").components) == {"text_encoder"}


def test_two_families_are_refused_with_both_names(tmp_path):
    request = CombineRequest(base="nano", tuned="tiny", rank=4)
    with pytest.raises(WrongBase, match="nano is loraloom nano 1, tiny is loraloom tiny 1"):
        Session().extract(request, tmp_path / "o.safetensors")
    assert not list(tmp_path.iterdir())


def test_nan_and_a_bias_that_only_one_has_are_refused_by_name(before, tmp_path):
    tensors = single_file(planted(load(), NANO), NANO)
    key = "model.diffusion_model.out.2.weight"
    save_file(tensors | {key: torch.full_like(tensors[key], torch.nan)}, tmp_path / "nan.safetensors")
    with (
        both(before, tmp_path / "nan.safetensors") as files,
        pytest.raises(BadTensor, match=r"nan: the weight of unet\.conv_out holds NaN"),
    ):
        difference(*files, Goal(rank=4))
    del tensors["model.diffusion_model.out.2.bias"]
    save_file(tensors, tmp_path / "other.safetensors")
    with (
        both(before, tmp_path / "other.safetensors") as files,
        pytest.raises(BaseError, match=r"before has a bias of unet\.conv_out, other"),
    ):
        difference(*files, Goal(rank=4))


def test_every_module_is_reported_and_a_callback_may_end_the_job(before, tmp_path):
    after = saved(planted(load(), NANO), NANO, tmp_path / "after", "folder")
    request = CombineRequest(base=str(before), tuned=str(after), rank=4)
    told = []
    Session().extract(request, tmp_path / "o.safetensors", on_module=lambda *now: told.append(now))
    whole = len(NANO.layers)
    assert told == [(done, whole) for done in range(1, whole + 1)]

    def stop(*now):
        if now[0] == 20:
            raise Interrupted("enough")

    with pytest.raises(Interrupted):
        Session().extract(request, tmp_path / "never" / "o.safetensors", on_module=stop)
    assert not (tmp_path / "never").exists()


def test_metadata_says_what_it_is_made_of(before, tmp_path):
    after = saved(planted(load(), NANO), NANO, tmp_path / "my tuned.safetensors", "single file")
    Session().extract(CombineRequest(base=str(before), tuned=str(after), rank=4), tmp_path / "o.safetensors")
    metadata = Header.read(tmp_path / "o.safetensors").metadata
    told = json.loads(metadata["loraloom.difference_of"])
    assert (told["base"]["name"], told["tuned"]["name"], told["method"]) == ("before", "my tuned", "rank 4")
    assert told["tuned"]["sampled_sha256"] == Header.read(after).sampled_hash() != told["base"]["sampled_sha256"]
    assert metadata["modelspec.merged_from"] == "my tuned, before"
    assert metadata["ss_base_model_version"] == NANO.version
    assert str(tmp_path) not in str(metadata)


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"mix": "<lora:a:1>", "tuned": "b", "base": "a", "rank": 4}, "there is a mix too; a file is made of one"),
        ({"tuned": "b", "base": "a", "rank": 4, "flatten": True}, "flatten is for a mix"),
        ({"tuned": "b", "rank": 4}, "tuned: give the base too"),
        ({"tuned": "b", "base": "a"}, "tuned: give a rank or an error"),
    ],
)
def test_a_request_is_a_mix_or_two_checkpoints(values, reason):
    with pytest.raises(SettingsError, match=reason):
        CombineRequest.of(**values)


def test_a_session_of_a_server_opens_no_checkpoints_by_path(tmp_path):
    with pytest.raises(NotSupported, match="a server only takes mixes"):
        Session(paths=False).extract(CombineRequest(base="nano", tuned=str(tmp_path), rank=4), tmp_path / "o.safetensors")


def test_the_whole_difference_is_written_where_it_is_asked_for(before, tmp_path):
    """As `full`: the same float32 numbers."""
    after = saved(planted(load(), NANO), NANO, tmp_path / "after", "folder")
    found = Session().extract(CombineRequest(base=str(before), tuned=str(after), type="full"), tmp_path / "o.safetensors")
    assert (set(found.types), found.dtype, found.worst.written) == ({"full"}, "float32", 0)


def test_a_base_that_is_not_here_is_an_error_before_anything_is_opened(tmp_path):
    for values in ({"base": "someone/model", "tuned": "tiny"}, {"base": "tiny", "tuned": str(tmp_path / "none.safetensors")}):
        with pytest.raises(BaseError, match="no such folder or file"):
            Session().extract(CombineRequest(rank=4, **values), tmp_path / "o.safetensors")


def test_an_opened_base_gives_the_weights_of_its_modules(nano):
    held = BaseFile("nano", NANO, {f"unet/{key}": value for key, value in nano.unet.state_dict().items()})
    assert held.components == ("unet",)
    assert torch.equal(held.weight(CONV), nano.unet.conv_in.weight)
