"""Laws of connections: what never ends is ended, what only takes its time is not."""

import base64
import contextlib
import io
import os
import socket
import time

import psutil
import pytest
from live import TIMEOUT, running
from PIL import Image

from loraloom.web import connection, limits


@pytest.fixture
def short(make_service, monkeypatch):
    """A server with little patience."""
    for name, value in {"HEAD_SECONDS": 0.3, "BODY_SECONDS": 0.3, "BODY_RATE": 1e9, "WRITE_SECONDS": 0.3}.items():
        monkeypatch.setattr(limits, name, value)
    monkeypatch.setattr(connection, "_LOOK_SECONDS", 0.05)
    with running(make_service(base="nano")) as server:
        yield server


def opened(server):
    return socket.create_connection(("127.0.0.1", server.port), timeout=TIMEOUT)


def all_of(line):
    """What comes until the server hangs up; raises if it does not."""
    found = b""
    while piece := line.recv(65536):
        found += piece
    return found


HEAD = b"GET /api/v1/health HTTP/1.1\r\nHost: 127.0.0.1\r\n"
POST = b"POST /sdapi/v1/options HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"


@pytest.mark.parametrize(
    ("sent", "what"),
    [
        (b"", b"the headers"),
        (b"GET", b"the headers"),
        (HEAD + b"X-Slow: ", b"the headers"),
        (POST + b"Content-Length: 100\r\n\r\n{", b"the body"),
        (POST + b"Content-Length: 100\r\n\r\n", b"the body"),
        (POST + b"Transfer-Encoding: chunked\r\n\r\n1\r\n{\r\n", b"the body"),
    ],
)
def test_what_never_ends_is_ended(short, sent, what):
    with opened(short) as line:
        line.sendall(sent)
        answer = all_of(line)
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert answer.endswith(what + b" of the request took too long")


def test_the_second_request_of_a_connection_ends_too(short):
    with opened(short) as line:
        line.sendall(HEAD + b"\r\n")
        assert line.recv(65536).startswith(b"HTTP/1.1 200")
        line.sendall(HEAD)
        assert b"HTTP/1.1 408 " in all_of(line)


def test_headers_have_an_end(short):
    with opened(short) as line:
        line.sendall(HEAD + b"X-Long: " + b"x" * 100_000)
        assert all_of(line).startswith(b"HTTP/1.1 400 ")


def test_an_answer_that_takes_longer_than_a_request_may_comes(short):
    """A base is opened for it."""
    assert short.post("/sdapi/v1/txt2img", json={"prompt": "x", "steps": 20}).status_code == 200


def test_a_client_that_does_not_read_is_left(short):
    noise = io.BytesIO()
    Image.frombytes("RGB", (1600, 1600), os.urandom(3 * 1600 * 1600)).save(noise, "PNG", compress_level=0)
    body = b'{"upscaling_resize": 1, "image": "%s"}' % base64.b64encode(noise.getvalue())
    with socket.socket() as line:
        line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        line.settimeout(TIMEOUT)
        line.connect(("127.0.0.1", short.port))
        head = (
            b"POST /sdapi/v1/extra-single-image HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
        )
        line.sendall(head % len(body) + body)
        assert line.recv(12) == b"HTTP/1.1 200"
        until = time.monotonic() + TIMEOUT
        while held(short, line):
            assert time.monotonic() < until
            time.sleep(0.05)
        assert len(all_of(line)) < len(body)


def held(server, line):
    """Whether the server, which is in this process, has the other end of a connection."""
    ends = [(each.laddr.port, each.raddr.port) for each in psutil.Process().net_connections("tcp") if each.raddr]
    return (server.port, line.getsockname()[1]) in ends


def test_connections_have_a_limit(short, monkeypatch):
    monkeypatch.setattr(limits, "HEAD_SECONDS", TIMEOUT)
    monkeypatch.setattr(limits, "CONNECTIONS", 3)
    lines = [opened(short) for _ in range(3)]
    with opened(short) as refused, contextlib.suppress(ConnectionResetError):  # how it is closed differs
        assert all_of(refused) == b""
    for line in lines:
        line.close()
    assert short.get("/api/v1/health").status_code == 200
