"""Words of other trainers mean what they mean there, or the error says what they are called here; a number is never a switch."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from loraloom.bases import NANO, SDXL
from loraloom.bases.base import Base
from loraloom.cli.course import PAUSE, Lines
from loraloom.combine import CombineRequest, ResizeRequest
from loraloom.errors import SettingsError
from loraloom.tensorfile import Header
from loraloom.tensorfile.dtypes import named_dtype
from loraloom.train import TrainConfig, read_config, resolve, train
from loraloom.train.config import JobFile
from loraloom.train.config.kohya import REMARKS, RENAMED, arguments
from loraloom.train.preflight import preflight
from loraloom.train.sampleprompts import SamplePrompt

Job = Callable[..., TrainConfig]


def test_every_word_that_is_understood_names_a_field_and_no_other() -> None:
    fields = TrainConfig.model_fields.keys()
    assert set(RENAMED.values()) <= fields
    assert not fields & (RENAMED.keys() | REMARKS.keys())
    assert not RENAMED.keys() & REMARKS.keys()


KOHYA = {
    "train_data_dir": "pictures", "network_dim": 8, "network_alpha": 4, "max_train_steps": 30, "train_batch_size": 3, "unet_lr": 2e-4,
    "optimizer_type": "AdamW8bit", "lr_scheduler": "constant_with_warmup", "lr_warmup_steps": 5, "mixed_precision": "bf16",
    "save_precision": "fp16", "gradient_checkpointing": True, "enable_bucket": True, "keep_tokens": 2, "shuffle_caption": True,
}  # fmt: skip


@pytest.mark.parametrize("ending", [".toml", ".json"])
def test_a_job_in_kohyas_words_is_the_job_in_ours(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"job{ending}"
    lines = (f"{name} = {json.dumps(value)}" for name, value in KOHYA.items())
    path.write_text("\n".join(lines) if ending == ".toml" else json.dumps(KOHYA))
    found = read_config(JobFile.read(path).anchored())
    ours = {
        "pictures": [tmp_path / "pictures"], "rank": 8, "alpha": 4, "steps": 30, "batch": 3, "learning_rate": 2e-4, "warmup": 5,
        "optimizer": "adamw8bit", "scheduler": "constant", "mixed_precision": "bfloat16", "dtype": "float16", "checkpointing": True,
        "buckets": True, "keep_first": 2, "caption_shuffle": True,
    }  # fmt: skip
    assert found == read_config(ours)


def test_a_mistake_under_kohyas_name_is_told_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "job.toml").write_text('train_data_dir = "x"\n\nnetwork_dim = 0\n')
    file = JobFile.read(tmp_path / "job.toml")
    with pytest.raises(SettingsError, match=r"job\.toml, line 3: rank = 0"):
        read_config(file.anchored(), file.where)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"network_dim": 4, "rank": 8}, "network_dim and rank are the same, and have 4 and 8; give one"),
        ({"cache_latents": True}, "cache_latents is an option of kohya's trainer; here: latents are always cached"),
        ({"output_name": "x"}, "give the whole file as output"),
        ({"netwrk_dim": 4}, "there is no option 'netwrk_dim'"),
        ({"optimizer": "AdamW9bit"}, 'no optimiser named.*"adamw8bit"'),
        ({"dtype": "int4"}, "dtype = 'int4'"),
        ({"caption_lines": "first"}, "caption_lines = 'first'"),
    ],
)
def test_what_is_not_understood_says_what_to_give(values: dict[str, Any], words: str, pictures: Path) -> None:
    with pytest.raises(SettingsError, match=words):
        preflight(read_config({"pictures": pictures, **values}), NANO).require_ready()


NUMBERS = [
    name for name, field in TrainConfig.model_fields.items()
    if any(kind in str(field.annotation) for kind in ("int", "float")) and "bool" not in str(field.annotation)
]  # fmt: skip


@pytest.mark.parametrize("name", NUMBERS)
@pytest.mark.parametrize("value", [True, False])
def test_a_switch_is_no_number(name: str, value: bool) -> None:
    with pytest.raises(SettingsError, match=rf"{name} = {value} is {str(value).lower()}, which only a switch can be"):
        read_config({"pictures": "x", name: value})


def test_the_command_line_understands_the_same_words() -> None:
    given = ["pictures", "--network_dim=8", "--unet-lr", "1e-4", "--optimizer_type", "Lion", "--trigger", "--x", "-n", "5"]
    assert arguments(given) == ["pictures", "--rank=8", "--lr", "1e-4", "--optimizer", "Lion", "--trigger", "--x", "-n", "5"]
    with pytest.raises(SettingsError, match="--max_train_epochs is an option of kohya's trainer; here: the course is counted in steps"):
        arguments(["--max_train_epochs=10"])


@pytest.mark.parametrize(
    ("words", "short", "long"),
    [
        (("fp16", "float16", "half", "F16"), "fp16", "float16"),
        (("bf16", "bfloat16"), "bf16", "bfloat16"),
        (("fp32", "float"), "fp32", "float32"),
    ],
)
def test_a_number_format_has_the_same_names_everywhere(words: tuple[str, ...], short: str, long: str) -> None:
    for word in words:
        assert named_dtype(word) == short
        assert CombineRequest.of(mix="x", dtype=word).dtype == ResizeRequest.of(rank=1, dtype=word).dtype == short
        assert read_config({"pictures": "x", "dtype": word}).dtype == long
    with pytest.raises(SettingsError, match="dtype int3"):
        named_dtype("int3")


@pytest.mark.parametrize(
    ("base", "words", "names"),
    [
        (SDXL, ("unet", "te"), ("unet", "text_encoder", "text_encoder_2")),
        (SDXL, ("te2", "te"), ("text_encoder_2", "text_encoder")),
        (NANO, ("te1",), ("text_encoder",)),
    ],
)
def test_te_is_every_text_encoder_everywhere(base: Base, words: tuple[str, ...], names: tuple[str, ...]) -> None:
    assert base.named(words) == names
    assert resolve(read_config({"pictures": "x", "components": words}), base).components == names
    with pytest.raises(SettingsError, match="has no te3"):
        base.named(("te3",))


def test_sample_prompts_have_kohyas_options() -> None:
    whole = "[trigger], a cat -- or two --n blurry, low quality --w 64 --h 128 --s 20 --l 7.5 --d 42"
    assert SamplePrompt.of(whole) == SamplePrompt("[trigger], a cat -- or two", "blurry, low quality", 64, 128, 20, 7.5, 42)
    assert SamplePrompt.of("a well--known cat") == SamplePrompt("a well--known cat")
    for words, told in {
        "x --w 65": "take 64 or 72",
        "x --s many": "a number, not 'many'",
        "x --ar 16:9": "--ar; known are --n",
        "x --d": "a number",
    }.items():
        with pytest.raises(SettingsError, match=told):
            read_config({"pictures": "x", "sample_prompts": (words,)})


def test_sample_prompts_come_from_a_file_too(job: Job, nano: Any, tmp_path: Path) -> None:
    from PIL import Image

    drawn: list[tuple[str, ...]] = []

    def draw(_: Any, prompts: Any, __: int) -> list[Image.Image]:
        drawn.append(tuple(prompts))
        return [Image.new("RGB", (8, 8)) for _ in prompts]

    path = tmp_path / "prompts.txt"
    path.write_bytes("\ufeff# of the run\n[trigger] at sea --w 64\n\n  a house  \n".encode("utf-16-le"))
    train(job(steps=2, sample_prompts=("a cat",), sample_file=path, sample_every=2), nano, NANO, draw=draw)
    assert drawn == [("a cat", "zvz at sea --w 64", "a house")]
    path.write_text("\n".join("a cat" for _ in range(17)))
    with pytest.raises(SettingsError, match=r"prompts\.txt: 17 sample prompts, at most 16"):
        resolve(job(sample_file=path), NANO)


def test_a_log_has_a_line_every_ten_seconds() -> None:
    said: list[str] = []
    now = iter([0.0, 1.0, PAUSE, PAUSE + 1, 2 * PAUSE, 2 * PAUSE + 1, 2 * PAUSE + 2, 2 * PAUSE + 3])
    lines = Lines(said.append, lambda: next(now))
    for step in range(1, 7):
        lines.show("training", step, 6, "loss 0.5" if step == 3 else "")
    lines.show("encoding", 1, 2)
    lines.show("encoding", 2, 2)
    steps = ["training: 1 of 6", "training: 3 of 6   loss 0.5", "training: 5 of 6", "training: 6 of 6"]
    assert said == [*steps, "encoding: 1 of 2", "encoding: 2 of 2"]


def test_a_network_that_changes_nothing_is_told(job: Job, nano: Any) -> None:
    small = train(job(learning_rate=1e-12), nano, NANO)
    assert any("every module of this network is zero" in note and "--dtype float32" in note for note in small.notes)
    none = train(job(learning_rate=1e-60, overwrite=True), nano, NANO)
    assert any("nothing was learned there; train with a higher --lr" in note for note in none.notes)
    assert not any("is zero" in note for note in train(job(overwrite=True), nano, NANO).notes)


@pytest.mark.parametrize("word", ["語" * 100, "я" * 200, "a" * 200, "🙂" * 60])
def test_a_trigger_of_any_length_names_a_file(
    pictures: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, nano: Any, word: str
) -> None:
    monkeypatch.chdir(tmp_path)
    config = TrainConfig(pictures=(pictures,), trigger=word, steps=2, dialects=("kohya", "peft"), keep=-1, save_every=1, keep_best=True)
    result = train(config, nano, NANO)
    assert Header.read(result.path).metadata["modelspec.trigger_phrase"] == word


@pytest.mark.parametrize("name", ["x" * 400, "語" * 100])
def test_a_name_that_no_file_system_takes_is_told_before_the_run(job: Job, tmp_path: Path, name: str) -> None:
    with pytest.raises(SettingsError, match=r"bytes, the limit is 200.*choose a shorter --output"):
        preflight(job(output=tmp_path / name), NANO)
