"""Our own API: what its models promise, and that a job's life can be followed."""

import io
import json
import time

import pytest
import requests
from live import TIMEOUT, running
from PIL import Image, PngImagePlugin

from loraloom.generate.infotext import Recipe
from loraloom.web.api.models import BaseInfo, ErrorAnswer, Health, Job, Jobs, NetworkDetails, Networks, SettingsView

SMALL = {"prompt": "red apple", "seed": 7, "steps": 2}


def finished(server, request):
    answer = server.post("/api/v1/jobs", json=request)
    assert answer.status_code == 202, answer.text
    job = Job.model_validate(answer.json())
    while job.state in ("queued", "running"):
        time.sleep(0.05)
        job = Job.model_validate(server.get(f"/api/v1/jobs/{job.id}").json())
    return job


def test_health_and_base(server):
    assert Health.model_validate(server.get("/api/v1/health").json()).auth is False
    base = BaseInfo.model_validate(server.post("/api/v1/base/open").json())
    assert (base.name, base.family, base.steps, base.guidance, base.width, base.height) == ("tiny", "tiny", 20, 2.5, 64, 64)
    assert base.opened
    assert "Euler a" in server.get("/api/v1/samplers").json()


def test_a_job_is_drawn_saved_and_kept(server):
    job = finished(server, SMALL | {"prompt": "octopus, zvz <lora:delft:0.8>", "pictures": 2})
    assert (job.state, job.step, job.steps, job.mistake) == ("done", 4, 4, None)
    assert [picture.seed for picture in job.pictures] == [7, 8]
    assert "delft" in job.report
    picture = job.pictures[0]
    answer = server.get(picture.url)
    assert answer.headers["Content-Type"] == "image/png"
    image = Image.open(io.BytesIO(answer.content))
    assert (image.size, image.info["parameters"]) == ((picture.width, picture.height), picture.recipe)
    assert Recipe.parse(picture.recipe).seed == 7
    saved = sorted(server.service.settings.output_folder.glob("*.png"))
    assert saved[-2].name.endswith("octopus-zvz.png")
    assert saved[-2].read_bytes() == answer.content
    listed = Jobs.model_validate(server.get("/api/v1/jobs").json()).jobs
    assert listed[0].id == job.id


@pytest.mark.parametrize(
    ("request_", "mistake"),
    [
        ({"prompt": "a <lora:delft:x>"}, {"field": "prompt", "column": 14, "length": 1}),
        ({"prompt": "a <lora:dleft>"}, {"field": "prompt", "column": 2, "length": 12}),
        ({"prompt": "a", "negative_prompt": "b <lora:nope:1>"}, {"field": "negative_prompt", "column": 2, "length": 13}),
    ],
)
def test_a_mistake_in_a_prompt_is_told_at_once_with_its_place(server, request_, mistake):
    answer = server.post("/api/v1/jobs", json=request_)
    assert answer.status_code == 422
    found = ErrorAnswer.model_validate(answer.json()).mistake.model_dump()
    assert {key: found[key] for key in mistake} == mistake
    assert found["message"]


def test_what_fails_while_it_runs_is_the_jobs_mistake(server):
    job = finished(server, SMALL | {"sampler": "LCM", "steps": 200})
    assert (job.state, job.mistake is None) == ("done", True) or job.mistake.message


def test_errors_have_one_form(server):
    for answer, status in (
        (server.get("/api/v1/jobs/nothing"), 404),
        (server.get("/api/v1/pictures/nothing"), 404),
        (server.get("/api/v1/networks/nothing"), 404),
        (server.get("/api/v1/nothing"), 404),
        (server.get("/api/v1/jobs/nothing/interrupt"), 405),
        (server.post("/api/v1/jobs", json={"prompt": "x", "unknown": 1}), 422),
        (server.post("/api/v1/jobs", data="{", headers={"Content-Type": "application/json"}), 422),
    ):
        assert answer.status_code == status
        assert ErrorAnswer.model_validate(answer.json()).detail


