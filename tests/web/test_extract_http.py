"""A mix as one file over HTTP: what it would cost, the job, its report; names are names, and what is not finished leaves nothing."""

import io
import json
import socket
import threading
import time

import numpy as np
import pytest
import torch
from live import TIMEOUT
from PIL import Image
from pydantic import TypeAdapter, ValidationError
from safetensors import safe_open

from loraloom import dialects
from loraloom.adapters import IA3
from loraloom.bases import TINY
from loraloom.combine import combining
from loraloom.errors import SettingsError, Taken
from loraloom.lorafile import LoraFile
from loraloom.settings import Settings
from loraloom.web import limits
from loraloom.web.api.models import ErrorAnswer, ExtractJob, ExtractPlaces, ExtractReport, Job, Jobs, Networks
from loraloom.web.names import NetworkName
from loraloom.web.shelves import find_shelf, shelves

MIX = "<lora:delft:0.8><lora:bobbin:0.5>"


@pytest.fixture
def clean(server, lora_folder):
    """The folder of new files, empty at the start and at the end."""
    yield lora_folder
    for path in lora_folder.iterdir():
        path.rmdir() if path.is_dir() else path.unlink()
    server.post("/api/v1/networks/refresh")


def over(server, request):
    answer = server.post("/api/v1/extract", json=request)
    assert answer.status_code == 202, answer.text
    return waited(server, ExtractJob.model_validate(answer.json()))


def write_ia3(path):
    """A network whose change depends on the base's weights."""
    layers = [layer for layer in TINY.layers if layer.kind == "linear"][::9]
    adapters = {layer.target: IA3(vector=torch.full(layer.shape[:1], 0.1), on_input=torch.tensor(0.0)) for layer in layers}
    dialects.write(LoraFile(adapters, {}, TINY.family), path)


def waited(server, job):
    until = time.monotonic() + TIMEOUT
    while job.state in ("queued", "running") and time.monotonic() < until:
        time.sleep(0.05)
        job = type(job).model_validate(server.get(f"/api/v1/jobs/{job.id}").json())
    return job


def drawn(server, prompt):
    answer = server.post("/api/v1/jobs", json={"prompt": prompt, "seed": 7, "steps": 3})
    job = waited(server, Job.model_validate(answer.json()))
    return np.asarray(Image.open(io.BytesIO(server.get(job.pictures[0].url).content)).convert("RGB")).astype(int)


def test_a_mix_becomes_a_file_that_draws_the_same(server, clean):
    places = ExtractPlaces.model_validate(server.get("/api/v1/extract").json())
    assert places.folders[0].name == clean.name
    assert "kohya" in [naming.name for naming in places.dialects]
    assert "peft-folder" not in [naming.name for naming in places.dialects]
    job = over(server, {"mix": MIX, "name": "woven"})
    assert (job.state, job.mistake, job.request.name, job.step) == ("done", None, "woven", job.steps)
    found = job.result
    assert (found.name, found.tag, found.folder, found.method, found.dtype) == ("woven", "woven", clean.name, "exact", "float32")
    assert found.error == 0
    assert 0 <= found.written < 1e-6
    assert [path.name for path in clean.iterdir()] == ["woven.safetensors"]
    cards = {card.id: card for card in Networks.model_validate(server.get("/api/v1/networks").json()).networks}
    assert cards[found.network].size == found.size
    plain, mix, file = (drawn(server, f"octopus {tags}") for tags in ("", MIX, "<lora:woven:1>"))
    assert np.abs(mix - file).max() <= 1 < np.abs(mix - plain).max()


