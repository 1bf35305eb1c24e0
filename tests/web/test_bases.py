"""Bases are chosen by name; each has a thread of its own; where they are stays on this computer."""

import json
from concurrent.futures import ThreadPoolExecutor

import pytest
from live import running

from loraloom.errors import NotFound
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
