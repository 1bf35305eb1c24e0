"""One network at a smaller size: as near as its singular values allow, with everything else that it had."""

import json

import pytest
import torch
from safetensors import safe_open

from loraloom import Session, dialects, read
from loraloom.adapters import DoRA, Full, LoRA, Norm
from loraloom.bases import NANO
from loraloom.combine import ResizeRequest
from loraloom.errors import NotFound, NotSupported, SettingsError, WriteFailed
from loraloom.lorafile import LoraFile

TOLD = {
    "ss_output_name": "ink",
    "ss_network_dim": "8",
    "ss_network_alpha": "8",
    "ss_network_args": '{"conv_dim": "4", "conv_alpha": "4", "dropout": "0.1"}',
    "modelspec.author": "somebody",
    "modelspec.trigger_phrase": "zvz",
    "ss_tag_frequency": '{"10_ink": {"zvz": 10}}',
}


@pytest.fixture
def ink(tmp_path, make_lora):
    return make_lora(tmp_path / "ink.safetensors", seed=1, rank=8, metadata=TOLD)


def metadata(path):
    with safe_open(path, "np") as file:
        return file.metadata()


def best(path, target, rank):
    adapter = read(path).adapters[target]
    values = torch.linalg.svdvals(adapter.delta(torch.zeros(NANO.by_target[target].shape)).double().flatten(1))
    return float(values[rank:].norm() / values.norm())


def test_every_module_is_as_near_as_the_svd(ink, tmp_path):
    """1e-5 of the change; as written besides the rounding of the dtype, which is float32 here."""
    found = Session().resize(ink, ResizeRequest(rank=3, dtype="fp32"), tmp_path / "x.safetensors")
    before, after = read(ink), read(found.path)
    assert after.adapters.keys() == before.adapters.keys()
    told = {row.module: row for row in found.rows}
    for target, adapter in before.adapters.items():
        weight = torch.zeros(NANO.by_target[target].shape)
        delta, row = adapter.delta(weight).double(), told[str(target)]
        error = float((after.adapters[target].delta(weight).double() - delta).norm() / delta.norm())
        assert (after.adapters[target].rank, row.rank, row.ranks) == (3, 3, 8)
        assert error <= best(ink, target, 3) + 1e-5
        assert row.written == pytest.approx(error, abs=1e-6)


@pytest.mark.parametrize("options", [{"error": 0.3}, {"energy": 0.91}])
def test_an_error_and_an_energy_are_kept(ink, tmp_path, options):
    found = Session().resize(ink, ResizeRequest.of(**options), tmp_path / "x.safetensors")
    assert all(row.error <= 0.3 and row.rank < 8 for row in found.rows)
    assert found.ranks[0] < found.ranks[1]
    assert found.dtype == "float16"  # as the source is
    capped = Session().resize(ink, ResizeRequest.of(**options, max_rank=2), tmp_path / "y.safetensors")
    assert capped.ranks == (2, 2)


def test_what_the_file_said_stays_but_for_its_ranks(ink, tmp_path):
    told = metadata(Session().resize(ink, ResizeRequest(rank=3), tmp_path / "x.safetensors").path)
    assert all(told[name] == TOLD[name] for name in ("ss_output_name", "modelspec.author", "modelspec.trigger_phrase", "ss_tag_frequency"))
    assert (told["ss_network_dim"], told["ss_network_alpha"]) == ("3", "3")
    assert json.loads(told["ss_network_args"]) == {"dropout": "0.1"}
    source = json.loads(told["loraloom.resized_from"])
    assert (source["file"], source["method"], source["types"]) == ("ink.safetensors", "rank 3", {"lora": 60})
    assert source["sshs_model_hash"] == metadata(ink)["sshs_model_hash"] != told["sshs_model_hash"]
    assert 0 < source["error"] < 1
    assert str(tmp_path) not in json.dumps(told)
    told = metadata(Session().resize(ink, ResizeRequest(error=0.3), tmp_path / "y.safetensors").path)
    assert (told["ss_network_dim"], told["ss_network_alpha"]) == ("Dynamic", "Dynamic")


def test_ranks_that_it_does_not_have_are_not_made(ink, tmp_path):
    found = Session().resize(ink, ResizeRequest(rank=64, dtype="fp32"), tmp_path / "x.safetensors")
    assert found.ranks == (8, 8)
    assert found.worst.written < 1e-6


