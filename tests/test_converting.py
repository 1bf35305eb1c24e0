"""Laws of converting: the same change in another form, or nothing is written and the reason is said."""

import json

import pytest
import torch
from safetensors.torch import load_file

from loraloom import dialects
from loraloom.adapters import TYPES, DoRA, Full, LoRA, Norm
from loraloom.bases import NANO
from loraloom.combine import Goal
from loraloom.converting import convert
from loraloom.dialects import publishing
from loraloom.errors import BaseError, DialectCannotHold, NotSafetensors, NotSupported, SettingsError, UnknownFormat, WriteFailed
from loraloom.lorafile import LoraFile
from loraloom.tensorfile import Header


def random_file(*, tucker=False, dtype=torch.float32):
    """On linear layers and convolutions of the denoiser and the text encoder."""
    generator = torch.Generator().manual_seed(0)
    adapters = {}
    for layer in NANO.layers[:40] + NANO.layers[-12:]:
        if layer.kind in ("linear", "conv"):
            fresh = LoRA.init(torch.zeros(layer.shape), rank=3, alpha=2.0, generator=generator, tucker=tucker)
            adapters[layer.target] = fresh.with_tensors({"up": torch.randn(fresh.up.shape, generator=generator)}).map(
                lambda tensor: tensor.to(dtype) if tensor.ndim else tensor
            )
    return LoraFile(adapters, {"ss_output_name": "ink", "modelspec.author": "somebody"}, "nano")


def written(file, folder):
    return dialects.write(file, folder / "source.safetensors", dtype=torch.float32)


def deltas(path):
    file = dialects.read(path, NANO)
    return {target: adapter.delta(torch.zeros(NANO.by_target[target].shape)) for target, adapter in file.adapters.items()}


def same(found, expected, tolerance=0.0):
    assert found.keys() == expected.keys()
    for target, delta in expected.items():
        assert float((found[target] - delta).abs().max()) <= tolerance * float(delta.abs().max())


WRITABLE = [dialect.name for dialect in dialects.DIALECTS if dialect.writes and dialect.name != "peft-folder"]


@pytest.mark.parametrize("dialect", WRITABLE)
def test_another_dialect_is_the_same_change(tmp_path, dialect):
    source = written(random_file(), tmp_path)
    found = convert(source, tmp_path / "new" / "x.safetensors", dialect=dialect)
    same(deltas(found.path), deltas(source), 1e-6)
    assert (found.rounding, found.dtype, found.left_out, found.types) == (0, "float32", (), {"lora": found.modules})
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["x.safetensors"]


def test_a_folder_of_peft_is_written_and_read(tmp_path):
    source = written(random_file(), tmp_path)
    folder = convert(source, tmp_path / "ink", dialect="peft-folder").path
    same(deltas(folder), deltas(source), 1e-6)
    back = convert(folder, tmp_path / "back.safetensors")
    same(deltas(back.path), deltas(source), 1e-6)


@pytest.mark.parametrize("tucker", [False, True])
@pytest.mark.parametrize("kind", ["lora", "full"])
def test_another_type_is_the_same_change(tmp_path, kind, tucker):
    source = written(random_file(tucker=tucker), tmp_path)
    found = convert(source, tmp_path / "x.safetensors", goal=Goal(type=kind))
    assert found.types == {kind: found.modules}
    same(deltas(found.path), deltas(source), 1e-5)
    assert not any("lora_mid" in key for key in load_file(found.path))


@pytest.mark.parametrize("kind", [kind for kind in TYPES if not kind.reads_weight and kind not in (Norm,)], ids=lambda kind: kind.name)
def test_every_type_that_has_exact_factors_becomes_a_lora_or_is_refused_by_name(tmp_path, kind):
    layer = next(layer for layer in NANO.layers if layer.attention and layer.kind == "linear")
    generator = torch.Generator().manual_seed(1)
    fresh = kind.init(torch.zeros(layer.shape), rank=2, alpha=1.0, generator=generator)
    adapter = fresh.with_tensors({name: torch.randn(value.shape, generator=generator) for name, value in fresh.trainable().items()})
    source = written(LoraFile({layer.target: adapter}, {}, "nano"), tmp_path)
    if adapter.factors(layer.shape) is None:
        with pytest.raises(NotSupported, match=rf"{layer.target}: .* cannot be written as lora without loss"):
            convert(source, tmp_path / "x.safetensors", goal=Goal(type="lora"))
        return
    found = convert(source, tmp_path / "x.safetensors", goal=Goal(type="lora"))
    assert found.types == {"lora": 1}
    same(deltas(found.path), deltas(source), 1e-5)


