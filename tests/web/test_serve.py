"""The command `loraloom serve`: ready soon, refuses to be open to everybody, leaves in good order."""

import inspect
import os
import re
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
import requests
from live import TIMEOUT

from loraloom.cli.serve import serve as serve_command
from loraloom.web import jobs, limits


@contextmanager
def command(tmp_path, *arguments, **environment):
    """`loraloom serve --port 0` with a home of its own; its address and the process."""
    values = {"LORALOOM_OUTPUT_FOLDER": str(tmp_path / "outputs"), "LORALOOM_LIBRARY_INDEX": str(tmp_path / "index.sqlite")}
    program = [sys.executable, "-c", "from loraloom.cli import main; main()", "serve", "--port", "0", *arguments]
    process = subprocess.Popen(
        program, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path, env=os.environ | values | environment
    )
    try:
        line = process.stdout.readline()
        found = re.search(r"http://\S+", line)
        assert found, process.communicate(timeout=TIMEOUT)[1]
        yield found.group(), process
    finally:
        process.kill()
        process.communicate()


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="this system does not tell about its processes")
def test_ready_without_a_model(tmp_path):
    """Before it has torch, which takes longer than all the rest: `benchmarks/startup.py` has the seconds."""
    with command(tmp_path) as (address, process):
        assert requests.get(f"{address}/api/v1/health", timeout=TIMEOUT).json()["status"] == "ok"
        assert not _maps(process.pid, "libtorch")


def _maps(pid, name):
    return name in Path(f"/proc/{pid}/maps").read_text()


def test_sigterm_ends_a_long_job_after_its_time_to_finish(tmp_path):
    """The job would take minutes; the server waits for the job's time and for the step that it is in."""
    with command(tmp_path, "--graceful-timeout", "0.5") as (address, process):
        requests.post(f"{address}/sdapi/v1/txt2img", json={"prompt": "x", "steps": 1}, timeout=TIMEOUT)  # torch is loaded
        long = requests.post(f"{address}/api/v1/jobs", json={"prompt": "long", "steps": 200, "pictures": 100}, timeout=TIMEOUT).json()
        events = requests.get(f"{address}/api/v1/events", stream=True, timeout=TIMEOUT)
        while requests.get(f"{address}/api/v1/jobs/{long['id']}", timeout=TIMEOUT).json()["step"] < 1:
            time.sleep(0.1)
        waiting = requests.post(f"{address}/api/v1/jobs", json={"prompt": "x"}, timeout=TIMEOUT).json()
        assert waiting["place"] == 1
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=TIMEOUT)
        events.close()
        assert len(list((tmp_path / "outputs").glob("*"))) < 100
        assert process.stderr.read().count("Traceback") == 0


def test_a_job_that_finishes_in_its_time_is_saved_before_the_end(tmp_path):
    with command(tmp_path, "--graceful-timeout", str(TIMEOUT)) as (address, process):
        requests.post(f"{address}/sdapi/v1/txt2img", json={"prompt": "x", "steps": 1}, timeout=TIMEOUT)
        job = requests.post(f"{address}/api/v1/jobs", json={"prompt": "red apple", "steps": 20}, timeout=TIMEOUT).json()
        while requests.get(f"{address}/api/v1/jobs/{job['id']}", timeout=TIMEOUT).json()["step"] < 1:
            time.sleep(0.01)
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=TIMEOUT)
        assert [path.name for path in (tmp_path / "outputs").iterdir()] == ["0001-red-apple.png"]


def serve(tmp_path, *arguments):
    program = [sys.executable, "-c", "from loraloom.cli import main; main()", "serve", *arguments]
    return subprocess.run(program, capture_output=True, text=True, cwd=tmp_path, timeout=TIMEOUT)


@pytest.mark.parametrize("arguments", [["--listen"], ["--host", "0.0.0.0"], ["--host", "images.example.org"]])
def test_it_refuses_to_be_open_to_everybody(tmp_path, arguments):
    run = serve(tmp_path, "--port", "0", *arguments)
    assert run.returncode == 2
    assert "--api-auth user:password" in run.stderr


def test_a_port_that_is_taken_is_named(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        run = serve(tmp_path, "--port", str(port))
    assert run.returncode == 2
    assert f"port {port}: cannot listen there" in run.stderr
    assert "Traceback" not in run.stderr


def test_listening_with_a_password_needs_it(tmp_path):
    with command(tmp_path, "--listen", LORALOOM_API_AUTH="a:b") as (address, _):
        address = address.replace("0.0.0.0", "127.0.0.1")
        assert requests.get(f"{address}/", timeout=TIMEOUT).status_code == 401
        assert requests.get(f"{address}/", auth=("a", "b"), timeout=TIMEOUT).status_code == 200


def test_by_default_all_is_over_within_ten_seconds():
    """What a supervisor waits for before it kills: docker stop gives ten seconds."""
    assert limits.GRACEFUL_SECONDS + jobs._STEP_SECONDS < 10
    assert inspect.signature(serve_command).parameters["graceful_timeout"].default == limits.GRACEFUL_SECONDS