def test_the_curve_tells_what_the_file_will_be(server, clean):
    curve = server.post("/api/v1/extract/curve", json={"mix": MIX}).json()
    assert list(clean.iterdir()) == []
    assert (curve["base"], set(curve["components"])) == ("loraloom tiny 1", {"unet", "text_encoder"})
    errors = [point["error"] for point in curve["ranks"]]
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] == 0
    at = {point["most"]: point for point in curve["ranks"]}[4]
    job = over(server, {"mix": MIX, "name": "four", "rank": 4, "dtype": "fp32"})
    assert job.result.error == pytest.approx(at["error"], rel=1e-5)
    report = ExtractReport.model_validate(server.get(f"/api/v1/extract/{job.id}").json())
    assert len(report.rows) == curve["modules"] == sum(report.components.values())
    assert max(row.error for row in report.rows) == pytest.approx(at["worst"], rel=1e-5)
    assert report.worst in report.rows
    assert report.furthest in report.rows
    assert report.furthest.output == max(row.output for row in report.rows)
    with safe_open(clean / "four.safetensors", "np") as file:
        sizes = [file.get_tensor(key).size for key in file.keys() if not key.endswith("alpha")]  # noqa: SIM118 - no mapping
    assert sum(sizes) == at["values"]
    bound = {each["error"]: each["point"] for each in curve["bounds"]}[0.1]
    job = over(server, {"mix": MIX, "name": "near", "error": 0.1})
    assert job.result.error == pytest.approx(bound["error"], rel=1e-5)
    assert job.result.ranks == (bound["least"], bound["most"])
    assert bound["worst"] <= 0.1
    full = over(server, {"mix": MIX, "name": "whole", "type": "full"})
    assert (full.result.types, full.result.error, full.result.ranks) == ({"full": curve["modules"]}, 0, (0, 0))
    assert full.result.size == pytest.approx(curve["full"]["values"] * 4, rel=0.02)
    assert curve["exact_lora"] == curve["exact"]
    only = server.post("/api/v1/extract/curve", json={"mix": MIX, "components": ["text_encoder"]}).json()
    assert (only["modules"], only["components"]) == (12, ["text_encoder"])
    none = server.post("/api/v1/extract/curve", json={"mix": "<lora:delft:0.8>", "components": ["text_encoder"]}).json()
    assert (none["modules"], none["ranks"]) == (0, [])


def test_answers_have_names_and_no_folders(server, clean):
    (clean / "blocked.safetensors").mkdir()
    done = over(server, {"mix": MIX, "name": "told", "rank": 1})
    failed = over(server, {"mix": MIX, "name": "blocked", "rank": 1, "overwrite": True})
    assert failed.state == "failed"
    assert failed.mistake.message.startswith("blocked.safetensors: could not be written")
    taken = server.post("/api/v1/extract", json={"mix": MIX, "name": "told"})
    for text in (
        done.model_dump_json(),
        failed.model_dump_json(),
        server.get(f"/api/v1/extract/{done.id}").text,
        server.get("/api/v1/extract").text,
        server.get("/api/v1/jobs").text,
        taken.text,
    ):
        assert str(clean.parent) not in text
    with safe_open(clean / "told.safetensors", "np") as file:
        assert str(clean.parent) not in json.dumps(file.metadata())
    assert server.get(f"/api/v1/extract/{failed.id}").status_code == 404


@pytest.mark.parametrize(
    ("request_", "status", "field", "column", "reason"),
    [
        ({"mix": "<lora:delft:1><lora:dleft:1>"}, 422, "mix", 14, 'did you mean "delft"'),
        ({"mix": "<lora:delft:much>"}, 422, "mix", 12, "not a number"),
        ({"mix": "a cat <lora:delft:1>"}, 422, "mix", 0, "tags alone"),
        ({"mix": ""}, 422, "mix", 0, "tags alone"),
        ({"mix": "<lora:delft:1>" * (limits.NETWORKS + 1)}, 422, None, None, "more than this server takes"),
        ({"mix": "x" * 200_000}, 422, "mix", None, "at most 100000"),
        ({"rank": 0}, 422, "rank", None, "greater than or equal to 1"),
        ({"rank": 4, "error": 0.1}, 422, None, None, "two ways"),
        ({"error": 1}, 422, "error", None, "less than 1"),
        ({"name": ""}, 422, "name", None, "at least 1 character"),
        ({"name": "a/b"}, 422, "name", None, "not a path"),
        ({"dialect": "peft-folder"}, 422, None, None, "no naming that a server writes"),
        ({"dialect": "kohia"}, 422, None, None, 'did you mean "kohya"'),
        ({"folder": "/etc"}, 422, None, None, "no folder of the library is '/etc'"),
        ({"base": "/etc/passwd"}, 422, None, None, 'no base named "/etc/passwd"'),
        ({"dtype": "int8"}, 422, "dtype", None, "fp16"),
        ({"mix": "", "tuned": "/etc/passwd", "base": "tiny", "rank": 4}, 422, None, None, "a server only takes mixes"),
        ({"path": "/tmp/x"}, 422, "path", None, "not permitted"),
    ],
)
def test_mistakes_are_told_at_once_with_their_place(server, clean, request_, status, field, column, reason):
    answer = server.post("/api/v1/extract", json={"mix": MIX, "name": "never"} | request_)
    found = ErrorAnswer.model_validate(answer.json())
    assert answer.status_code == status, answer.text
    assert reason in found.detail
    assert ((found.mistake and found.mistake.field), (found.mistake and found.mistake.column)) == (field, column)
    assert list(clean.iterdir()) == []