def test_what_needs_the_base_is_refused_and_nothing_is_written(tmp_path):
    layer = next(layer for layer in NANO.layers if layer.attention and layer.kind == "linear")
    inner = LoRA(down=torch.ones(2, layer.shape[1]), up=torch.ones(layer.shape[0], 2), alpha=torch.tensor(1.0))
    dora = DoRA.of(inner, magnitude=torch.ones(layer.shape[0], 1))
    source = written(LoraFile({layer.target: dora}, {}, "nano"), tmp_path)
    for kind in ("lora", "full"):
        with pytest.raises(NotSupported, match="depends on the base's own weights, which are not in the file"):
            convert(source, tmp_path / "x.safetensors", goal=Goal(type=kind))
    assert [path.name for path in tmp_path.iterdir()] == ["source.safetensors"]


def test_a_bias_and_norms_stay(tmp_path):
    conv = next(layer for layer in NANO.layers if layer.kind == "conv")
    norm = next(layer for layer in NANO.layers if layer.kind == "norm")
    adapters = {
        conv.target: Full(diff=torch.randn(conv.shape), bias=torch.randn(conv.shape[0])),
        norm.target: Norm(weight=torch.randn(norm.shape), shift=torch.randn(norm.shape)),
    }
    source = written(LoraFile(adapters, {}, "nano"), tmp_path)
    found = dialects.read(convert(source, tmp_path / "x.safetensors", goal=Goal(type="full")).path)
    assert torch.equal(found.adapters[conv.target].bias, adapters[conv.target].bias)
    assert torch.equal(found.adapters[norm.target].shift, adapters[norm.target].shift)


@pytest.mark.parametrize(("dtype", "most"), [("fp16", 2**-11), ("bf16", 2**-8), ("fp32", 0)])
def test_the_worst_rounding_is_told(tmp_path, dtype, most):
    source = written(random_file(), tmp_path)
    found = convert(source, tmp_path / "x.safetensors", dtype=dtype)
    before, after = load_file(source), load_file(found.path)
    lost = {key: float((tensor - after[key].float()).abs().max() / tensor.abs().max()) for key, tensor in before.items() if tensor.ndim}
    assert found.rounding == pytest.approx(max(lost.values()), rel=1e-3)
    assert found.rounding <= most
    assert bool(found.worst) == bool(most)


def test_the_dtype_stays_as_it_was(tmp_path):
    for dtype in (torch.float16, torch.bfloat16, torch.float32):
        source = dialects.write(random_file(), tmp_path / f"{dtype}.safetensors", dtype=dtype)
        found = convert(source, tmp_path / f"{dtype}-2.safetensors")
        assert (found.dtype, found.rounding) == (str(dtype).removeprefix("torch."), 0)


def test_metadata_stays_and_says_where_it_comes_from(tmp_path):
    source = written(random_file(), tmp_path)
    metadata = Header.read(convert(source, tmp_path / "x.safetensors", dtype="fp16").path).metadata
    assert (metadata["ss_output_name"], metadata["modelspec.author"]) == ("ink", "somebody")
    told = json.loads(metadata["loraloom.converted_from"])
    assert (told["file"], told["dialect"], told["dtype"]) == ("source.safetensors", "kohya", "float16")
    assert told["sshs_model_hash"] == Header.read(source).metadata["sshs_model_hash"]
    assert str(tmp_path) not in json.dumps(dict(metadata))


def test_nothing_is_written_over_unless_it_was_asked_for(tmp_path):
    source = written(random_file(), tmp_path)
    before = source.read_bytes()
    with pytest.raises(WriteFailed, match="is there already and was not touched"):
        convert(source, source, dtype="fp16")
    assert source.read_bytes() == before
    convert(source, source, dtype="fp16", overwrite=True)
    assert source.read_bytes() != before


def test_a_folder_of_peft_is_replaced_and_no_other(tmp_path):
    source, output = written(random_file(), tmp_path), tmp_path / "folder"
    convert(source, output, dialect="peft-folder")
    before = (output / "unet" / "adapter_model.safetensors").read_bytes()
    convert(source, output, dialect="peft-folder", dtype="fp16", overwrite=True)
    assert (output / "unet" / "adapter_model.safetensors").read_bytes() != before
    (output / "mine.txt").write_text("mine")
    with pytest.raises(WriteFailed, match="is no PEFT folder"):
        convert(source, output, dialect="peft-folder", overwrite=True)
    assert (output / "mine.txt").read_text() == "mine"
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([source.name, "folder"])


