"""Laws of what a run leaves: every file complete and verified, in every naming, the best among them, and nobody else's touched."""

import errno
import json
import os
import re
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from loraloom import dialects
from loraloom.bases import NANO
from loraloom.errors import DialectCannotHold, SettingsError, TrainingError, WriteFailed
from loraloom.tensorfile import Header
from loraloom.train import Progress, TrainConfig, TrainingStopped, TrainResult, checkpoint, interrupt, train
from loraloom.train.overfit import report
from loraloom.train.record import Measured, Record

Job = Callable[..., TrainConfig]


def losses(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.with_suffix(".log.jsonl").read_text().splitlines()]


@pytest.fixture
def kept(job: Job, nano: Any) -> TrainResult:
    config = job(steps=8, save_every=2, keep=2, keep_best=True, dialects=("kohya", "peft"), dtype="float32", validation_share=0.3)
    return train(config, nano, NANO)


def test_every_file_of_a_run_is_whole_and_says_what_it_is(kept: TrainResult) -> None:
    folder = kept.path.parent
    files = {path.name for path in folder.glob("*.safetensors")}
    steps = {"": 8, "-best": kept.best[1], "-000004": 4, "-000006": 6}
    assert files == {f"zvz{mark}{ending}" for mark in steps for ending in (".safetensors", ".peft.safetensors")}
    assert kept.others == (folder / "zvz.peft.safetensors",)
    for mark, step in steps.items():
        kohya, peft = (dialects.read(folder / f"zvz{mark}{ending}", NANO) for ending in (".safetensors", ".peft.safetensors"))
        assert kohya.adapters.keys() == peft.adapters.keys()
        for told in (kohya.metadata, peft.metadata):
            assert (told["ss_steps"], told["modelspec.trigger_phrase"], told["ss_network_dim"]) == (str(step), "zvz", "4")
            assert told["ss_session_id"] == kohya.metadata["ss_session_id"]
        assert all(bool((kohya.adapters[t].down == peft.adapters[t].down).all()) for t in kohya.adapters)
    assert "lora_A" in next(iter(Header.read(folder / "zvz.peft.safetensors").entries))


def test_the_best_is_that_of_the_lowest_held_out_loss(kept: TrainResult) -> None:
    looks = [line for line in losses(kept.path) if "held_out" in line]
    assert [line["step"] for line in looks] == [0, 2, 4, 6, 8]
    lowest = min(looks[1:], key=lambda line: line["held_out"])
    assert kept.best == (kept.path.parent / "zvz-best.safetensors", lowest["step"])
    assert f"held-out loss {looks[0]['held_out']:.4f} at step 0" in kept.held_out
    assert "1 held-out picture this is a hint" in kept.held_out


def test_without_held_out_pictures_the_lowest_smoothed_loss_is_the_best(job: Job, nano: Any) -> None:
    result = train(job(steps=4, save_every=1, keep_best=True), nano, NANO)
    assert result.best is not None
    assert result.held_out == ""
    assert float(Header.read(result.best[0]).metadata["loraloom.loss"]) <= result.final_loss * 1.0001


def test_held_out_pictures_change_nothing_that_is_trained(job: Job, nano: Any, pictures: Path, make_pictures: Any, tmp_path: Path) -> None:
    plain = train(job(dtype="float32"), nano, NANO)
    held = make_pictures(tmp_path / "held", {"x": "a dog", "y": None}, size=(20, 20))
    (held / "twin.png").write_bytes((pictures / "a.png").read_bytes())
    result = train(job(dtype="float32", validation=held, validate_every=3, output=tmp_path / "v" / "zvz"), nano, NANO)
    assert result.hash == plain.hash
    assert any("1 held-out pictures are among those that are trained on" in note and "twin.png" in note for note in result.notes)
    assert any(note.startswith("held-out pictures: ") for note in result.notes)


