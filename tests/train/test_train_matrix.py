"""Every type trains on every kind of component: its loss falls, its file is what was trained, here and in its reference library, and a
run that was stopped ends with the same bits. docs/training.md has the table.

A few types of three steps run always, all of them in make test-long; `LORALOOM_DOCS=1 pytest tests/train/test_train_matrix.py` writes the
table. The judges load the file and give our output, within 1e-5 of the largest in float32 (product.md §6).
"""

import copy
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from lycoris.kohya import LycorisNetworkKohya, create_network_from_weights
from support import close
from torch import nn

from loraloom import dialects
from loraloom.adapters import TYPES
from loraloom.bases import NANO, NANOV, NANOXL, Base
from loraloom.bases.nano.model import load
from loraloom.bases.nanov import model as nanov
from loraloom.bases.nanoxl import model as nanoxl
from loraloom.train import TrainConfig, TrainingStopped, train
from loraloom.train.trainable import Trainable
from loraloom.train.view import view

DOCS = Path(__file__).parents[2] / "docs" / "training.md"
BEGIN, END = "<!-- matrix: tests/train/test_train_matrix.py writes it -->\n", "<!-- end of the matrix -->"
LYCORIS, DIFFUSERS, NOBODY = "LyCORIS", "diffusers", "–"
# The job's type, and who else loads the file. Nobody: LyCORIS' own loader raises for IA3, and knows neither these forms of OFT nor
# DoRA around more than LoRA, LoHa and LoKr; tests/adapters judges those by the layers of PEFT and LyCORIS.
ROWS: dict[str, tuple[str, str]] = {
    "lora": ("lora", DIFFUSERS),
    "loha": ("loha", LYCORIS),
    "lokr": ("lokr:factor=4", LYCORIS),
    "glora": ("glora", LYCORIS),
    "full": ("full", LYCORIS),
    "norm": ("norm", LYCORIS),
    "oft": ("oft:constraint=0.1:rescaled", LYCORIS),
    "oft-diag": ("oft-diag", NOBODY),
    "boft": ("boft", LYCORIS),
    "oft-onetrainer": ("oft-onetrainer", NOBODY),
    "ia3": ("ia3", NOBODY),
    "lora+dora": ("lora:dora", LYCORIS),
    "loha+dora": ("loha:dora", LYCORIS),
    "lokr+dora": ("lokr:factor=4:dora", LYCORIS),
    "glora+dora": ("glora:dora", NOBODY),
    "full+dora": ("full:dora", NOBODY),
    "oft+dora": ("oft:dora", NOBODY),
    "oft-diag+dora": ("oft-diag:dora", NOBODY),
    "boft+dora": ("boft:dora", NOBODY),
    "oft-onetrainer+dora": ("oft-onetrainer:dora", NOBODY),
}
FAMILIES: dict[str, tuple[Base, Callable[[], Any]]] = {
    "SD 1.x": (NANO, load), "SD 2.x": (NANOV, nanov.load), "SDXL": (NANOXL, nanoxl.load),
}  # fmt: skip
Job = Callable[..., TrainConfig]
SHORT, LONG = 3, 40  # steps of a run


def test_every_type_has_a_row() -> None:
    """But a residue of single values, which comes from extraction, and DoRA around IA3, which would do what IA3 does."""
    assert set(ROWS) == {kind.name for kind in TYPES if "sparse" not in kind.name} - {"ia3+dora"}


def outputs(pipeline: Any, base: Base, adapters: Any = None) -> torch.Tensor:
    """What the base predicts for fixed noise and words, with adapters beside it."""
    seen = view(pipeline, base)
    noisy = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    asked: Any = {"token_ids": seen.token_ids(["zvz, a cat", "dark"])}
    network = Trainable(seen, base, adapters or {})
    with torch.no_grad(), network.attached():
        return network(noisy, torch.tensor([500, 100]), **asked)


def judged(pipeline: Any, base: Base, path: Path, judge: str) -> torch.Tensor:
    """The same through another library, which loads the file."""
    other = copy.deepcopy(pipeline)
    if judge == DIFFUSERS:
        other.load_lora_weights(path)
        seen = view(other, base)
        noisy = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(1))
        with torch.no_grad():
            return seen.denoise(noisy, torch.tensor([500, 100]), seen.embed(seen.token_ids(["zvz, a cat", "dark"])))
    named = nn.Module()
    named.text_model = other.text_encoder  # the name that files give its modules, which transformers 5 dropped
    network, _ = create_network_from_weights(1.0, str(path), None, named, other.unet)
    for module in network.unet_loras + network.text_encoder_loras:
        module.eval()
        module.apply_to()
    return outputs(other, base)


