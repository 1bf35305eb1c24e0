"""A client that hung up has no place in the queue, and nothing is drawn for it that nobody will see."""

import json
import socket
import time

import pytest
from live import TIMEOUT, running

from loraloom.web import limits

LONG = {"prompt": "x", "steps": 500, "batch_size": 10, "n_iter": 10}
SHORT = {"prompt": "x", "steps": 1}


@pytest.fixture(scope="module")
def server(make_service):
    with running(make_service()) as it:
        it.post("/sdapi/v1/txt2img", json=SHORT)
        yield it


def asked(server, path, fields):
    """A request whose answer nobody has read yet."""
    body = json.dumps(fields).encode()
    connection = socket.create_connection(("127.0.0.1", server.port), timeout=TIMEOUT)
    head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    connection.sendall(head.encode() + body)
    return connection


def new_task(server, known):
    """The job that is not among `known`."""
    return wait_for(lambda: next((task for task in server.service.jobs.all() if task not in known), None))


def wait_for(found):
    until = time.monotonic() + TIMEOUT
    while not (result := found()):
        assert time.monotonic() < until
        time.sleep(0.01)
    return result


def begun(server, path="/sdapi/v1/txt2img", **fields):
    known = server.service.jobs.all()
    connection = asked(server, path, LONG | fields)
    task = new_task(server, known)
    wait_for(lambda: task.step)
    return connection, task


def test_a_request_that_waits_leaves_the_queue(server):
    held, running_task = begun(server)
    known = server.service.jobs.all()
    gone = asked(server, "/sdapi/v1/txt2img", SHORT)
    waiting = new_task(server, known)
    assert server.service.jobs.place(waiting) == 1
    gone.close()
    waiting.over.result(TIMEOUT)
    assert (waiting.state, waiting.step, running_task.state) == ("interrupted", 0, "running")
    held.close()
    running_task.over.result(TIMEOUT)
    assert running_task.state == "interrupted"


def test_pictures_that_are_saved_are_drawn_to_the_end(server):
    held, running_task = begun(server)
    known = server.service.jobs.all()
    gone = asked(server, "/sdapi/v1/txt2img", SHORT | {"save_images": True})
    waiting = new_task(server, known)
    gone.close()
    unsaved = asked(server, "/sdapi/v1/txt2img", SHORT)
    last = new_task(server, [*known, waiting])
    unsaved.close()
    last.over.result(TIMEOUT)  # by now whoever hung up earlier has been looked for too
    assert waiting.state == "queued"
    held.close()
    waiting.over.result(TIMEOUT)
    assert (running_task.state, waiting.state) == ("interrupted", "done")
    assert [path.suffix for path in server.service.settings.output_folder.iterdir()].count(".png") == 1


def test_a_curve_that_waits_behind_a_job_gives_its_place_to_the_next(server):
    held, task = begun(server)
    mix = {"mix": "<lora:delft:1>", "base": "tiny"}
    room = server.service.curves._room
    curves = [asked(server, "/api/v1/extract/curve", mix) for _ in range(limits.CURVES)]
    wait_for(lambda: room._value == 0)
    assert server.post("/api/v1/extract/curve", json=mix).status_code == 429
    for connection in curves:
        connection.close()
    wait_for(lambda: room._value == limits.CURVES)
    assert task.state == "running"
    held.close()
    task.over.result(TIMEOUT)
