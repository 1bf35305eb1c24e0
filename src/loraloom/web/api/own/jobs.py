"""Jobs: ask for pictures, see how far jobs are, interrupt."""

import asyncio

from fastapi import Response

from loraloom.generate.request import ImageRequest
from loraloom.web.answers import NoSuch
from loraloom.web.api.models import AnyJob, Job, Jobs
from loraloom.web.api.own.job_answers import draw_answer, job_answer
from loraloom.web.api.own.routes import BUSY, MISSING
from loraloom.web.api.own.routes import router as _router
from loraloom.web.drawing import DrawTask, encoded
from loraloom.web.service import Here

router = _router("jobs")
_FIRST_LOOK_SECONDS = 20.0  # until a step has brought a preview


@router.post("/jobs", status_code=202, responses=BUSY, summary="Ask for pictures")
def create_job(service: Here, request: ImageRequest) -> Job:
    """The job waits in the queue, then runs. A mistake in a prompt is 422 at once, with its place. `base` is a name of those that
    the server offers, never a path."""
    return draw_answer(service, service.submit(request))


@router.get("/jobs", summary="All jobs that are kept, newest first")
def get_jobs(service: Here) -> Jobs:
    return Jobs(jobs=tuple(job_answer(service, task) for task in reversed(service.jobs.all())))


@router.get("/jobs/{id}", responses=MISSING, summary="One job")
def get_job(service: Here, id: str) -> AnyJob:
    return job_answer(service, service.jobs.get(id))


@router.post("/jobs/{id}/interrupt", responses=MISSING, summary="Stop a job; its finished pictures stay, an unfinished file does not")
def interrupt_job(service: Here, id: str) -> AnyJob:
    """At once if it waits, else after the current step or module. One that is over stays as it is."""
    task = service.jobs.get(id)
    service.jobs.interrupt(task)
    return job_answer(service, task)


@router.get(
    "/jobs/{id}/preview",
    responses={200: {"content": {"image/png": {}}, "description": "The picture as it is now"}, **MISSING},
    response_class=Response,
    summary="The picture as it is now",
)
async def get_job_preview(service: Here, id: str) -> Response:
    """Of a job that runs. Previews are made only while somebody looks, every half second at most."""
    task = service.jobs.get(id)
    if not isinstance(task, DrawTask):
        raise NoSuch(f"job {id} draws no picture")
    loop = asyncio.get_running_loop()
    until = loop.time() + _FIRST_LOOK_SECONDS
    while (image := task.look()) is None and task.state == "running" and loop.time() < until:
        await asyncio.sleep(0.05)
    if image is None:
        raise NoSuch(f"job {id} has no preview now; it is {task.state}")
    return Response(await asyncio.to_thread(encoded, image), media_type="image/png")
