"""Laws of who comes in: strangers' cookies and headers take nothing from a person who is logged in, and guessing is slow."""

import base64
import http.client
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests
from live import PASSWORD, USER, running

from loraloom.web.access import Access
from loraloom.web.attempts import CLIENT, STRANGERS, Attempts, client_of

RIGHT = {"Authorization": "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()}
WRONG = {"Authorization": "Basic " + base64.b64encode(b"weaver:guess").decode()}


def status(server, *headers, path="/api/v1/base"):
    """Of a raw request: headers may be bytes, and one name may stand there twice."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    try:
        connection.putrequest("GET", path)
        for name, value in headers:
            connection.putheader(name, value)
        connection.endheaders()
        return connection.getresponse().status
    finally:
        connection.close()


@pytest.fixture(scope="module")
def cookie(closed):
    """Of a person who is logged in."""
    answer = requests.post(f"{closed.address}/login", data={"username": USER, "password": PASSWORD}, timeout=60)
    return answer.headers["Set-Cookie"].partition(";")[0]


@pytest.mark.parametrize(
    "others",
    [
        'x={"a":1}', "flag", "=", ";;", "a=b; flag", 'x="a;b', "x=a,b", "träger=ä".encode(), b"x=\xff\xfe", "$Version=1", "a b=c", "[x]=1",
        "x" * 4000, "loraloom_session_0=other", "loraloom_session_1=another port's",
    ],
)  # fmt: skip
def test_cookies_of_other_programs_log_nobody_out(closed, cookie, others):
    others = others if isinstance(others, bytes) else others.encode()
    for value in (others + b"; " + cookie.encode(), cookie.encode() + b"; " + others, cookie.encode() + b";" + others):
        assert status(closed, ("Cookie", value)) == 200
    assert status(closed, ("Cookie", others), ("Cookie", cookie)) == 200
    assert status(closed, ("Cookie", others)) == 401


def test_an_old_cookie_of_ours_hides_no_new_one(closed, cookie):
    name = cookie.partition("=")[0]
    assert status(closed, ("Cookie", f"{name}=old; {cookie}")) == 200
    assert status(closed, ("Cookie", f"{cookie}; {name}=old")) == 200
    assert status(closed, ("Cookie", f'{name}="{cookie.partition("=")[2]}"')) == 200
    assert status(closed, ("Cookie", f"{name}=old; {name}=")) == 401


@pytest.mark.parametrize(
    "header",
    [
        ("Authorization", "Bearer abc"), ("Authorization", "Digest x=1"), ("Authorization", "Basic"), ("Authorization", "Basic !!"),
        ("Authorization", b"\xff\xfe"), ("If-Modified-Since", "yesterday"), ("If-None-Match", b"\xff"), ("Accept-Language", b"\xe4"),
        ("X-Forwarded-For", "nobody, \"x"), ("Forwarded", ";;"), ("Upgrade", "h2c"), ("Content-Type", "x;;=\""), ("Cookie", b"\xff"),
    ],
)  # fmt: skip
def test_headers_of_strangers_do_no_harm(closed, cookie, header):
    for path in ("/api/v1/base", "/", "/sdapi/v1/options"):
        assert status(closed, header, ("Cookie", cookie), path=path) == 200
    if header[0] != "Authorization":
        assert status(closed, header, *RIGHT.items()) == 200
    else:
        assert status(closed, header) == 401
        assert status(closed, header, *RIGHT.items()) == 200


def test_a_password_is_read_as_its_client_wrote_it(make_service):
    """UTF-8, as browsers do when asked, and Latin-1, as requests does."""
    with running(make_service(Access.of(auth="käthe:schlüssel:ö"))) as server:
        for encoding in ("utf-8", "latin-1"):
            header = base64.b64encode("käthe:schlüssel:ö".encode(encoding)).decode()
            assert status(server, ("Authorization", f"basic  {header}")) == 200
        assert status(server, ("Authorization", "Basic " + base64.b64encode("käthe:schlussel:ö".encode()).decode())) == 401


@pytest.fixture
def frozen(make_service):
    """A server with a clock that stands still until it is moved."""
    with running(make_service(Access.of(auth=f"{USER}:{PASSWORD}"))) as server:
        now = [0.0]
        server.service.entry.attempts = Attempts(lambda: now[0])
        yield server, now


@pytest.mark.parametrize("door", ["basic", "login"])
def test_four_hundred_wrong_passwords_at_once_are_not_looked_at(frozen, door):
    server, now = frozen
    server.client.post(f"{server.address}/login", data={"username": USER, "password": PASSWORD}, timeout=60)

    def guess(number):
        if door == "login":
            return requests.post(f"{server.address}/login", data={"username": USER, "password": f"x{number}"}, timeout=120)
        return requests.get(f"{server.address}/api/v1/base", auth=(USER, f"x{number}"), timeout=120)

    with ThreadPoolExecutor(40) as clients:
        answers = list(clients.map(guess, range(400)))
    statuses = [answer.status_code for answer in answers]
    assert (statuses.count(400 if door == "login" else 401), statuses.count(429)) == (CLIENT[0], 400 - CLIENT[0])
    refused = next(answer for answer in answers if answer.status_code == 429)
    assert (refused.headers["Retry-After"], refused.json()["error"]) == ("1", "TooManyAttempts")
    assert server.get("/api/v1/base").status_code == 200  # logged in
    assert status(server, *RIGHT.items()) == 429  # were it let in, guesses would be as fast as the server
    now[0] += 1 / CLIENT[1]
    assert status(server, *RIGHT.items()) == 200
    assert status(server, *RIGHT.items()) == 200  # what is right costs nothing
    assert status(server, ("X-Forwarded-For", "203.0.113.7"), *RIGHT.items()) == 200


def test_strangers_together_do_not_lock_out_who_was_right_before():
    now = [0.0]
    attempts = Attempts(lambda: now[0])
    attempts.right("198.51.100.1")
    for number in range(STRANGERS[0]):
        client = f"203.0.{number // 200}.{number % 200}"
        assert attempts.seconds(client) == 0
        attempts.wrong(client)
    assert attempts.seconds("192.0.2.1") == pytest.approx(1 / STRANGERS[1])
    assert attempts.seconds("198.51.100.1") == 0
    now[0] += STRANGERS[0] / STRANGERS[1]
    assert attempts.seconds("192.0.2.1") == 0


def test_who_asks_is_an_address_or_the_network_of_a_person():
    assert client_of("203.0.113.9", "198.51.100.1") == "203.0.113.9"  # anybody may write that header
    assert client_of("127.0.0.1", "forged, 198.51.100.1") == "198.51.100.1"  # a proxy on this computer wrote the last
    assert client_of("127.0.0.1", "forged") == client_of("127.0.0.1") == "127.0.0.1"
    assert client_of("2001:db8:1:2::5") == client_of("2001:db8:1:2:ffff::1") != client_of("2001:db8:1:3::5")
