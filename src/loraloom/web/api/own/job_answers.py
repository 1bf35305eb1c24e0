"""Jobs as they are told: in answers and in events."""

import math
from typing import Any

from loraloom.errors import LoraError
from loraloom.prompts import spelled
from loraloom.web.answers import Wish, mistake_of
from loraloom.web.api.models import DrawnPicture, Extraction, ExtractJob, Job
from loraloom.web.drawing import Drawn, DrawTask
from loraloom.web.extraction import ExtractTask
from loraloom.web.service import Service
from loraloom.web.task import Task


def job_answer(service: Service, task: Task) -> Job | ExtractJob:
    """The job as it is now."""
    if isinstance(task, ExtractTask):
        return extract_answer(service, task)
    assert isinstance(task, DrawTask)
    return draw_answer(service, task)


def draw_answer(service: Service, task: DrawTask) -> Job:
    """The picture that a job begins with is not sent back."""
    request = task.asked.request
    return Job(
        **_common(service, task, request),
        request=request.model_copy(update={"image": None, "mask": None}),
        preview=f"/api/v1/jobs/{task.id}/preview?step={task.step}" if task.state == "running" and task.step else None,
        pictures=tuple(map(_picture, tuple(task.pictures))),
        report=task.report,
    )


def extract_answer(service: Service, task: ExtractTask) -> ExtractJob:
    return ExtractJob(**_common(service, task, task.request), request=task.request, result=extraction(service, task))


def extraction(service: Service, task: ExtractTask) -> Extraction | None:
    """None before it is done. The file's name, never its folder on this computer."""
    found = task.found
    if found is None:
        return None
    item = task.item
    return Extraction(
        name=task.request.name,
        network=item.id if item else None,
        tag=service.library.tag(item) if item else spelled(task.request.name),
        folder=task.shelf.name,
        size=item.size if item else None,
        base=found.base,
        dialect=found.dialect,
        dtype=found.dtype,
        method=found.method,
        types=dict(found.types),
        components=dict(found.components),
        ranks=found.ranks,
        error=found.error,
        written=found.written,
        worst=found.worst if found.rows else None,
        furthest=found.furthest if found.rows else None,
    )


def _common(service: Service, task: Task, request: Wish) -> dict[str, Any]:
    return {
        "id": task.id,
        "state": task.state,
        "created": task.created,
        "place": service.jobs.place(task),
        "step": task.step,
        "steps": task.steps,
        "rate": round(task.rate, 3),
        "seconds_left": round(task.seconds_left, 1) if math.isfinite(task.seconds_left) else None,
        "notes": task.notes,
        "mistake": mistake_of(task.error, request) if isinstance(task.error, LoraError) else None,
    }


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
