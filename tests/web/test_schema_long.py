"""schemathesis asks every route of the OpenAPI for thousands of odd things: no answer is a 5xx."""

import subprocess
import sys
from pathlib import Path

import pytest

from loraloom.web import limits


@pytest.mark.long
def test_nothing_odd_brings_the_server_down(server, monkeypatch):
    """All routes but the event stream, which has no end; pictures are kept small, so that the time goes into requests."""
    for name, value in (("STEPS", 2), ("PIXELS", 64 * 64), ("PICTURES", 2)):
        monkeypatch.setattr(limits, name, value)
    run = subprocess.run(
        [
            str(Path(sys.executable).with_name("schemathesis")), "run", f"{server.address}/openapi.json", "--checks", "not_a_server_error",
            "--max-examples", "40", "--exclude-path", "/api/v1/events", "--request-timeout", "120", "--seed", "7",
            "--phases", "examples,coverage,fuzzing",
        ],
        capture_output=True, text=True, timeout=3000,
    )  # fmt: skip
    print(run.stdout[-6000:])
    assert run.returncode == 0, run.stdout[-6000:] + run.stderr[-2000:]
    assert server.get("/api/v1/health").status_code == 200