@pytest.mark.parametrize(
    ("request_", "field", "reason"),
    [
        ({"mix": "<lora:delft:0~1>"}, "flatten", "one strength for all steps"),
        ({"mix": "<lora:delft:0>"}, None, "at strength 0"),
        ({"components": ["vae"]}, None, "has no vae; it has unet"),
        ({"type": "lokr", "dialect": "peft"}, "dialect", "write it in kohya naming"),
        ({"mix": "<lora:scaled:1>"}, "base", "give the base"),
        ({"type": "full", "rank": 4}, None, "give the type alone"),
    ],
)
def test_what_is_found_out_later_is_the_jobs_mistake(server, clean, request_, field, reason):
    """With the field that settles it, and no word of the command line's options."""
    write_ia3(clean / "scaled.safetensors")
    server.post("/api/v1/networks/refresh")
    job = over(server, {"mix": MIX, "name": "never"} | request_)
    assert (job.state, job.result) == ("failed", None)
    assert reason in job.mistake.message
    assert job.mistake.field == field
    assert "--" not in job.mistake.message
    assert [path.name for path in clean.iterdir()] == ["scaled.safetensors"]
    if field in ("flatten", "base"):  # which its curve needs too
        answer = server.post("/api/v1/extract/curve", json={"mix": MIX} | request_)
        found = ErrorAnswer.model_validate(answer.json())
        assert (answer.status_code, found.mistake and found.mistake.field, found.detail) == (422, field, job.mistake.message)


def test_nothing_is_replaced_unless_it_was_asked_for(server, clean):
    over(server, {"mix": MIX, "name": "mine", "rank": 1})
    before = (clean / "mine.safetensors").read_bytes()
    answer = server.post("/api/v1/extract", json={"mix": MIX, "name": "mine", "rank": 2})
    found = ErrorAnswer.model_validate(answer.json())
    assert (answer.status_code, found.error, found.mistake.field) == (409, "Taken", "name")
    assert (clean / "mine.safetensors").read_bytes() == before
    assert over(server, {"mix": MIX, "name": "mine.safetensors", "rank": 2, "overwrite": True}).state == "done"
    assert (clean / "mine.safetensors").read_bytes() != before
    assert len(list(clean.iterdir())) == 1


PATHS = (
    "../up",
    "/etc/x",
    "a/b",
    "a\\b",
    "..",
    ".",
    ".hidden",
    "C:x",
    "x\0y",
    "x\ny",
    "\u202ex",
    " x",
    "x ",
    "x.",
    "con",
    "LPT1.txt",
    "x:y",
)
OTHERS = ('x"y', "a<b", "x*", "x?", "|", "x" * 101, "é" * 101, "永" * 100, ".safetensors", "\u2028", "\x7f", "~/\x1b[0m", "AUX.safetensors")


@pytest.mark.parametrize("name", PATHS + OTHERS)
def test_a_name_is_no_path(name):
    with pytest.raises(ValidationError):
        TypeAdapter(NetworkName).validate_python(name)


@pytest.mark.parametrize(
    "name", ["mixed", "ink + neon (0.5)", "a.b", "混合", "e\u0301t\u00e9", "~x", "console", "-x", "x'y", "🐙", "..x"[2:]]
)
def test_any_other_name_is_one(name):
    assert TypeAdapter(NetworkName).validate_python(f"{name}.safetensors") == TypeAdapter(NetworkName).validate_python(name)


@pytest.mark.parametrize("name", PATHS)
def test_a_path_writes_nothing(server, clean, name):
    before = sorted(clean.parent.rglob("*"))
    answer = server.post("/api/v1/extract", json={"mix": MIX, "name": name, "rank": 1})
    assert (answer.status_code, answer.json()["mistake"]["field"]) == (422, "name")
    assert sorted(clean.parent.rglob("*")) == before


class Held:
    """Modules that stop after the third, until they are let go."""

    def __init__(self, monkeypatch):
        self.reached, self.go = threading.Event(), threading.Event()
        real = combining.modules

        def modules(*arguments):
            for number, module in enumerate(real(*arguments), 1):
                if number == 4:
                    self.reached.set()
                    assert self.go.wait(TIMEOUT)
                yield module

        monkeypatch.setattr(combining, "modules", modules)


