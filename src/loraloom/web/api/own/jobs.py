"""Jobs: ask for pictures, see how far they are, interrupt."""

import asyncio
import math

from fastapi import Response

from loraloom.errors import LoraError
from loraloom.generate.request import ImageRequest
from loraloom.web.answers import NoSuch, mistake_of
from loraloom.web.api.models import DrawnPicture, Job, Jobs
from loraloom.web.api.own.routes import BUSY, MISSING
from loraloom.web.api.own.routes import router as _router
from loraloom.web.service import Here, Service
from loraloom.web.task import Drawn, Task, encoded

router = _router("jobs")
_FIRST_LOOK_SECONDS = 2.0  # until a step has brought a preview


@router.post("/jobs", status_code=202, responses=BUSY, summary="Ask for pictures")
def create_job(service: Here, request: ImageRequest) -> Job:
    """The job waits in the queue, then runs. A mistake in a prompt is 422 at once, with its place. `base` is a name of those that
    the server offers, never a path."""
    return job_answer(service, service.submit(request))


@router.get("/jobs", summary="All jobs that are kept, newest first")
def get_jobs(service: Here) -> Jobs:
    return Jobs(jobs=tuple(job_answer(service, task) for task in reversed(service.jobs.all())))


@router.get("/jobs/{id}", responses=MISSING, summary="One job")
def get_job(service: Here, id: str) -> Job:
    return job_answer(service, service.jobs.get(id))


@router.post("/jobs/{id}/interrupt", responses=MISSING, summary="Stop a job; its finished pictures stay")
def interrupt_job(service: Here, id: str) -> Job:
    """At once if it waits, else after the current step. One that is over stays as it is."""
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
    loop = asyncio.get_running_loop()
    until = loop.time() + _FIRST_LOOK_SECONDS
    while (image := task.look()) is None and task.state == "running" and loop.time() < until:
        await asyncio.sleep(0.05)
    if image is None:
        raise NoSuch(f"job {id} has no preview now; it is {task.state}")
    return Response(await asyncio.to_thread(encoded, image), media_type="image/png")


def job_answer(service: Service, task: Task) -> Job:
    """The job as it is now. The picture that it begins with is not sent back."""
    request = task.asked.request
    return Job(
        id=task.id,
        state=task.state,
        created=task.created,
        request=request.model_copy(update={"image": None, "mask": None}),
        place=service.jobs.place(task),
        step=task.step,
        steps=task.steps,
        rate=round(task.rate, 3),
        seconds_left=round(task.seconds_left, 1) if math.isfinite(task.seconds_left) else None,
        preview=f"/api/v1/jobs/{task.id}/preview?step={task.step}" if task.state == "running" and task.step else None,
        pictures=tuple(map(_picture, tuple(task.pictures))),
        report=task.report,
        notes=task.notes,
        mistake=mistake_of(task.error, request) if isinstance(task.error, LoraError) else None,
    )


def _picture(drawn: Drawn) -> DrawnPicture:
    return DrawnPicture(
        id=drawn.id,
        url=f"/api/v1/pictures/{drawn.id}",
        seed=drawn.seed,
        width=drawn.width,
        height=drawn.height,
        recipe=str(drawn.recipe),
        notes=drawn.notes,
    )