def test_held_out_pictures_are_not_trained_on(job: Job, nano: Any) -> None:
    result = train(job(steps=1, validation_share=0.34), nano, NANO)
    assert Header.read(result.path).metadata["ss_num_train_images"] == "2"
    assert any("1 of 3 pictures are held out: " in note for note in result.notes)


def measured(step: int, held: float, trained: float) -> Measured:
    noise = [0.3, -0.2, 0.1, -0.4, 0.25, -0.05, 0.15, -0.15]  # of the samples: larger than what was learned, and the same every time
    jitter = [0.001, -0.001, 0.002, -0.002, 0, 0.001, -0.001, 0]
    shift = [a + (step % 7) * b for a, b in zip(noise, jitter, strict=True)]
    return Measured(step, tuple(held + each for each in shift), tuple(trained + each for each in shift))


@pytest.mark.parametrize(
    ("looks", "words"),
    [
        (
            [(0, 1.0, 1.0), (1, 0.9, 0.9), (2, 0.95, 0.7)],
            "lowest at step 1 (0.9000) and rose by 5.6% since, while .* fell by 22.2%: it overfits",
        ),
        (
            [(0, 1.0, 1.0), (1, 0.9, 0.9), (2, 0.8, 0.8)],
            "No overfitting seen: it fell by 20.0%, .* fell by 20.0%; it was lowest at the end",
        ),
        ([(0, 1.0, 1.0), (1, 1.0, 0.9)], "did not change beyond chance, while .* fell by 10.0%: what was learned are these pictures"),
        ([(0, 1.0, 1.0), (1, 1.0, 1.0)], "hardly anything was learned"),
        ([(0, 1.0, 1.0), (1, 1.2, 1.0)], "rose by 20.0% since"),
    ],
)
def test_the_report_says_what_the_losses_say(looks: list[tuple[int, float, float]], words: str) -> None:
    record = Record()
    for look in looks:
        record.measured(measured(*look))
    pattern = words.replace("(", r"\(").replace(")", r"\)")
    assert re.search(pattern, report(record, 5)), report(record, 5)
    assert "hint" not in report(record, 5)
    assert Record.of(json.loads(json.dumps(record.as_json()))) == record


@pytest.mark.parametrize("name", ["zvz.peft.safetensors", "zvz-best.safetensors", "zvz-000002.safetensors"])
@pytest.mark.parametrize("resume", [False, True])
def test_no_file_of_another_run_is_replaced_unasked(job: Job, nano: Any, name: str, resume: bool) -> None:
    config = job(steps=4, save_every=2, keep=-1, keep_best=True, dialects=("kohya", "peft"), resume=resume)
    path = config.output.parent / name
    path.parent.mkdir()
    path.write_bytes(b"mine")
    with pytest.raises(SettingsError, match=f"{name} exists"):
        train(config, nano, NANO)
    assert path.read_bytes() == b"mine"


def test_resuming_a_complete_run_says_so(job: Job, nano: Any) -> None:
    train(job(steps=2), nano, NANO)
    with pytest.raises(SettingsError, match=r"zvz\.safetensors is complete"):
        train(job(steps=2, resume=True), nano, NANO)


@pytest.mark.parametrize("dialect", ["peft-folder", "old-diffusers"])
def test_a_naming_that_a_run_cannot_write_is_refused_before_it(job: Job, nano: Any, dialect: str) -> None:
    known = {each.name for each in dialects.DIALECTS if not each.writes} | {"peft-folder"}
    name = dialect if dialect in known else sorted(known - {"peft-folder"})[0]
    with pytest.raises(DialectCannotHold, match=r"not what a run writes; it writes kohya"):
        train(job(dialects=name), nano, NANO)


def test_a_folder_that_cannot_be_written_is_told_before_the_first_step(job: Job, nano: Any, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(WriteFailed, match=r"file: is there and is no folder.*choose another place"):
        train(job(output=tmp_path / "file" / "zvz"), nano, NANO)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "zvz.state").write_text("x")
    with pytest.raises(SettingsError, match=r"zvz\.state is a file"):
        train(job(), nano, NANO)


