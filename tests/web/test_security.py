"""Nobody in who does not belong: every route needs credentials, foreign hosts and pages are refused, paths lead nowhere."""

import base64
import contextlib
import hmac
import http.client
import io
import json
import subprocess
import sys
import zlib
from itertools import product
from pathlib import Path

import pytest
import requests
from live import PASSWORD, TIMEOUT, USER, running
from PIL import Image

from loraloom.errors import SettingsError
from loraloom.web import limits
from loraloom.web.access import Access
from loraloom.web.app import create_app
from loraloom.web.guard import OPEN
from loraloom.web.headers import HEADERS

RIGHT = (USER, PASSWORD)


def ask(server, method, path, headers=None, body=None):
    """A raw request, with paths and headers that clients would tidy up: (status, headers, body)."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=TIMEOUT)
    try:
        wanted = {"Host": f"127.0.0.1:{server.port}"} | (headers or {})
        connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
        for name, value in wanted.items():
            if value is not None:
                connection.putheader(name, value)
        if body is not None:
            connection.putheader("Content-Length", str(len(body)))
        connection.endheaders(body)
        answer = connection.getresponse()
        return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read(100_000)
    finally:
        connection.close()


def routes(app):
    """Every method and path of the application, those of FastAPI itself and of what is mounted too."""
    for route in app.routes:
        if hasattr(route, "original_router"):  # one that was included
            yield from routes(route.original_router)
        elif hasattr(route, "methods"):
            yield from ((method, route.path) for method in route.methods)
        else:  # one that is mounted
            yield from (("GET", f"{route.path}/"), ("GET", f"{route.path}/index.html"), ("POST", f"{route.path}/x"))


def test_every_route_needs_credentials(make_service, tmp_path):
    (tmp_path / "index.html").write_text("<!doctype html><title>page</title>")
    (tmp_path / "app.js").write_text("1")
    with running(make_service(Access.of(auth=f"{USER}:{PASSWORD}")), static=tmp_path) as server:
        asked = {(method, path.format(id="x")) for method, path in routes(create_app(server.service, tmp_path))}
        asked |= {("GET", path) for path in ("/docs", "/openapi.json", "/app.js", "/nothing", "/redoc", "//", "/%2e%2e/x")}
        asked |= {("OPTIONS", "/sdapi/v1/txt2img"), ("GET", "/login")}
        paths = create_app(server.service).openapi()["paths"]
        assert {(method.upper(), path.format(id="x")) for path, methods in paths.items() for method in methods} <= asked
        assert len(asked) > 50
        statuses = {each: ask(server, *each)[0] for each in sorted(asked)}
        assert {each for each, status in statuses.items() if status != 401} == set(OPEN) & asked
        for path in ("/", "/app.js", "/docs", "/api/v1/networks"):
            assert requests.get(server.address + path, auth=RIGHT, timeout=TIMEOUT).status_code == 200


def test_wrong_credentials_are_told_nothing(closed):
    wrong = [(USER, "x"), ("x", PASSWORD), ("", ""), (USER, PASSWORD + " "), (USER.upper(), PASSWORD)]
    for pair in wrong:
        answer = requests.get(f"{closed.address}/api/v1/base", auth=pair, timeout=TIMEOUT)
        assert (answer.status_code, answer.json()["detail"]) == (401, "wrong user or password")
    for header in ("Basic", "Basic !!!", "Basic " + base64.b64encode(b"nocolon").decode(), "Bearer x", "Basic " + "A" * 10_000):
        assert closed.get("/api/v1/base", headers={"Authorization": header}).status_code == 401
    assert closed.get("/api/v1/health").json()["auth"] is True
    assert closed.get("/api/v1/base").headers["WWW-Authenticate"].startswith("Basic")


def test_a_login_is_a_cookie_for_this_site_alone(closed):
    with requests.Session() as browser:
        assert browser.post(f"{closed.address}/login", data={"username": USER, "password": "x"}, timeout=TIMEOUT).status_code == 400
        assert browser.get(f"{closed.address}/api/v1/base", timeout=TIMEOUT).status_code == 401
        answer = browser.post(f"{closed.address}/login", data={"username": USER, "password": PASSWORD}, timeout=TIMEOUT)
        assert (answer.status_code, answer.json()) == (200, {"success": True})
        cookie = answer.headers["Set-Cookie"].lower()
        assert "httponly" in cookie
        assert "samesite=strict" in cookie
        assert browser.get(f"{closed.address}/api/v1/base", timeout=TIMEOUT).status_code == 200
    forged = closed.get("/api/v1/base", headers={"Cookie": "loraloom_session=forged"})
    assert forged.status_code == 401


ATTACKS = (
    ("another host", {"Host": "evil.example"}, 421),
    ("another host with this port", {"Host": "evil.example:7860"}, 421),
    ("a host that begins alike", {"Host": "127.0.0.1.evil.example"}, 421),
    ("a host with credentials", {"Host": "127.0.0.1@evil.example"}, 421),
    ("an address that is not this computer's", {"Host": "192.168.1.7"}, 421),
    ("no host", {"Host": None}, 400),
    ("a page of another site", {"Origin": "https://evil.example"}, 403),
    ("a page without an origin", {"Origin": "null"}, 403),
    ("a page on another port", {"Origin": "http://127.0.0.1:1"}, 403),
    ("an origin that begins alike", {"Origin": "http://127.0.0.1.evil.example"}, 403),
    ("a form of another site", {"Sec-Fetch-Site": "cross-site"}, 403),
    ("another page of the same site", {"Sec-Fetch-Site": "same-site"}, 403),
)


@pytest.mark.parametrize(("what", "headers", "status"), ATTACKS, ids=[attack[0] for attack in ATTACKS])
def test_foreign_pages_change_nothing(server, what, headers, status):
    found, answered, _ = ask(server, "POST", "/sdapi/v1/interrupt", headers, b"")
    print(f"{what:42} {headers!s:50} {found}")
    assert found == status
    assert "access-control-allow-origin" not in answered


def test_own_pages_and_programs_get_in(server):
    here = f"127.0.0.1:{server.port}"
    for headers in (
        {},
        {"Origin": f"http://{here}"},
        {"Host": "localhost"},
        {"Host": f"localhost:{server.port}", "Origin": f"http://localhost:{server.port}"},
        {"Host": f"[::1]:{server.port}"},
        {"Origin": f"http://{here}", "Sec-Fetch-Site": "same-origin"},
        {"Sec-Fetch-Site": "none"},
    ):
        assert ask(server, "POST", "/sdapi/v1/interrupt", headers, b"")[0] == 200, headers


PATHS = (
    "/../../../../etc/passwd", "/%2e%2e/%2e%2e/etc/passwd", "/..%2f..%2fetc/passwd", "/static/../../app.py", "//etc/passwd",
    "/%00", "/....//etc/passwd", "/..\\..\\secret.txt", "/assets/..%5c..%5csecret.txt", "/secret-link.txt", "/%252e%252e/secret.txt",
    "/api/v1/networks/..%2f..%2f..%2fetc%2fpasswd", "/api/v1/networks/..%2f..%2fetc%2fpasswd/preview",
    "/api/v1/pictures/..%2f..%2fsecret", "/api/v1/jobs/..%2f..%2f/preview", "/sdapi/v1/lora?lora=/etc/passwd",
    "/sdapi/v1/lora?lora=../../../etc/passwd",
)  # fmt: skip


def test_paths_lead_nowhere(make_service, tmp_path):
    """A page whose folder has a secret beside it, and a link to it inside."""
    secret = tmp_path / "secret.txt"
    secret.write_text("root:secret")
    page = tmp_path / "page"
    page.mkdir()
    (page / "index.html").write_text("<!doctype html>")
    (page / "secret-link.txt").symlink_to(secret)
    with running(make_service(), static=page) as server:
        assert ask(server, "GET", "/")[0] == 200
        for path in PATHS:
            status, _, body = ask(server, "GET", path)
            print(f"{path:55} {status}")
            assert status in (400, 404, 405, 422), path
            assert b"root:" not in body


def test_names_never_reach_the_file_system(server, monkeypatch, tmp_path, make_lora):
    """Not in prompts, not as a base, not as a checkpoint: nothing outside of the configured folders is looked at."""
    outside = make_lora(tmp_path / "outside.safetensors")
    touched = []
    real = {name: getattr(Path, name) for name in ("stat", "open", "is_file", "is_dir", "exists", "read_bytes")}
    for name, function in real.items():

        def spy(path, *arguments, name=name, function=function, **options):
            if str(path).startswith((str(tmp_path), "/etc")):
                touched.append((name, path))
            return function(path, *arguments, **options)

        monkeypatch.setattr(Path, name, spy)
    names = (str(outside), str(outside.with_suffix("")), f"../../..{outside}", "/etc/passwd", "hf:owner/name", "~/x")
    for name, route in product(names, ("/api/v1/jobs", "/sdapi/v1/txt2img")):
        tag = {"prompt": f'cat <lora:"{name}":1>', "strict_lora": True} if "sdapi" in route else {"prompt": f'cat <lora:"{name}":1>'}
        answer = server.post(route, json=tag)
        assert answer.status_code == 422, answer.text
        for mix in ({"mix": f'<lora:"{name}":1>'}, {"mix": "<lora:delft:1>", "base": name}):
            assert server.post("/api/v1/extract/curve", json=mix).status_code == 422
            assert server.post("/api/v1/extract", json=mix | {"name": "x"}).status_code == 422
            tuned = {"tuned": name, "base": "tiny", "rank": 4}
            assert server.post("/api/v1/extract/curve", json=tuned).status_code == 422
            assert server.post("/api/v1/extract", json=tuned | {"name": "x"}).status_code == 422
        for place in ({"name": name}, {"name": "x", "folder": name}):
            assert server.post("/api/v1/extract", json={"mix": "<lora:delft:1>"} | place).status_code == 422
        base = {"prompt": "cat", "base": name}
        assert server.post("/api/v1/jobs", json=base).status_code == 422
        assert server.post("/sdapi/v1/options", json={"sd_model_checkpoint": name}).status_code == 422
    assert server.client.patch(f"{server.address}/api/v1/settings", json={"lora_folders": ["/etc"]}, timeout=TIMEOUT).status_code == 422
    assert server.client.patch(f"{server.address}/api/v1/settings", json={"base": str(tmp_path)}, timeout=TIMEOUT).status_code == 422
    assert touched == []


def test_every_answer_has_the_headers_of_safety(server):
    for path in ("/", "/docs", "/api/v1/health", "/sdapi/v1/samplers", "/nothing"):
        answer = server.get(path)
        assert {name: answer.headers[name] for name in HEADERS} == HEADERS
        assert "server" not in answer.headers
    assert "unsafe" not in HEADERS["Content-Security-Policy"]


def test_nothing_changes_on_get(server):
    for path in ("interrupt", "skip", "refresh-loras", "refresh-checkpoints", "txt2img", "img2img"):
        assert server.get(f"/sdapi/v1/{path}").status_code == 405
    for path in ("jobs/x/interrupt", "networks/refresh", "base/open", "extract/curve"):
        assert server.get(f"/api/v1/{path}").status_code in (404, 405)
    assert server.get("/api/v1/base?open=true").json()["state"] == "closed"
    assert server.service.jobs._workers == []


def test_large_bodies_are_refused_before_they_are_read(server):
    status, _, body = ask(server, "POST", "/sdapi/v1/txt2img", {"Content-Length": str(limits.BODY + 1), "Content-Type": "application/json"})
    assert status == 413
    assert b"64 MiB" in body

    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=TIMEOUT)
    connection.putrequest("POST", "/sdapi/v1/txt2img")
    connection.putheader("Content-Type", "application/json")
    connection.putheader("Transfer-Encoding", "chunked")
    connection.endheaders()
    sent = 0
    with contextlib.suppress(OSError):  # the server hangs up before all is sent
        while sent < 4 * limits.BODY >> 20:
            connection.send(b"100000\r\n" + b" " * 2**20 + b"\r\n")
            sent += 1
    assert sent < 3 * limits.BODY >> 20
    with contextlib.suppress(OSError):
        answer = connection.getresponse()
        assert (answer.status, json.loads(answer.read())["detail"]) == (413, "Content Too Large")
    connection.close()
    assert server.get("/api/v1/health").status_code == 200


def test_bombs_are_refused(server):
    def chunk(kind, data):
        return len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")

    head = (60_000).to_bytes(4, "big") * 2 + bytes([8, 2, 0, 0, 0])
    bomb = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    text = base64.b64encode(bomb).decode()
    assert server.post("/sdapi/v1/img2img", json={"prompt": "x", "init_images": [text]}).status_code == 422
    assert server.post("/api/v1/jobs", json={"prompt": "x", "image": text}).status_code == 422
    assert server.post("/sdapi/v1/extra-single-image", json={"image": text}).status_code == 422
    for size in ({"width": 10**9, "height": 10**9}, {"width": -8}, {"width": 8, "height": 10**7}):
        fields = {"prompt": "x", "init_images": [_small()], "mask": _small(), "mask_blur": 10**6, "inpaint_full_res_padding": 10**9}
        assert server.post("/sdapi/v1/img2img", json=fields | size).status_code == 422
    half = '{"sd_model_checkpoint": "\\ud800", "a\\ud800": 1}'
    for path, body in (("options", half), ("txt2img", '{"prompt": "\\ud800"}'), ("txt2img", '{"x": "\\ud800", "steps": 1}')):
        answer = server.post(f"/sdapi/v1/{path}", data=body, headers={"Content-Type": "application/json"})
        assert answer.status_code == 422, answer.text
    deep = "[" * 100_000 + "]" * 100_000
    answer = server.post("/sdapi/v1/options", data=deep, headers={"Content-Type": "application/json"})
    assert answer.status_code in (400, 422)
    large = {"image": _small(), "upscaling_resize": 1e6}
    assert server.post("/sdapi/v1/extra-single-image", json=large).status_code == 422


def _small():
    small = io.BytesIO()
    Image.new("RGB", (64, 64)).save(small, "PNG")
    return base64.b64encode(small.getvalue()).decode()


def test_origins_that_were_named_may_use_the_api(make_service):
    with running(make_service(Access.of(auth=f"{USER}:{PASSWORD}", origins=["https://friend.example"]))) as server:
        friend = {"Origin": "https://friend.example", "Sec-Fetch-Site": "cross-site"}
        wish = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization,content-type"}
        asked = server.client.options(f"{server.address}/sdapi/v1/txt2img", headers=friend | wish, timeout=TIMEOUT)
        assert (asked.status_code, asked.headers["Access-Control-Allow-Origin"]) == (200, "https://friend.example")
        assert server.post("/sdapi/v1/interrupt", headers=friend).status_code == 401
        assert server.post("/sdapi/v1/interrupt", headers=friend, auth=RIGHT).status_code == 200
        stranger = {"Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site"}
        refused = server.post("/sdapi/v1/interrupt", headers=stranger, auth=RIGHT)
        assert (refused.status_code, refused.headers.get("Access-Control-Allow-Origin")) == (403, None)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.7", "images.example.org"])
def test_the_network_needs_a_password(host):
    with pytest.raises(SettingsError, match="--api-auth user:password"):
        Access.of(host=host)
    assert Access.of(host=host, auth="a:b").closed
    assert not Access.of(host=host, insecure=True).closed
    assert Access.of(host=host, auth="a:b").allows_host("10.0.0.1:7860")  # a numeric address cannot be rebound
    assert not Access.of(host=host, auth="a:b").allows_host("evil.example")


@pytest.mark.parametrize(
    "options", [{"auth": "nocolon"}, {"auth": ":x"}, {"auth": "x:"}, {"hosts": ["*"]}, {"origins": ["*"]}, {"origins": ["https://a/b"]}]
)
def test_rules_that_mean_nothing_are_refused(options):
    with pytest.raises(SettingsError):
        Access.of(**options)


def test_credentials_are_compared_in_constant_time(monkeypatch):
    """Both parts, each by compare_digest over digests of one length, whichever of them is wrong."""
    compared = []
    real = hmac.compare_digest
    monkeypatch.setattr(hmac, "compare_digest", lambda one, other: compared.append((len(one), len(other))) or real(one, other))
    access = Access.of(auth="user:password")
    for user, password in (("user", "p"), ("u", "password"), ("u", "p"), ("user", "password")):
        assert access.knows(user, password) is (password == "password" and user == "user")
    assert compared == [(32, 32)] * 8


def test_local_image_gen_security_finds_nothing(server):
    """https://pypi.org/project/local-image-gen-security: exit code 0 is that nothing failed."""
    run = subprocess.run([sys.executable, "-m", "ligsp", "check", server.address], capture_output=True, text=True, timeout=TIMEOUT)
    print(run.stdout)
    assert run.returncode == 0, run.stdout + run.stderr
    for check in ("WEB-1", "WEB-2", "WEB-3"):
        assert any(check in line and "PASS" in line.upper() for line in run.stdout.splitlines()), run.stdout