def test_a_result_that_would_lack_something_never_gets_its_name(tmp_path, monkeypatch):
    source = written(random_file(), tmp_path)
    read = publishing.read

    def short(path, *arguments, **options):
        file = read(path, *arguments, **options)
        if path != source:
            file.adapters.popitem()
        return file

    monkeypatch.setattr(publishing, "read", short)
    with pytest.raises(DialectCannotHold, match=r"does not give back .* nothing was written"):
        convert(source, tmp_path / "x.safetensors")
    assert [path.name for path in tmp_path.iterdir()] == ["source.safetensors"]


@pytest.mark.parametrize(
    ("options", "kind", "message"),
    [
        ({"dialect": "kohia"}, UnknownFormat, 'did you mean "kohya"'),
        ({"goal": Goal(type="lore")}, NotSupported, 'did you mean "lora"'),
        ({"dtype": "fp8"}, SettingsError, "networks are written as fp16, bf16, fp32"),
    ],
)
def test_what_there_is_not_is_refused(tmp_path, options, kind, message):
    source = written(random_file(), tmp_path)
    with pytest.raises(kind, match=message):
        convert(source, tmp_path / "x.safetensors", **options)


def test_a_pickle_is_converted_as_its_tensors_are(tmp_path):
    source = written(random_file(), tmp_path)
    torch.save({"state_dict": load_file(source), "note": "mine"}, tmp_path / "x.ckpt")
    found = convert(tmp_path / "x.ckpt", tmp_path / "x.safetensors")
    same(deltas(found.path), deltas(source))
    assert json.loads(Header.read(found.path).metadata["loraloom.converted_from"])["file"] == "x.ckpt"


def test_a_pickle_that_is_called_safetensors_is_converted_as_its_refusal_says(tmp_path):
    source = written(random_file(), tmp_path)
    torch.save(load_file(source), tmp_path / "renamed.safetensors")
    with pytest.raises(NotSafetensors, match="`loraloom convert` makes one of it"):
        Header.read(tmp_path / "renamed.safetensors")
    same(deltas(convert(tmp_path / "renamed.safetensors", tmp_path / "x.safetensors").path), deltas(source))


def test_a_safetensors_file_that_is_called_pt_is_read_as_what_it_is(tmp_path):
    source = written(random_file(), tmp_path).rename(tmp_path / "x.pt")
    assert convert(source, tmp_path / "x.safetensors").modules > 10


def test_a_family_that_has_no_table_is_refused(tmp_path):
    from safetensors.torch import save_file

    save_file({"lora_unet_double_blocks_0_img_attn_qkv.lora_down.weight": torch.ones(2, 3072)}, tmp_path / "flux.safetensors")
    with pytest.raises((BaseError, UnknownFormat), match=r"Flux\.1"):
        convert(tmp_path / "flux.safetensors", tmp_path / "x.safetensors")


def test_what_has_no_exact_form_is_near_where_a_loss_is_allowed(tmp_path):
    layers = [layer for layer in NANO.layers if layer.attention and layer.kind == "linear"][:4]
    adapters = {layer.target: Full(diff=torch.randn(layer.shape)) for layer in layers}
    source = written(LoraFile(adapters, {"ss_network_dim": "8"}, "nano"), tmp_path)
    with pytest.raises(NotSupported, match="say with a rank, an error or an energy how much"):
        convert(source, tmp_path / "x.safetensors", goal=Goal(type="lora"))
    for kind in ("lora", "lokr"):
        found = convert(source, tmp_path / f"{kind}.safetensors", goal=Goal(type=kind, error=0.5))
        expected, made = deltas(source), deltas(found.path)
        assert found.types == {kind: 4}
        for target, delta in expected.items():
            error = float((made[target] - delta).norm() / delta.norm())
            assert found.errors[str(target)] == pytest.approx(error, abs=1e-6)
            assert error <= 0.5
        assert Header.read(found.path).metadata["ss_network_dim"] != "8"


def test_a_size_without_a_type_is_for_another_command(tmp_path):
    source = written(random_file(), tmp_path)
    with pytest.raises(SettingsError, match="`resize` makes a network smaller"):
        convert(source, tmp_path / "x.safetensors", goal=Goal(rank=2))
