"""Clients that others wrote for the WebUI, against this server."""

import asyncio
import base64
import io

import pytest
from PIL import Image, ImageDraw

from conftest import PASSWORD, TIMEOUT, USER, running
from loraloom.web.access import Access

webuiapi = pytest.importorskip("webuiapi")


@pytest.fixture
def webui(server):
    return webuiapi.WebUIApi(port=server.port, steps=2, sampler="Euler a")


def source(side=64):
    image = Image.new("RGB", (side, side), "#204080")
    pen = ImageDraw.Draw(image)
    pen.ellipse((side // 8, side // 8, side * 7 // 8, side * 7 // 8), fill="#e0c040")
    return image


def test_webuiapi_list_draw_progress_recipe(webui):
    """The way of most programs: which LoRAs are there, a picture with one, how far it is, what it was made from."""
    name = next(lora["name"] for lora in webui.get_loras() if lora["name"] == "delft")
    drawn = webui.txt2img(prompt=f"octopus, zvz <lora:{name}:0.8>", negative_prompt="blur", seed=7, width=64, height=64, cfg_scale=2.5)
    assert drawn.image.size == (64, 64)
    assert drawn.info["all_seeds"] == [7]
    assert webui.get_progress()["progress"] == 0
    assert "<lora:delft:0.8>" in webui.png_info(drawn.image).info


def test_webuiapi_every_call_of_the_contract(webui):
    """23 of 23."""
    size = {"width": 64, "height": 64}
    mask = Image.new("L", (64, 64))
    mask.paste(255, (16, 16, 48, 48))
    calls = {
        "txt2img": lambda: webui.txt2img(prompt="red apple", **size).image,
        "img2img": lambda: webui.img2img(images=[source()], mask_image=mask, prompt="red apple", denoising_strength=0.9, **size).image,
        "png_info": lambda: webui.png_info(source()),
        "interrupt": webui.interrupt,
        "skip": lambda: webui.skip() is None,
        "get_options": webui.get_options,
        "set_options": lambda: webui.set_options({"sd_model_checkpoint": webui.util_get_current_model()}) is None,
        "get_cmd_flags": webui.get_cmd_flags,
        "get_progress": webui.get_progress,
        "get_samplers": webui.util_get_sampler_names,
        "get_schedulers": webui.util_get_scheduler_names,
        "get_sd_vae": webui.get_sd_vae,
        "get_upscalers": webui.get_upscalers,
        "get_latent_upscale_modes": webui.get_latent_upscale_modes,
        "get_loras": webui.get_loras,
        "get_sd_models": webui.util_get_model_names,
        "get_hypernetworks": webui.get_hypernetworks,
        "get_face_restorers": webui.get_face_restorers,
        "get_realesrgan_models": webui.get_realesrgan_models,
        "get_prompt_styles": webui.get_prompt_styles,
        "get_scripts": webui.get_scripts,
        "get_embeddings": webui.get_embeddings,
        "get_memory": webui.get_memory,
    }
    done = []
    for name, call in calls.items():
        assert hasattr(webui, name)
        answer = call()
        assert not (isinstance(answer, dict) and "error" in answer), (name, answer)
        done.append(name)
    assert len(done) == 23
    webui.util_wait_for_ready(0.1)
    webui.util_set_model("tiny")
    assert webui.refresh_checkpoints() is None
    assert webui.extra_single_image(source(), upscaler_1="Lanczos", upscaling_resize=2).image.size == (128, 128)
    assert len(webui.extra_batch_images([source(), source()], upscaler_1="Nearest", upscaling_resize=1.5).images) == 2


def test_webuiapi_refuses_what_the_server_refuses(webui):
    unit = webuiapi.ControlNetUnit(image=source(), module="canny", model="m")
    with pytest.raises(RuntimeError, match="ControlNet"):
        webui.txt2img(prompt="x", alwayson_scripts={}, controlnet_units=[unit])


def test_webuiapi_with_a_password(closed):
    api = webuiapi.WebUIApi(port=closed.port, username=USER, password=PASSWORD, steps=2)
    assert api.get_scripts() == {"txt2img": [], "img2img": []}
    assert api.txt2img(prompt="red apple", width=64, height=64).image.size == (64, 64)


def backend(server, **options):
    from sd_backend_client.api.a1111_webservice import A1111Webservice

    return A1111Webservice(server.address, request_timeout=TIMEOUT, generation_timeout=TIMEOUT, **options)


def body(**fields):
    from sd_backend_client.api.webui.diffusion_request_body import DiffusionRequestBody

    asked = DiffusionRequestBody()
    for name, value in ({"prompt": "red apple", "steps": 3, "width": 64, "height": 64, "cfg_scale": 2.5, "seed": 1} | fields).items():
        setattr(asked, name, value)
    return asked


@pytest.fixture(params=["open", "password"])
def service(request):
    """sd-backend-client at the open server, and at the one with a password."""
    if request.param == "open":
        yield backend(request.getfixturevalue("server"))
    else:
        yield backend(request.getfixturevalue("closed"), credentials_provider=lambda: (USER, PASSWORD))


def test_sd_backend_client_metadata(service):
    """The calls of its tests/test_a1111_metadata.py: its models check every answer."""
    assert "sd_model_checkpoint" in service.get_config()
    assert all(sampler.name for sampler in service.get_samplers())
    assert "Lanczos" in [upscaler.name for upscaler in service.get_upscalers()]
    assert all(upscaler.scale is not None for upscaler in service.get_upscalers())
    assert [model.model_name for model in service.get_models()] == ["tiny"]
    assert service.get_vae() == []
    assert {lora.name for lora in service.get_loras()} >= {"delft", "line", "bobbin"}
    assert service.get_hypernetworks() == []
    assert service.get_latent_upscale_modes()
    assert service.get_styles() == []
    assert (service.get_scripts().txt2img, service.get_script_info()) == ([], [])
    assert isinstance(service.progress_check().state.sampling_steps, int)
    assert service.refresh_checkpoints().status_code == 200
    assert service.refresh_loras().status_code == 200
    capabilities = service.get_capabilities()
    assert (capabilities.controlnet, capabilities.scheduler, capabilities.interrogate) == (False, True, False)
    assert [option.name for option in service.list_checkpoints()] == ["tiny"]
    assert {"euler_ancestral", "dpmpp_2m", "ddim"} <= {option.name for option in service.list_samplers()}
    assert {"normal", "karras"} <= {option.name for option in service.list_schedulers()}


def test_sd_backend_client_generation(service):
    """Those of tests/test_a1111_generation.py."""
    drawn = service.txt2img(body(seed=12345))
    assert len(drawn["images"]) == 1
    assert 12345 in drawn["info"].all_seeds
    assert len(service.txt2img(body(n_iter=2))["images"]) == 2
    assert service.img2img(source(), request_body=body(denoising_strength=0.75))["images"][0].size == (64, 64)
    assert service.upscale(source(), 128, 128)["images"][0].size == (128, 128)
    assert isinstance(service.interrupt(), dict)


def test_sd_backend_client_inpaint_respects_the_mask(service):
    mask = Image.new("L", (64, 64))
    mask.paste(255, (16, 16, 48, 48))
    asked = body(prompt="a bright flower", steps=6, denoising_strength=1.0, inpainting_fill=1, inpaint_full_res=False, mask_blur=0)
    result = service.img2img(source(), mask=mask, request_body=asked)["images"][0].convert("RGB")
    before = source()
    edge = (0, 0, 64, 8)
    assert result.crop(edge).tobytes() == before.crop(edge).tobytes()
    assert _difference(result, before, (16, 16, 48, 48)) >= 20


def test_sd_backend_client_inpaints_a_part_at_full_size(server):
    """tests/test_inpaint_full_res.py: outside of the mask every pixel stays, and the part differs from inpainting the whole."""
    before, box, side = source(256), (136, 64, 184, 112), 64
    mask = Image.new("L", before.size)
    mask.paste(255, box)
    results = []
    for full in (False, True):
        size = {"width": side, "height": side} if full else {"width": 256, "height": 256}
        asked = body(steps=4, denoising_strength=0.85, mask_blur=4, inpaint_full_res=full, inpaint_full_res_padding=16, **size)
        result = backend(server).img2img(before, mask=mask, request_body=asked)["images"][0].convert("RGB")
        assert result.size == before.size
        for outside in ((0, 0, 256, 40), (0, 136, 256, 256), (0, 0, 112, 256), (208, 0, 256, 256)):
            assert _difference(result, before, outside) <= 2
        assert _difference(result, before, (144, 72, 176, 104)) >= 15
        results.append(result)
    assert _difference(*results, box) >= 5


def _difference(one, other, box):
    pairs = zip(one.convert("RGB").crop(box).tobytes(), other.convert("RGB").crop(box).tobytes(), strict=True)
    return sum(abs(a - b) for a, b in pairs) / ((box[2] - box[0]) * (box[3] - box[1]) * 3)


def test_sd_backend_client_jobs(service):
    """tests/test_a1111_async.py: submit, follow, batch seeds, cancel what waits and what runs."""
    from sd_backend_client.api.shared_data.generation_handle import GenerationError, GenerationStatus

    seen = []
    handle = service.submit_txt2img(body(steps=30))
    result = handle.wait(timeout=TIMEOUT, poll_interval=0.05, on_progress=lambda progress: seen.append(progress.status))
    assert len(result.images) == 1
    assert GenerationStatus.ACTIVE in seen
    assert seen[-1] is GenerationStatus.FINISHED
    batch = service.submit_txt2img(body(batch_size=2, seed=500)).wait(timeout=TIMEOUT)
    assert (len(batch.images), batch.seeds) == (2, [500, 501])

    long, waiting = service.submit_txt2img(body(steps=400, batch_size=8, n_iter=4)), service.submit_txt2img(body())
    while long.poll().status is not GenerationStatus.ACTIVE or service.progress_check().progress == 0:
        assert not long.poll().status.is_terminal
    assert service.progress_check().state.job_count >= 4
    assert waiting.cancel()
    assert waiting.poll().status is GenerationStatus.CANCELLED
    assert long.cancel()
    with pytest.raises(GenerationError):
        long.wait(timeout=TIMEOUT)
    assert long.poll().status is GenerationStatus.CANCELLED


def test_sd_backend_client_auth(closed):
    """tests/test_a1111_auth.py."""
    from sd_backend_client.errors import AuthError

    assert backend(closed).login(USER, PASSWORD).status_code == 200
    assert backend(closed).login("nobody", "nothing").status_code != 200
    with pytest.raises(AuthError):
        backend(closed).get_samplers()
    asked = []
    provided = backend(closed, credentials_provider=lambda: asked.append(1) or (USER, PASSWORD))
    assert provided.get_samplers()
    assert asked == [1]
    with pytest.raises(AuthError):
        backend(closed, credentials_provider=lambda: (USER, "wrong")).get_samplers()


@pytest.mark.filterwarnings("ignore")  # of its type checker, about its own types
def test_aaa1111(server):
    """Every call but png_info, which knows two of the three keys that the WebUI answers, and what the WebUI has no other routes for."""
    from aaa1111 import AAA1111

    api = AAA1111(port=server.port)
    fields = {"prompt": "red apple", "steps": 2, "width": 64, "height": 64, "seed": 7}
    drawn = api.txt2img(fields)
    assert (drawn.images[0].size, drawn.info["all_seeds"]) == ((64, 64), [7])
    assert api.img2img(fields | {"init_images": [source()], "denoising_strength": 0.8}).images[0].size == (64, 64)
    assert api.progress(skip_current_image=True).progress == 0
    assert api.get_options()["sd_model_checkpoint"].startswith("tiny")
    api.set_options(samples_format="png")
    for name in (
        "cmd_flags", "samplers", "upscalers", "latent_upscale_modes", "sd_models", "sd_vae", "hypernetworks", "face_restorers",
        "realesrgan_models", "prompt_styles", "embeddings", "memory", "scripts", "script_info", "loras",
    ):  # fmt: skip
        getattr(api, name)()
        asyncio.run(getattr(AAA1111(port=server.port), f"a{name}")())
    for name in ("interrupt", "skip", "refresh_checkpoints", "refresh_loras"):
        getattr(api, name)()
    asyncio.run(AAA1111(port=server.port).atxt2img(fields))
    enlarged = api.extra_single_image({"image": source(), "upscaler_1": "Lanczos", "upscaling_resize": 2})
    assert enlarged.image is not None


def test_sd_parsers_reads_our_png(server):
    from sd_parsers import ParserManager

    drawn = server.post(
        "/sdapi/v1/txt2img", json={"prompt": "a castle <lora:line:0.5>", "negative_prompt": "people", "seed": 7, "steps": 2}
    )
    found = ParserManager().parse(io.BytesIO(base64.b64decode(drawn.json()["images"][0])))
    assert [prompt.value for prompt in found.prompts] == ["a castle <lora:line:0.5>"]
    assert [prompt.value for prompt in found.negative_prompts] == ["people"]
    (sampler,) = found.samplers
    assert (sampler.parameters["seed"], sampler.parameters["steps"]) == ("7", "2")


def test_ids_of_sessions_are_not_shared(make_service):
    """A login of one server opens no other."""
    import requests

    with running(make_service(Access.of(auth="a:b"))) as one, running(make_service(Access.of(auth="a:b"))) as other:
        one.post("/login", data={"username": "a", "password": "b"})
        assert one.get("/api/v1/base").status_code == 200
        cookies = requests.utils.dict_from_cookiejar(one.client.cookies)
        assert other.get("/api/v1/base", cookies=cookies).status_code == 401