def test_networks_are_found_by_id(server, lora_folder, make_lora):
    make_lora(
        lora_folder / "styles" / "ink.safetensors", seed=1, metadata={"modelspec.trigger_phrase": "zvz", "x": "<script>alert(1)</script>"}
    )
    Image.new("RGB", (1200, 600), "teal").save(lora_folder / "styles" / "ink.png", pnginfo=_secret())
    (lora_folder / "broken.safetensors").write_text("this is only a text")
    networks = Networks.model_validate(server.post("/api/v1/networks/refresh").json())
    by_name = {network.name: network for network in networks.networks}
    assert {"delft", "mulberry", "bobbin", "ink", "broken"} <= by_name.keys()
    ink = by_name["ink"]
    assert (ink.folder, ink.tag, ink.triggers, ink.family) == ("styles", "ink", ("zvz",), "nano")
    assert by_name["broken"].problem
    assert {"tiny", "nano"} <= set(networks.families)
    details = NetworkDetails.model_validate(server.get(f"/api/v1/networks/{ink.id}").json())
    assert details.metadata["x"] == "<script>alert(1)</script>"
    answer = server.get(ink.preview)
    assert answer.headers["Content-Type"] == "image/webp"
    assert Image.open(io.BytesIO(answer.content)).size == (512, 256)
    assert b"secret" not in answer.content  # encoded anew: nothing of the file is passed on
    found = Networks.model_validate(server.get("/api/v1/networks?q=ZVZ").json()).networks
    assert {network.name for network in found} >= {"ink"}
    only = Networks.model_validate(server.get("/api/v1/networks?family=nano").json()).networks
    assert [network.name for network in only] == ["ink"]
    loras = server.get("/sdapi/v1/loras").json()
    assert all(item.keys() == {"name", "alias", "path", "metadata"} for item in loras)
    assert {item["name"]: item["path"] for item in loras}["ink"] == "styles/ink.safetensors"
    assert server.get("/sdapi/v1/lora?lora=ink").json()["name"] == "ink"
    assert server.get("/sdapi/v1/lora?lora=nope").status_code == 404


def _secret():
    info = PngImagePlugin.PngInfo()
    info.add_text("comment", "secret")
    return info


def test_an_interrupted_job_stops_and_keeps_what_it_has(server):
    job = server.post("/api/v1/jobs", json=SMALL | {"steps": 400, "pictures": 40}).json()
    later = server.post("/api/v1/jobs", json=SMALL).json()
    assert later["place"] >= 1
    while server.get(f"/api/v1/jobs/{job['id']}").json()["step"] < 1:
        time.sleep(0.05)
    preview = server.get(f"/api/v1/jobs/{job['id']}/preview")
    assert preview.status_code == 200
    assert Image.open(io.BytesIO(preview.content)).size == (64, 64)
    running = server.get(f"/api/v1/jobs/{job['id']}").json()
    assert running["preview"].startswith(f"/api/v1/jobs/{job['id']}/preview")
    assert server.post(f"/api/v1/jobs/{later['id']}/interrupt").json()["state"] == "interrupted"
    server.post(f"/api/v1/jobs/{job['id']}/interrupt")
    until = time.monotonic() + TIMEOUT
    while (state := server.get(f"/api/v1/jobs/{job['id']}").json()["state"]) == "running" and time.monotonic() < until:
        time.sleep(0.05)
    assert state == "interrupted"
    assert server.get(f"/api/v1/jobs/{job['id']}/preview").status_code == 404
    assert finished(server, SMALL).state == "done"


def _events(answer):
    """(event, data) of a stream, as they come."""
    event = ""
    for line in answer.iter_lines(decode_unicode=True):
        if line.startswith("event: "):
            event = line.removeprefix("event: ")
        elif line.startswith("data: "):
            yield event, json.loads(line.removeprefix("data: "))


