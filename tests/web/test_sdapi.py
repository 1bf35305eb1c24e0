"""The WebUI's API word for word: keys, statuses, and what is drawn, ignored or refused."""

import base64
import io
import json
import re

import pytest
from PIL import Image

from loraloom.generate.infotext import Recipe

SMALL = {"prompt": "red apple", "seed": 7, "steps": 2}
INFO_KEYS = {
    "prompt", "all_prompts", "negative_prompt", "all_negative_prompts", "seed", "all_seeds", "subseed", "all_subseeds",
    "subseed_strength", "width", "height", "sampler_name", "cfg_scale", "steps", "batch_size", "restore_faces", "sd_model_name",
    "sd_model_hash", "sd_vae_name", "sd_vae_hash", "seed_resize_from_w", "seed_resize_from_h", "denoising_strength",
    "extra_generation_params", "index_of_first_image", "infotexts", "styles", "job_timestamp", "clip_skip",
    "is_using_inpainting_conditioning", "version",
}  # fmt: skip


def draw(server, path="txt2img", **fields):
    answer = server.post(f"/sdapi/v1/{path}", json=SMALL | fields)
    assert answer.status_code == 200, answer.text
    found = answer.json()
    assert found.keys() == {"images", "parameters", "info"}
    info = json.loads(found["info"])
    assert info.keys() == INFO_KEYS
    return [Image.open(io.BytesIO(base64.b64decode(image, validate=True))) for image in found["images"]], info, found["parameters"]


def pixels(image):
    return image.convert("RGB").tobytes()


def test_txt2img_draws_what_the_library_draws(server):
    (image,), info, echo = draw(server, prompt="octopus, zvz <lora:delft:0.8>")
    assert image.size == (64, 64)
    assert info["all_seeds"] == [7]
    assert info["infotexts"] == [image.info["parameters"]]
    recipe = Recipe.parse(image.info["parameters"])
    assert recipe.prompt == "octopus, zvz <lora:delft:0.8>"
    assert re.fullmatch('"?delft: [0-9a-f]{12}"?', info["extra_generation_params"]["Lora hashes"])
    assert echo["steps"] == 2
    assert re.fullmatch(r"\d{14}", info["job_timestamp"])
    from loraloom import ImageRequest, Session

    (picture,) = Session(server.service.settings).generate(ImageRequest(prompt="octopus, zvz <lora:delft:0.8>", seed=7, steps=2))
    assert pixels(image) == pixels(picture.image)


def test_batches_count_seeds_up(server):
    images, info, _ = draw(server, batch_size=2, n_iter=2)
    assert (len(images), info["all_seeds"]) == (4, [7, 8, 9, 10])
    (alone,), _, _ = draw(server, seed=9)
    difference = max(abs(a - b) for a, b in zip(pixels(images[2]), pixels(alone), strict=True))
    assert difference <= 1  # of 255: matrix products of a batch round otherwise
    assert draw(server, send_images=False)[0] == []


