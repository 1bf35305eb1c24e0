"""Bases are chosen by name; each has a thread of its own; where they are stays on this computer."""

import json
import shutil
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from live import PASSWORD, TIMEOUT, USER, running

from loraloom.bases.tiny.model import folder as tiny_folder
from loraloom.errors import NotFound
from loraloom.web.access import Access
from loraloom.web.bases import find_base, known_bases


@pytest.fixture(scope="module")
def two(make_service, tmp_path_factory):
    """The base of the settings is `nano`; beside it `tiny`, a model folder, a checkpoint, and what is neither."""
    models = tmp_path_factory.mktemp("models")
    (models / "castle").mkdir()
    (models / "castle" / "model_index.json").write_text("{}")
    (models / "dream.safetensors").write_bytes(b"not really")
    (models / "notes.txt").write_text("x")
    (models / "pickle.ckpt").write_bytes(b"x")
    with running(make_service(base="nano", model_folders=(models,))) as server:
        yield server


def test_names_lead_to_bases_and_paths_do_not(two):
    settings = two.service.settings
    assert [base.name for base in known_bases(settings)] == ["nano", "tiny", "castle", "dream"]
    assert find_base(settings, None).name == "nano"
    tiny = find_base(settings, "tiny")
    for spelling in (tiny.title, tiny.title.upper(), "tiny.safetensors", tiny.sha256, tiny.sha256[:10]):
        assert find_base(settings, spelling) == tiny
    for wrong in (str(settings.model_folders[0] / "castle"), "./castle", "owner/name", "pickle", "", "../castle"):
        with pytest.raises(NotFound, match="there are nano, tiny, castle, dream"):
            find_base(settings, wrong)


def test_no_answer_names_a_folder_of_this_computer(two):
    folder = str(two.service.settings.model_folders[0])
    for path in (
        "sdapi/v1/sd-models",
        "sdapi/v1/options",
        "sdapi/v1/loras",
        "sdapi/v1/cmd-flags",
        "api/v1/base",
        "api/v1/networks",
        "api/v1/jobs",
    ):
        answer = two.get(f"/{path}").text
        assert folder not in answer
        assert "/home" not in answer
        assert str(two.service.settings.output_folder.parent) not in answer


def test_two_bases_draw_beside_one_another_what_they_draw_alone(two):
    """Requests for both at once; each draws in a thread and a session of its own."""

    def draw(number):
        options = {"sd_model_checkpoint": ("nano", "tiny")[number % 2]}
        fields = {"prompt": "red apple", "seed": number, "steps": 2, "override_settings": options}
        answer = two.post("/sdapi/v1/txt2img", json=fields).json()
        assert json.loads(answer["info"])["sd_model_name"] == options["sd_model_checkpoint"]
        return answer["images"][0]

    alone = [draw(number) for number in range(6)]
    with ThreadPoolExecutor(6) as clients:
        assert list(clients.map(draw, range(6))) == alone


def test_a_base_that_cannot_be_opened_is_the_requests_mistake_alone(two):
    for name in ("castle", "dream"):
        answer = two.post("/sdapi/v1/txt2img", json={"prompt": "x", "override_settings": {"sd_model_checkpoint": name}})
        assert (answer.status_code, answer.json()["error"] in ("BaseError", "NotSafetensors")) == (422, True), answer.text
    assert two.post("/sdapi/v1/txt2img", json={"prompt": "x", "steps": 1, "width": 64, "height": 64}).status_code == 200


def test_the_checkpoint_of_the_options_draws(two):
    assert two.post("/sdapi/v1/options", json={"sd_model_checkpoint": "tiny"}).json() is None
    answer = two.post("/sdapi/v1/txt2img", json={"prompt": "x", "steps": 1}).json()
    assert json.loads(answer["info"])["sd_model_name"] == "tiny"
    assert two.get("/api/v1/base").json()["name"] == "nano"  # our own API keeps the settings' base
    two.post("/sdapi/v1/options", json={"sd_model_checkpoint": "nano"})


def test_a_base_whose_job_ended_in_a_bug_is_opened_again_for_the_next_job(make_service):
    """Half of it on the meta device, as loaders in other threads can leave it."""
    fields = {"prompt": "red apple", "seed": 1, "steps": 1}
    with running(make_service()) as server:
        first = server.post("/sdapi/v1/txt2img", json=fields).json()["images"]
        assert health(server) == ("ok", {"opening": 0, "open": 1, "dropped": 0, "failed": 0})
        (worker,) = server.service.jobs._workers
        worker._session._kept.bases.open("tiny").pipeline.text_encoder.to("meta")
        broken = server.post("/sdapi/v1/txt2img", json=fields)
        assert (broken.status_code, "a bug in loraloom" in broken.json()["detail"]) == (422, True)
        wait_until(lambda: health(server) == ("degraded", {"opening": 0, "open": 0, "dropped": 1, "failed": 0}))
        assert server.get("/api/v1/ready").json() == {"ready": True, "reason": ""}
        base = server.get("/api/v1/base").json()
        assert (base["state"], base["opened"], "traceback" in base["problem"]) == ("dropped", False, True)
        assert server.post("/sdapi/v1/txt2img", json=fields).json()["images"] == first
        assert health(server)[0] == "ok"


def test_readiness_tells_a_base_that_cannot_be_opened_and_one_that_can_again(make_service, tmp_path):
    """Names and folders are for those who have credentials."""
    model = tmp_path / "castle"
    with running(make_service(Access.of(auth=f"{USER}:{PASSWORD}"), base=str(model))) as server:
        assert server.get("/api/v1/ready").json() == {"ready": True, "reason": ""}  # the first job opens it
        assert server.post("/api/v1/base/open", auth=(USER, PASSWORD)).status_code == 422
        answer = server.get("/api/v1/ready")
        assert (answer.status_code, answer.json()) == (503, {"ready": False, "reason": "the base of the settings could not be opened"})
        assert health(server) == ("degraded", {"opening": 0, "open": 0, "dropped": 0, "failed": 1})
        assert "castle" not in server.get("/api/v1/health").text
        assert server.get("/api/v1/base", auth=(USER, PASSWORD)).json()["state"] == "failed"
        shutil.copytree(tiny_folder(), model)
        opened = server.post("/api/v1/base/open", auth=(USER, PASSWORD)).json()
        assert (opened["name"], opened["state"], opened["family"]) == ("castle", "open", "tiny")
        assert server.get("/api/v1/ready").status_code == 200
        server.service.jobs.close()
        assert (health(server)[0], server.get("/api/v1/ready").status_code) == ("stopping", 503)


def health(server):
    answer = server.get("/api/v1/health")
    assert answer.status_code == 200
    return answer.json()["status"], answer.json()["bases"]


def wait_until(true):
    until = time.monotonic() + TIMEOUT
    while not true():
        assert time.monotonic() < until
        time.sleep(0.01)
