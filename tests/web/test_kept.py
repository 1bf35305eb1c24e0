"""What is kept of a job that is over: no pixels, nothing that only running needed, and all that is left is counted."""

import base64
import gc
import io
import sys
import types

import pytest
from live import TIMEOUT
from PIL import Image

from loraloom.generate.opened import Opened
from loraloom.web import limits
from loraloom.web.feed import Listener


def encoded(size, colour):
    buffer = io.BytesIO()
    Image.new("RGB", size, colour).save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


PICTURE = encoded((512, 512), "#204080")
MASK = encoded((512, 512), "white")
OVER = {"prompt": "red apple" * 50, "negative_prompt": "blur", "seed": 1, "steps": 2, "width": 64, "height": 64}
WEBUI = OVER | {"init_images": [PICTURE], "mask": MASK, "denoising_strength": 0.9, "junk": "x" * 10_000}
OURS = OVER | {"image": PICTURE, "mask": MASK, "denoise": 0.9}
LEFT_NO_STEP = {"denoising_strength": 0.1, "denoise": 0.1}  # of two: an error that is raised deep in the drawing


def reachable(task):
    """All that a task alone keeps alive, but for what belongs to the server and the program."""
    shared = (type, types.ModuleType, types.FunctionType, types.MethodType, types.BuiltinFunctionType)
    found, ahead = {}, [vars(task)]
    while ahead:
        each = ahead.pop()
        if id(each) not in found and not isinstance(each, shared):
            found[id(each)] = each
            ahead += gc.get_referents(each)
    return list(found.values())


@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize(("path", "fields"), [("/sdapi/v1/img2img", WEBUI), ("/api/v1/jobs", OURS)])
def test_a_job_that_is_over_keeps_no_pixels_and_counts_the_rest(server, path, fields, fails):
    wrong = {name: value for name, value in LEFT_NO_STEP.items() if name in fields} if fails else {}
    server.post(path, json=fields | wrong)
    task = server.service.jobs.all()[-1]
    task.over.result(TIMEOUT)
    assert task.state == ("failed" if fails else "done")
    kept = reachable(task)
    assert not [each for each in kept if isinstance(each, (Image.Image, types.FrameType, types.TracebackType, Opened))]
    texts = [each for each in kept if isinstance(each, (str, bytes))]
    assert not [each for each in texts if len(each) > 50_000 and each not in [picture.png for picture in task.pictures]]
    large = sum(sys.getsizeof(each) for each in texts if sys.getsizeof(each) > 200)
    assert 0 < large <= task.nbytes <= large + 50_000
    assert "junk" not in repr(texts)


def test_the_queue_is_bounded_by_what_its_requests_hold(server, monkeypatch):
    """As they came: a picture with a mask is not spread out before its turn."""
    running = server.post("/api/v1/jobs", json={"prompt": "x", "steps": 500, "pictures": 100}).json()["id"]
    first = server.post("/api/v1/jobs", json=OURS).json()["id"]
    task = server.service.jobs.get(first)
    assert len(PICTURE) + len(MASK) < task.nbytes < 2 * (len(PICTURE) + len(MASK)) + 10_000
    monkeypatch.setattr(limits, "WAITING_BYTES", 2 * task.nbytes)
    assert server.post("/api/v1/jobs", json=OURS).status_code == 202
    refused = server.post("/api/v1/jobs", json=OURS)
    assert (refused.status_code, "has memory for" in refused.json()["detail"]) == (429, True)
    assert server.get("/api/v1/ready").json()["reason"] == "the queue is full"
    for job in [*(task.id for task in server.service.jobs.all() if task.state == "queued"), running]:
        server.post(f"/api/v1/jobs/{job}/interrupt")


def test_news_for_who_does_not_listen_have_an_end():
    import asyncio

    async def deaf():
        listener = Listener()
        for number in range(3 * limits.NEWS):
            listener.hear(str(number))
        news = await listener.next()
        assert (len(news), news[-1]) == (limits.NEWS, str(3 * limits.NEWS - 1))

    asyncio.run(deaf())