def test_every_field_of_the_webui_is_taken(server):
    fields = {
        "styles": ["mine"],
        "restore_faces": True,
        "eta": 0.5,
        "s_noise": 1.1,
        "override_settings": {"sd_vae": "Automatic", "eta_noise_seed_delta": 31337},
        "alwayson_scripts": {"ADetailer": {"args": [False]}, "ControlNet": {"args": []}, "x": {"args": [{"enabled": False}]}},
        "sampler_name": None,
        "sampler_index": "Euler a",
        "scheduler": "automatic",
        "subseed": None,
        "script_name": None,
        "script_args": [],
        "hr_scale": 2,
        "hr_upscaler": "Latent",
        "firstphase_width": 0,
        "something_of_tomorrow": 1,
    }
    _, info, _ = draw(server, **fields)
    assert info["sampler_name"] == "Euler a"
    ignored = info["extra_generation_params"]["Ignored"].split(", ")
    assert set(ignored) == {"styles", "restore_faces", "eta", "s_noise", "override_settings.eta_noise_seed_delta", "something_of_tomorrow"}


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"alwayson_scripts": {"ControlNet": {"args": [{"module": "canny", "model": "c"}]}}}, "the script 'ControlNet'"),
        ({"script_name": "ultimate sd upscale"}, "script_name"),
        ({"enable_hr": True}, "enable_hr"),
        ({"refiner_checkpoint": "r"}, "refiner_checkpoint"),
        ({"subseed_strength": 0.3}, "subseed_strength"),
        ({"override_settings": {"CLIP_stop_at_last_layers": 2}}, "override_settings.CLIP_stop_at_last_layers"),
        ({"override_settings": {"sd_model_checkpoint": "nothere"}}, 'no base named "nothere"; there are tiny'),
        ({"override_settings": {"sd_model_checkpoint": "/etc/passwd"}}, "no base named"),
        ({"sampler_name": "Eulr"}, 'did you mean "Euler"'),
        ({"sampler_name": "DDIM", "scheduler": "Karras"}, "DDIM does not run with Karras"),
        ({"scheduler": "polyexponential"}, 'no scheduler "polyexponential"; there are Automatic, Normal, Karras'),
        ({"width": 4096, "height": 4096}, "width × height"),
        ({"width": 65}, "multiples of 8"),
        ({"steps": 501}, "steps: 501 is more than this server takes"),
        ({"batch_size": 20, "n_iter": 20}, "20 × 20 pictures"),
        ({"prompt": "x" * 20001}, "prompt: 20001"),
        ({"seed": -2}, "seed"),
        ({"steps": "many"}, "steps"),
    ],
)
def test_what_would_be_another_picture_is_refused_by_name(server, fields, named):
    answer = server.post("/sdapi/v1/txt2img", json=SMALL | fields)
    assert answer.status_code == 422
    assert answer.json().keys() == {"error", "detail", "body", "errors", "hint", "mistake"}
    assert named in answer.json()["detail"]


def test_karras_is_a_scheduler(server):
    (both,), info, _ = draw(server, sampler_name="DPM++ 2M", scheduler="Karras", steps=6)
    assert (info["sampler_name"], info["extra_generation_params"]["Schedule type"]) == ("DPM++ 2M", "Karras")
    (one,), _, _ = draw(server, sampler_name="DPM++ 2M Karras", steps=6)
    (plain,), _, _ = draw(server, sampler_name="k_dpmpp_2m", steps=6)
    assert pixels(both) == pixels(one) != pixels(plain)


def test_samplers_are_named_both_ways(server):
    for item in server.get("/sdapi/v1/samplers").json():
        assert item.keys() == {"name", "aliases", "options"}
        for name in (item["name"], *item["aliases"]):
            from loraloom.web.api.sdapi.samplers import our_sampler, their_sampler

            assert their_sampler(our_sampler(name, "Automatic")) == (item["name"], "Automatic")


def test_unknown_loras_and_mistakes_are_warnings(server):
    (image,), info, _ = draw(server, prompt="red apple <lora:dleft:1> <lora:mulberry:wrong>")
    assert 'no LoRA named "dleft"; did you mean "delft"?' in info["extra_generation_params"]["Warnings"]
    assert image.size == (64, 64)
    answer = server.post("/sdapi/v1/txt2img", json=SMALL | {"prompt": "an apple <lora:dleft:1>", "strict_lora": True})
    assert answer.status_code == 422
    assert answer.json()["mistake"] == {
        "message": 'no LoRA named "dleft"; did you mean "delft"?', "field": "prompt", "column": 9, "length": 14,
    }  # fmt: skip


def test_networks_can_be_switched_off(server):
    (with_tag,), _, _ = draw(server, prompt="red apple <lora:mulberry:1>", disable_extra_networks=True)
    (without,), _, _ = draw(server)
    assert pixels(with_tag) == pixels(without)


