"""Many at once: every picture is the one that is drawn alone, whoever asks beside it."""

import base64
import json
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests
from live import TIMEOUT

from loraloom.bases import TINY
from loraloom.web import limits
from loraloom.web.drawing import DrawTask

NETWORKS = 6


@pytest.fixture
def networks(lora_folder, make_lora):
    """Six LoRAs for `tiny`."""
    for number in range(NETWORKS):
        make_lora(lora_folder / f"n{number}.safetensors", TINY, seed=number, size=0.1)
    return [f"n{number}" for number in range(NETWORKS)]


def draw(server, number, names):
    """Request `number`: its own seed and mix; by one API or the other."""
    tags = f"<lora:{names[number % NETWORKS]}:0.8> <lora:{names[(number * 5 + 1) % NETWORKS]}:-0.5>"
    fields = {"prompt": f"red apple {tags}", "seed": number, "steps": 2}
    with requests.Session() as client:
        if number % 2:
            answer = client.post(f"{server.address}/sdapi/v1/txt2img", json=fields, timeout=TIMEOUT).json()
            return answer["images"][0]
        job = client.post(f"{server.address}/api/v1/jobs", json=fields, timeout=TIMEOUT).json()
        while job["state"] in ("queued", "running"):
            threading.Event().wait(0.05)
            job = client.get(f"{server.address}/api/v1/jobs/{job['id']}", timeout=TIMEOUT).json()
        assert job["state"] == "done", job["mistake"]
        return base64.b64encode(client.get(server.address + job["pictures"][0]["url"], timeout=TIMEOUT).content).decode()


@pytest.mark.parametrize("requested", [16, pytest.param(80, marks=pytest.mark.long)])
def test_four_clients_with_a_scan_between_draw_what_one_draws(server, networks, requested):
    """4 clients, 6 networks, both APIs; a scan and a progress call all the time."""
    server.post("/sdapi/v1/refresh-loras")
    alone = [draw(server, number, networks) for number in range(requested)]
    over = threading.Event()

    def disturb():
        while not over.wait(0.2):
            requests.post(f"{server.address}/sdapi/v1/refresh-loras", timeout=TIMEOUT)
            requests.get(f"{server.address}/sdapi/v1/progress", timeout=TIMEOUT)

    disturber = threading.Thread(target=disturb)
    disturber.start()
    try:
        with ThreadPoolExecutor(4) as clients:
            together = list(clients.map(lambda number: draw(server, number, networks), range(requested)))
    finally:
        over.set()
        disturber.join()
    assert [number for number in range(requested) if alone[number] != together[number]] == []


def test_the_queue_has_an_end(server):
    long = server.post("/api/v1/jobs", json={"prompt": "x", "steps": 500, "pictures": 100}).json()
    taken, answer = [long["id"]], None
    for _ in range(limits.WAITING + 2):
        answer = server.post("/api/v1/jobs", json={"prompt": "x", "steps": 1})
        if answer.status_code != 202:
            break
        taken.append(answer.json()["id"])
    assert answer.status_code == 429
    assert answer.headers["Retry-After"]
    assert answer.json()["error"] == "Busy"
    places = {job["place"] for job in server.get("/api/v1/jobs").json()["jobs"] if job["state"] == "queued"}
    assert places == set(range(1, limits.WAITING + 1))
    for job in reversed(taken):
        server.post(f"/api/v1/jobs/{job}/interrupt")


def test_what_is_kept_has_an_end(server, monkeypatch):
    monkeypatch.setattr(limits, "KEPT_JOBS", 3)
    monkeypatch.setattr(limits, "KEPT_BYTES", 10**9)
    for _ in range(5):
        assert server.post("/sdapi/v1/txt2img", json={"prompt": "x", "steps": 1}).status_code == 200
    assert sum(job["state"] != "queued" for job in server.get("/api/v1/jobs").json()["jobs"]) <= 3
    monkeypatch.setattr(limits, "KEPT_BYTES", 1)
    server.post("/sdapi/v1/txt2img", json={"prompt": "x", "steps": 1})
    assert server.get("/api/v1/jobs").json()["jobs"] == []


def test_skip_leaves_one_batch_out(server, monkeypatch):
    """Two batches: the first, which waits in a step, is skipped, the second is drawn."""
    reached, go, advance = threading.Event(), threading.Event(), DrawTask._advance

    def held(task, progress):
        reached.set()
        assert go.wait(TIMEOUT)
        advance(task, progress)

    monkeypatch.setattr(DrawTask, "_advance", held)
    with ThreadPoolExecutor(1) as client:
        fields = {"prompt": "x", "steps": 5, "n_iter": 2, "batch_size": 2, "seed": 5}
        answer = client.submit(server.post, "/sdapi/v1/txt2img", json=fields)
        assert reached.wait(TIMEOUT)
        server.post("/sdapi/v1/skip")
        go.set()
        assert json.loads(answer.result().json()["info"])["all_seeds"] == [7, 8]