def test_an_interrupted_job_leaves_nothing(server, clean, monkeypatch):
    held = Held(monkeypatch)
    first = ExtractJob.model_validate(server.post("/api/v1/extract", json={"mix": MIX, "name": "one"}).json())
    second = ExtractJob.model_validate(server.post("/api/v1/extract", json={"mix": MIX, "name": "two"}).json())
    assert held.reached.wait(TIMEOUT)
    running = ExtractJob.model_validate(server.get(f"/api/v1/jobs/{first.id}").json())
    assert (running.state, running.step, second.place) == ("running", 3, 1)
    assert running.steps > 100
    assert server.get(f"/api/v1/jobs/{first.id}/preview").status_code == 404
    assert server.get("/sdapi/v1/progress").json()["state"]["job_count"] == 0
    server.post("/sdapi/v1/interrupt")  # of pictures alone
    assert server.post(f"/api/v1/jobs/{second.id}/interrupt").json()["state"] == "interrupted"
    server.post(f"/api/v1/jobs/{first.id}/interrupt")
    held.go.set()
    assert waited(server, first).state == "interrupted"
    assert list(clean.iterdir()) == []
    assert server.get(f"/api/v1/extract/{first.id}").status_code == 404
    kinds = {job.id: job.kind for job in Jobs.model_validate(server.get("/api/v1/jobs").json()).jobs}
    assert kinds[first.id] == kinds[second.id] == "extract"


def test_a_curve_ends_when_nobody_waits_and_has_its_limits(server, clean, monkeypatch):
    body = json.dumps({"mix": MIX}).encode()
    head = f"POST /api/v1/extract/curve HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\nContent-Type: application/json\r\n"
    with monkeypatch.context() as patch:
        held = Held(patch)
        asked = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(limits.CURVES)]
        for connection in asked:
            connection.sendall(head.encode() + f"Content-Length: {len(body)}\r\n\r\n".encode() + body)
        assert held.reached.wait(TIMEOUT)
        until = time.monotonic() + TIMEOUT
        while (status := server.post("/api/v1/extract/curve", json={"mix": MIX}).status_code) != 429 and time.monotonic() < until:
            pass
        assert status == 429
        for connection in asked:
            connection.close()
        time.sleep(0.6)
        held.go.set()
    until = time.monotonic() + TIMEOUT
    while (answer := server.post("/api/v1/extract/curve", json={"mix": MIX})).status_code == 429 and time.monotonic() < until:
        time.sleep(0.05)
    assert answer.status_code == 200
    monkeypatch.setattr(limits, "CURVE_SECONDS", 0.0)
    late = server.post("/api/v1/extract/curve", json={"mix": MIX})
    assert (late.status_code, "takes longer than 0 seconds" in late.json()["detail"]) == (422, True)
    monkeypatch.setattr(limits, "NETWORK_BYTES", 2**20)
    large = over(server, {"mix": MIX, "name": "large"})
    assert (large.state, "more than 1; give a rank" in large.mistake.message) == ("failed", True)
    assert list(clean.iterdir()) == []


def test_networks_of_two_families_are_no_mix(server, clean, make_lora):
    make_lora(clean / "other.safetensors")
    mix = {"mix": "<lora:delft:1><lora:other:1>"}
    answer = server.post("/api/v1/extract/curve", json=mix)
    assert (answer.status_code, "'nano'" in answer.json()["detail"]) == (422, True)
    job = over(server, mix | {"name": "never"})
    assert (job.state, "'nano'" in job.mistake.message) == ("failed", True)


@pytest.mark.usefixtures("clean")
def test_a_type_that_needs_the_base_has_it_by_name(server):
    """A curve with a base goes to the thread that has it open."""
    curve = server.post("/api/v1/extract/curve", json={"mix": MIX, "base": "tiny"})
    assert (curve.status_code, curve.json()["base"]) == (200, "loraloom tiny 1")
    job = over(server, {"mix": MIX, "name": "based", "rank": 1, "base": "tiny"})
    assert (job.state, job.request.base) == ("done", "tiny")


def test_new_files_go_into_folders_of_the_library(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    one, other = tmp_path / "a" / "mine", tmp_path / "b" / "mine"
    for folder in (one, other):
        folder.mkdir(parents=True)
    known = shelves(Settings(lora_folders=(one, tmp_path / "gone" / "x")), [other])
    assert [(shelf.name, shelf.path) for shelf in known] == [("mine", one), ("loras", tmp_path / "loras"), ("mine (2)", other)]
    assert not (tmp_path / "loras").exists()
    assert find_shelf(known, None) is known[0]
    assert find_shelf(known, known[2].id) is known[2]
    with pytest.raises(SettingsError, match="there are mine, loras, mine"):
        find_shelf(known, str(other))
    with pytest.raises(SettingsError, match="lora_folders"):
        find_shelf((), None)
    (one / "x.safetensors").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(Taken, match='"x" in mine'):
        known[0].place("x", overwrite=False)
