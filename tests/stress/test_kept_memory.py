"""Jobs with masks leave the memory of the server as it was.

Nine of 2048×2048 in `make test`, two hundred in `make test-long`. One that was kept with its pixels would add 33 MB.
"""

import base64
import io
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import requests
from live import TIMEOUT
from PIL import Image

SIDE = 2048
PIXELS = SIDE * SIDE * (3 + 1 + 3 + 1) / 2**20  # MiB of a picture and its mask, as they came and spread out
FIRST = 4  # jobs until everything is loaded and the allocator has its room


def text(image):
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


def anonymous(process):
    """RssAnon in MiB."""
    return int(re.search(r"RssAnon:\s+(\d+)", Path(f"/proc/{process.pid}/status").read_text())[1]) / 1024


@pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")
@pytest.mark.parametrize("jobs", [9, pytest.param(200, marks=pytest.mark.long)])
def test_memory_is_flat_over_jobs_with_masks(jobs, tmp_path):
    mask = Image.new("L", (SIDE, SIDE))
    mask.paste(255, (64, 64, 192, 192))
    fields = {
        "prompt": "red apple", "steps": 1, "seed": 1, "width": 64, "height": 64, "denoising_strength": 1,
        "init_images": [text(Image.new("RGB", (SIDE, SIDE), "#204080"))], "mask": text(mask), "send_images": False, "inpainting_fill": 1,
    }  # fmt: skip
    environment = os.environ | {"LORALOOM_LIBRARY_INDEX": str(tmp_path / "index.sqlite"), "LORALOOM_BASE": "nano"}
    program = [sys.executable, "-c", "from loraloom.cli import main; main()", "serve", "--port", "0"]
    process = subprocess.Popen(program, stdout=subprocess.PIPE, text=True, env=environment, cwd=tmp_path)
    try:
        address = re.search(r"http://\S+", process.stdout.readline()).group()
        found = []
        for _ in range(jobs):
            assert requests.post(f"{address}/sdapi/v1/img2img", json=fields, timeout=TIMEOUT).status_code == 200
            found.append(anonymous(process))
        kept = requests.get(f"{address}/api/v1/jobs", timeout=TIMEOUT).json()["jobs"]
    finally:
        process.kill()
        process.communicate()
    growth = max(found[FIRST:]) - max(found[:FIRST])
    sizes = len(kept) * 0.2  # MiB: a PNG of one colour with a small drawing in it, and its texts
    print(f"{jobs} jobs, RssAnon in MiB: {' '.join(f'{each:.0f}' for each in found)}; {len(kept)} kept")
    assert growth <= 2 * PIXELS + sizes
