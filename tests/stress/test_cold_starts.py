"""Two bases asked for at once on a new server: both draw what they draw alone, and the server says that both are open.

Three new servers of one process in `make test`, twenty processes in `make test-long`.
"""

import base64
import io
import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest
import requests
from live import TIMEOUT, running
from PIL import Image

from loraloom import ImageRequest, Session
from loraloom.settings import Settings
from loraloom.web.service import Service

BASES = ("tiny", "nano")
ASKED = {"prompt": "red apple", "seed": 3, "steps": 2}
SERVE = "from loraloom.cli import main; main()"


@contextmanager
def in_this_process(settings):
    with running(Service(Settings(**settings))) as server:
        yield server.address


@contextmanager
def in_a_new_process(settings):
    environment = {f"LORALOOM_{name.upper()}": str(value) for name, value in settings.items()}
    process = subprocess.Popen(
        [sys.executable, "-c", SERVE, "serve", "--port", "0"], stdout=subprocess.PIPE, text=True, env=os.environ | environment
    )
    try:
        yield re.search(r"http://\S+", process.stdout.readline()).group()
    finally:
        process.kill()
        process.communicate()


def drawn(address, base):
    fields = ASKED | {"override_settings": {"sd_model_checkpoint": base}}
    answer = requests.post(f"{address}/sdapi/v1/txt2img", json=fields, timeout=TIMEOUT)
    assert answer.status_code == 200, answer.text
    return Image.open(io.BytesIO(base64.b64decode(answer.json()["images"][0]))).convert("RGB").tobytes()


@pytest.mark.parametrize(("new", "starts"), [(in_this_process, 3), pytest.param(in_a_new_process, 20, marks=pytest.mark.long)])
def test_two_bases_asked_for_at_once_on_a_new_server(new, starts, tmp_path):
    settings = {"base": "nano", "output_folder": tmp_path / "outputs", "library_index": tmp_path / "index.sqlite"}
    alone = []
    for base in BASES:
        (picture,) = Session(Settings(**settings)).generate(ImageRequest(**ASKED, base=base))
        alone.append(picture.image.convert("RGB").tobytes())
    broken = []
    for start in range(starts):
        with new(settings) as address, ThreadPoolExecutor(2) as clients:
            if list(clients.map(drawn, [address] * 2, BASES)) != alone:
                broken.append(start)
            assert requests.get(f"{address}/api/v1/health", timeout=TIMEOUT).json()["bases"]["open"] == 2
    print(f"{starts} cold starts of {len(BASES)} bases at once, {len(broken)} broken")
    assert broken == []