def cell(job: Job, pipeline: Any, base: Base, judge: str, *, steps: int, tmp_path: Path, **values: Any) -> str:
    """One run, stopped in the middle and gone on with, beside a straight one. Says who agrees."""
    rate = {"learning_rate": 1e-2, "scheduler": "constant", "min_snr_gamma": 0.0}
    common = {"base": base.family, "steps": steps, "dtype": "float32", "output": tmp_path / "stopped", **rate, **values}
    straight = train(job(**{**common, "output": tmp_path / "straight"}), pipeline, base)
    left = iter(range(steps // 2, -1, -1))
    with pytest.raises(TrainingStopped):
        train(job(**common), pipeline, base, stop=lambda: next(left) == 0)
    resumed = train(job(**common, resume=True), pipeline, base)
    assert resumed.hash == straight.hash, "a resumed run is another run"
    if steps > SHORT:
        same = {"components": values["components"], "output": tmp_path / "loss.safetensors"}
        before, after = (loss(job, pipeline, base, **same, **more) for more in ({}, {"warm_start": resumed.path}))
        assert after < before, f"the loss was {before} and is {after}"
    file = dialects.read(resumed.path)
    assert (file.base, file.unknown, file.warnings) == (base.family, (), ())
    again = dialects.read(dialects.write(file, tmp_path / "again.safetensors", dtype=torch.float32))
    for target, adapter in file.adapters.items():
        torch.testing.assert_close(again.adapters[target].tensors(), adapter.tensors(), rtol=0, atol=0)
    ours, plain = outputs(pipeline, base, file.adapters), outputs(pipeline, base)
    assert not close(ours, plain, 1e-3), "nothing was learned"
    if judge != NOBODY:
        assert close(judged(pipeline, base, resumed.path, judge), ours), f"{judge} gives something else"
    return judge


def loss(job: Job, pipeline: Any, base: Base, output: Path, **values: Any) -> float:
    """The mean loss of 32 samples whose noise is always the same; nothing is learned on the way."""
    train(job(base=base.family, steps=4, batch=8, learning_rate=1e-12, output=output, overwrite=True, **values), pipeline, base)
    lines = output.with_suffix(".log.jsonl").read_text().splitlines()
    return sum(json.loads(line)["loss"] for line in lines) / len(lines)


@pytest.fixture(autouse=True)
def nothing_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """LyCORIS' loader makes a network of its usual targets first, of which it takes the time embedding twice and fails."""
    monkeypatch.setattr(LycorisNetworkKohya, "UNET_TARGET_REPLACE_MODULE", [])
    monkeypatch.setattr(LycorisNetworkKohya, "UNET_TARGET_REPLACE_NAME", [])


def values(name: str) -> dict[str, Any]:
    return {"type": ROWS[name][0], **({"rank": 6} if name.startswith("boft") else {})}  # 24 rows are 4 × 6, no power of 2 times 4


@pytest.mark.parametrize(("name", "component"), [("lokr+dora", "unet"), ("oft", "text_encoder")])
def test_a_type_trains(job: Job, nano: Any, tmp_path: Path, name: str, component: str) -> None:
    cell(job, nano, NANO, ROWS[name][1], steps=SHORT, tmp_path=tmp_path, components=(component,), **values(name))


@pytest.mark.parametrize("family", ["SD 2.x", "SDXL"])
def test_a_family_trains_with_its_text_encoders(job: Job, tmp_path: Path, family: str) -> None:
    base, make = FAMILIES[family]
    cell(job, make(), base, DIFFUSERS, steps=SHORT, tmp_path=tmp_path, components=base.components, rank=2)


@pytest.mark.long
def test_the_table_in_the_docs_is_what_holds(job: Job, nano: Any, tmp_path: Path) -> None:
    lines = ["| type | UNet | text encoder | the file loads in |", "|---|---|---|---|"]
    for name, (kind, judge) in ROWS.items():
        for component in ("unet", "text_encoder"):
            folder = tmp_path / f"{name} {component}"
            cell(job, nano, NANO, judge, steps=LONG, tmp_path=folder, components=(component,), **values(name))
        lines.append(f"| `{kind}` | trains | trains | {judge} |")
    for family, (base, make) in FAMILIES.items():
        cell(job, make(), base, DIFFUSERS, steps=LONG, tmp_path=tmp_path / family, components=base.components)
        lines.append(f"| `lora` on {family}, all components | trains | trains | {DIFFUSERS} |")
    found = "\n".join(lines) + "\n"
    print(found)
    before, _, rest = DOCS.read_text().partition(BEGIN)
    committed, end, after = rest.partition(END)
    assert end, f"{DOCS} has no place for the matrix"
    if os.environ.get("LORALOOM_DOCS"):
        DOCS.write_text(before + BEGIN + found + END + after)
    else:
        assert committed == found, "LORALOOM_DOCS=1 writes the new table"