def test_options_take_their_own_answer(server):
    options = server.get("/sdapi/v1/options").json()
    assert set(options) >= {
        "sd_model_checkpoint", "sd_checkpoint_hash", "sd_vae", "CLIP_stop_at_last_layers", "samples_format", "send_seed",
        "show_progress_every_n_steps", "lora_preferred_name", "lora_add_hashes_to_infotext",
    }  # fmt: skip
    assert "forge_preset" not in options
    answer = server.post("/sdapi/v1/options", json=options | {"unknown": {"a": 1}})
    assert (answer.status_code, answer.json()) == (200, None)
    wrong = server.post("/sdapi/v1/options", json={"sd_model_checkpoint": "../../etc"})
    assert wrong.status_code == 422
    assert "there are tiny" in wrong.json()["detail"]
    (model,) = server.get("/sdapi/v1/sd-models").json()
    assert model.keys() == {"title", "model_name", "hash", "sha256", "filename", "config"}
    assert model["title"] == options["sd_model_checkpoint"] == f"tiny [{model['hash']}]"


def test_idle_progress(server):
    for query in ("", "?skip_current_image=true", "?skipCurrentImage=1&other=x"):
        found = server.get(f"/sdapi/v1/progress{query}").json()
        assert found.keys() == {"progress", "eta_relative", "state", "current_image", "textinfo"}
        assert (found["progress"], found["state"]["job_count"], found["current_image"]) == (0, 0, None)
        assert re.fullmatch(r"\d{14}", found["state"]["job_timestamp"])


def test_the_small_answers(server):
    """Exactly as in the contract."""
    for method, path, expected in (
        ("post", "interrupt", {}),
        ("post", "skip", None),
        ("post", "refresh-loras", {}),
        ("post", "refresh-checkpoints", None),
        ("get", "scripts", {"txt2img": [], "img2img": []}),
        ("get", "embeddings", {"loaded": {}, "skipped": {}}),
        ("get", "script-info", []),
        ("get", "prompt-styles", []),
        ("get", "hypernetworks", []),
        ("get", "face-restorers", []),
        ("get", "realesrgan-models", []),
        ("get", "sd-vae", []),
        ("get", "loaded-loras", []),
    ):
        answer = getattr(server, method)(f"/sdapi/v1/{path}")
        assert (answer.status_code, answer.json()) == (200, expected), path
    memory = server.get("/sdapi/v1/memory").json()
    assert memory.keys() == {"ram", "cuda"}
    assert 0 < memory["ram"]["free"] == memory["ram"]["total"] - memory["ram"]["used"]
    assert [item["name"] for item in server.get("/sdapi/v1/upscalers").json()][:2] == ["None", "Lanczos"]
    assert server.get("/sdapi/v1/latent-upscale-modes").json() == [{"name": "Latent"}]
    assert {tuple(item) for item in server.get("/sdapi/v1/schedulers").json()} == {
        ("name", "label", "aliases", "default_rho", "need_inner_model")
    }


def test_png_info_reads_back_the_recipe(server):
    answer = server.post("/sdapi/v1/txt2img", json=SMALL | {"prompt": "a cat <lora:mulberry:0.5>", "negative_prompt": "dog"}).json()
    image = answer["images"][0]
    for text in (image, f"data:image/png;base64,{image}"):
        found = server.post("/sdapi/v1/png-info", json={"image": text}).json()
        assert found.keys() == {"info", "items", "parameters"}
        assert found["info"] == json.loads(answer["info"])["infotexts"][0]
        assert found["parameters"]["Prompt"] == "a cat <lora:mulberry:0.5>"
        assert (found["parameters"]["Negative prompt"], found["parameters"]["Seed"]) == ("dog", "7")
    assert server.post("/sdapi/v1/png-info", json={"image": "aGVsbG8="}).status_code == 422