def _until(events, last):
    """The data of what is told up to the event that `last` knows, that one included."""
    found = []
    for event, data in events:
        found.append(data)
        if last(event, data):
            break
    return found


def test_events_tell_a_jobs_life(server):
    """Told in order: the job until it is done, then the scan."""
    with requests.get(f"{server.address}/api/v1/events", stream=True, timeout=TIMEOUT) as answer:
        assert answer.headers["Content-Type"].startswith("text/event-stream")
        events = _events(answer)
        job = finished(server, SMALL | {"steps": 6})
        lives = [Job.model_validate(data) for data in _until(events, lambda event, data: event == "job" and data["state"] == "done")]
        server.post("/api/v1/networks/refresh")
        assert _until(events, lambda event, _: event == "networks")[-1] == {}
    assert lives[-1].id == job.id
    assert len(lives[-1].pictures) == 1
    assert server.get("/api/v1/events?job=nothing").status_code == 404


def test_the_schema_describes_every_route(server):
    schema = server.get("/openapi.json").json()
    own = {path: methods for path, methods in schema["paths"].items() if path.startswith("/api/v1")}
    assert len(own) == 19
    for path, methods in own.items():
        for method, route in methods.items():
            assert route["responses"]["422"]["content"]["application/json"]["schema"]["$ref"].endswith("/ErrorAnswer"), (path, method)
    names = [route["operationId"] for methods in schema["paths"].values() for route in methods.values()]
    assert len(names) == len(set(names))
    assert schema["paths"]["/api/v1/jobs"]["post"]["requestBody"]["content"]["application/json"]["schema"]["$ref"].endswith("/ImageRequest")
    assert "queued" in json.dumps(schema["components"]["schemas"]["Job"])
    docs = server.get("/docs")
    assert docs.status_code == 200
    assert "http://" not in docs.text.replace("http://127", "")
    assert "<script" not in docs.text
    assert all(path in docs.text for path in schema["paths"])


def test_settings_are_changed_and_kept_in_the_file(make_service, monkeypatch, tmp_path):
    """The next job draws with them."""
    monkeypatch.setenv("LORALOOM_SETTINGS", str(tmp_path / "settings.toml"))
    with running(make_service()) as server:
        view = server.client.patch(f"{server.address}/api/v1/settings", json={"default_strength": 0.5}, timeout=TIMEOUT)
        assert SettingsView.model_validate(view.json()).values["default_strength"] == 0.5
        assert "default_strength = 0.5" in (tmp_path / "settings.toml").read_text()
        half = finished(server, SMALL | {"prompt": "red apple <lora:delft>"})
        server.client.patch(f"{server.address}/api/v1/settings", json={"default_strength": 1}, timeout=TIMEOUT)
        whole = finished(server, SMALL | {"prompt": "red apple <lora:delft>"})
        same = finished(server, SMALL | {"prompt": "red apple <lora:delft:0.5>"})
        pixels = [Image.open(io.BytesIO(server.get(job.pictures[0].url).content)).tobytes() for job in (half, whole, same)]
        assert pixels[0] == pixels[2] != pixels[1]
        for wrong in (
            {"loader": "other"},
            {"default_strength": "much"},
            {"nothing": 1},
            {"output_folder": "/tmp"},
            {"base": "other"},
            {"base": 1},
        ):
            answer = server.client.patch(f"{server.address}/api/v1/settings", json=wrong, timeout=TIMEOUT)
            assert answer.status_code == 422, wrong
            assert next(iter(wrong)) in answer.json()["detail"]
        monkeypatch.setenv("LORALOOM_LOADER", "native")
        assert "loader" in SettingsView.model_validate(server.get("/api/v1/settings").json()).fixed


def test_settings_are_shown(server):
    view = SettingsView.model_validate(server.get("/api/v1/settings").json())
    assert view.values["base"] == "tiny"
    assert {"lora_folders", "output_folder"} <= set(view.fixed)