def test_norms_biases_words_and_whole_changes_come_along(tmp_path):
    layers = {kind: next(layer for layer in NANO.layers if layer.kind == kind) for kind in ("norm", "conv")}
    linear = next(layer for layer in NANO.layers if layer.attention and layer.kind == "linear")
    norm = Norm(weight=torch.randn(layers["norm"].shape), shift=torch.randn(layers["norm"].shape))
    adapters = {
        layers["norm"].target: norm,
        layers["conv"].target: Full(bias=torch.randn(layers["conv"].shape[0])),
        linear.target: Full(diff=torch.randn(linear.shape), bias=torch.randn(linear.shape[0])),
    }
    file = LoraFile(adapters, {}, "nano", embeddings={"zvz": {"text_encoder": torch.ones(1, 24)}})
    source = dialects.write(file, tmp_path / "x.safetensors", dtype=torch.float32)
    found = Session().resize(source, ResizeRequest(rank=2), tmp_path / "y.safetensors")
    back = read(found.path)
    assert found.dtype == "float32"
    assert torch.equal(back.adapters[layers["norm"].target].shift, norm.shift)
    assert torch.equal(back.adapters[layers["conv"].target].bias, adapters[layers["conv"].target].bias)
    assert torch.equal(back.adapters[linear.target].bias, adapters[linear.target].bias)
    assert isinstance(back.adapters[linear.target], LoRA)
    assert back.adapters[linear.target].rank == 2
    assert back.embeddings.keys() == {"zvz"}


def test_what_needs_the_base_gets_it(tmp_path):
    linear = next(layer for layer in NANO.layers if layer.attention and layer.kind == "linear")
    inner = LoRA(down=torch.randn(2, linear.shape[1]), up=torch.randn(linear.shape[0], 2), alpha=torch.tensor(1.0))
    dora = DoRA.of(inner, magnitude=1 + torch.rand(linear.shape[0], 1))
    source = dialects.write(LoraFile({linear.target: dora}, {}, "nano"), tmp_path / "x.safetensors")
    with pytest.raises(NotSupported, match="give the base"):
        Session().resize(source, ResizeRequest(rank=2), tmp_path / "y.safetensors")
    found = Session().resize(source, ResizeRequest(rank=2, base="nano"), tmp_path / "y.safetensors")
    assert found.types == {"lora": 1}


@pytest.mark.parametrize(
    ("options", "types"), [({"type": "lokr", "rank": 2}, {"lokr": 60}), ({"type": "lora", "error": 0.2}, {"lora": 60})]
)
def test_it_may_be_of_another_type(ink, tmp_path, options, types):
    found = Session().resize(ink, ResizeRequest.of(**options), tmp_path / "x.safetensors")
    assert found.types == types
    assert {adapter.name for adapter in read(found.path).adapters.values()} == types.keys()


def test_entries_that_fit_nothing_are_told(ink, tmp_path):
    from safetensors.torch import load_file, save_file

    save_file(load_file(ink) | {"stray": torch.ones(1)}, tmp_path / "stray.safetensors", metadata(ink))
    found = Session().resize(tmp_path / "stray.safetensors", ResizeRequest(rank=2), tmp_path / "x.safetensors")
    assert any("stray: left out, because it fits nothing: stray" in warning for warning in found.warnings)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({}, "how small"),
        ({"rank": 4, "energy": 0.9}, "two ways"),
        ({"rank": 0}, "rank: should be greater"),
        ({"max_rank": 4}, "max_rank goes with"),
        ({"rank": 4, "type": "loha"}, "type: .*'lora', 'lokr' or 'full'"),
        ({"rank": 4, "components": ["unet"]}, "no option 'components'"),
    ],
)
def test_requests_without_meaning_are_refused(options, reason):
    with pytest.raises(SettingsError, match=reason):
        ResizeRequest.of(**options)


def test_mistakes_write_nothing(ink, tmp_path):
    before = ink.read_bytes()
    with pytest.raises(WriteFailed, match="is there already"):
        Session().resize(ink, ResizeRequest(rank=2), ink)
    with pytest.raises(NotFound):
        Session().resize("nobody", ResizeRequest(rank=2), tmp_path / "x.safetensors")
    with pytest.raises(SettingsError, match="full has the whole change"):
        Session().resize(ink, ResizeRequest(rank=2, type="full"), tmp_path / "x.safetensors")
    assert ink.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["ink.safetensors"]
    Session().resize(ink, ResizeRequest(rank=2), ink, overwrite=True)
    assert read(ink).metadata["ss_network_dim"] == "2"