@pytest.mark.parametrize("name", ["plot", "samples"])
def test_a_picture_to_look_at_is_no_reason_to_lose_a_run(job: Job, nano: Any, name: str, tmp_path: Path) -> None:
    from PIL import Image

    (tmp_path / "out" / ("zvz.loss.png" if name == "plot" else "zvz.samples")).mkdir(parents=True)
    if name == "samples":
        (tmp_path / "out" / "zvz.samples").rmdir()
        (tmp_path / "out" / "zvz.samples").write_text("x")
    prompts = ("zvz",) if name == "samples" else ()
    result = train(job(steps=2, sample_prompts=prompts), nano, NANO, draw=lambda *_: [Image.new("RGB", (8, 8))])
    assert any("could not be written" in note for note in result.notes)
    assert result.path.is_file()


def test_a_disk_that_is_full_says_what_to_go_on_from(job: Job, nano: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        if (tmp_path / "out" / "zvz.state" / "step-000002").exists():
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    straight = train(job(steps=4, dtype="float32", output=tmp_path / "s"), nano, NANO)
    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        with pytest.raises(WriteFailed, match=r"the log could not be written: No space left on device; free some space"):
            train(job(steps=4, save_every=2, dtype="float32"), nano, NANO)
    with monkeypatch.context() as patched:
        patched.setattr(checkpoint.tensorfile, "write", full)
        with pytest.raises(
            WriteFailed, match=r"state could not be saved: No space left.*free some space; --resume goes on from step-000002"
        ):
            train(job(steps=4, save_every=2, dtype="float32", resume=True), nano, NANO)
    assert [path.name for path in (tmp_path / "out" / "zvz.state").iterdir()] == ["step-000002"]
    assert train(job(steps=4, dtype="float32", resume=True), nano, NANO).hash == straight.hash


def test_the_log_of_a_run_that_fails_is_kept(job: Job, nano: Any) -> None:
    def fail(now: Progress) -> None:
        if now.stage == "train" and now.step == 3:
            raise TrainingError("in the middle")

    config = job()
    with pytest.raises(TrainingError):
        train(config, nano, NANO, progress=fail)
    assert [line["step"] for line in losses(config.output)] == [1, 2, 3]


def test_a_sigterm_does_not_wait_for_a_long_step(job: Job, nano: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The step is left where it is, the steps before it are saved, and the resumed run equals a straight one."""
    monkeypatch.setattr(interrupt, "PATIENCE", 0.2)
    straight = train(job(dtype="float32", output=tmp_path / "s"), nano, NANO)
    hanging = threading.Event()

    def slow(_: Any, __: Any) -> None:
        if hanging.is_set():
            os.kill(os.getpid(), signal.SIGTERM)
            for _ in range(1000):
                hanging.wait(0)
                threading.Event().wait(0.01)

    def hang(now: Progress) -> None:
        if now.stage == "train" and now.step == 2:
            hanging.set()

    handle = nano.unet.register_forward_pre_hook(slow)
    try:
        with pytest.raises(TrainingStopped, match="after step 2 of 6; nothing is lost"):
            train(job(dtype="float32"), nano, NANO, progress=hang)
    finally:
        handle.remove()
    assert not any(module._forward_hooks for module in nano.unet.modules())
    assert train(job(dtype="float32", resume=True), nano, NANO).hash == straight.hash


def test_an_impatient_person_is_heard_and_the_third_wish_stops_at_once() -> None:
    wishes = interrupt.Wishes()
    with wishes.abandonable():
        wishes.hear(signal.SIGINT)
        assert wishes.stop
        with pytest.raises(interrupt.Abandoned):
            wishes.hear(signal.SIGINT)
    wishes = interrupt.Wishes()
    wishes.hear(signal.SIGINT)
    wishes.hear(signal.SIGINT)  # while a state is saved: that is not left
    with pytest.raises(interrupt.Abandoned), wishes.abandonable():
        pytest.fail("nobody waits for this")
    with pytest.raises(KeyboardInterrupt):
        wishes.hear(signal.SIGINT)
