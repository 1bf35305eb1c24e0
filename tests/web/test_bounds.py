"""Every field of every request has bounds: numbers and texts that a receiver cannot hold are 422 with the field, never a bug."""

import json
import re

import pytest
from test_security import _small

from loraloom.web.api.models import ErrorAnswer

NUMBERS = ("1e999", "-1e999", "NaN", "Infinity", f"1{'0' * 30}", f"-1{'0' * 30}", "1e300")
TEXTS = ('"a\\ud800"', '"a\\u0000"')
NESTED = ('{"a": 1e999}', "[NaN]", '{"\\ud800": 1}', "[" * 400 + "]" * 400, '{"a": ' * 400 + "1" + "}" * 400)
PICTURE = _small()
# What makes each request whole.
WHOLE = {
    "/sdapi/v1/txt2img": {"prompt": "x", "steps": 0},  # refused in the end, so that nothing is drawn
    "/sdapi/v1/img2img": {"prompt": "x", "steps": 0, "init_images": [PICTURE]},
    "/sdapi/v1/extra-single-image": {"image": PICTURE, "upscaler_1": "no such"},
    "/sdapi/v1/extra-batch-images": {"imageList": [{"data": PICTURE}], "upscaler_1": "no such"},
    "/api/v1/jobs": {"prompt": "x", "base": "no such"},
    "/api/v1/extract": {"mix": "<lora:no-such:1>", "name": "x"},
    "/api/v1/extract/curve": {"mix": "<lora:no-such:1>"},
    "/api/v1/settings": {},
}
FREE = ("override_settings", "comments", "script_args", "alwayson_scripts", "anything")  # whatever a client writes
SETTINGS = ("base", "default_strength", "auto_apply_triggers", "loader")


def fields(server, path):
    """The fields of a request and the kinds of value that each takes: ("steps", {"integer", "null"})."""
    schema = server.get("/openapi.json").json()
    method = next(method for name, method in schema["paths"][path].items() if "requestBody" in method)
    body = method["requestBody"]["content"]["application/json"]["schema"]
    model = schema["components"]["schemas"].get(body.get("$ref", "").rpartition("/")[2], {})
    for name, kind in model.get("properties", {}).items():
        if name not in ("image", "mask"):  # no picture, whatever else they are
            yield name, {each.get("type") for each in kind.get("anyOf", [kind])}
    if path == "/api/v1/settings":
        yield from ((name, {"number", "string"}) for name in SETTINGS)


def ask(server, path, field, raw):
    whole = {name: value for name, value in WHOLE[path].items() if name != field}
    text = json.dumps(whole)[:-1] + (", " if whole else "") + f"{json.dumps(field)}: {raw}}}"
    method = "PATCH" if path == "/api/v1/settings" else "POST"
    return server.client.request(method, server.address + path, data=text, headers={"Content-Type": "application/json"}, timeout=300)


@pytest.mark.parametrize("path", WHOLE)
def test_what_nobody_can_hold_is_refused_with_its_field(server, path, monkeypatch, tmp_path):
    monkeypatch.setenv("LORALOOM_SETTINGS", str(tmp_path / "settings.toml"))
    asked = 0
    for field, kinds in fields(server, path):
        wrong = NUMBERS if kinds & {"integer", "number"} else ()
        wrong += TEXTS if "string" in kinds else ()
        for raw in wrong:
            answer = ask(server, path, field, raw)
            assert answer.status_code == 422, (field, raw, answer.text)
            told = ErrorAnswer.model_validate(answer.json())
            assert field in (told.mistake and told.mistake.field, *re.split(r"\W+", told.detail)), (field, raw, told.detail)
            asked += 1
    assert asked >= 8
    assert not (tmp_path / "settings.toml").exists()


@pytest.mark.parametrize("path", ["/sdapi/v1/txt2img", "/sdapi/v1/img2img"])
def test_what_cannot_be_said_again_is_refused_with_its_field(server, path):
    for field in FREE:
        for raw in (*NESTED, *(TEXTS[:1] if field == "anything" else ())):
            answer = ask(server, path, field, raw)
            assert answer.status_code == 422, (field, raw[:20], answer.text)
            assert answer.json()["detail"].startswith(field), (field, raw[:20], answer.text[:300])


@pytest.mark.parametrize("raw", [f"1{'0' * 5000}", "[" * 100_000, '{"a":' * 100_000, "\\", "", "\ud800".encode("utf-8", "surrogatepass")])
def test_what_is_no_json_is_a_mistake_of_the_request(server, raw):
    for path in (*WHOLE, "/sdapi/v1/options", "/sdapi/v1/png-info"):
        method = "PATCH" if path == "/api/v1/settings" else "POST"
        options = {"data": raw, "headers": {"Content-Type": "application/json"}, "timeout": 300}
        answer = server.client.request(method, server.address + path, **options)
        assert answer.status_code in (400, 422), (path, answer.status_code)
        assert ErrorAnswer.model_validate(answer.json()).detail
