"""How far the running job is; interrupt and skip."""

import base64
import math
from datetime import UTC, datetime

from pydantic import BaseModel

from loraloom.web.api.sdapi.info import stamp
from loraloom.web.api.sdapi.routes import router as _router
from loraloom.web.drawing import DrawTask, encoded
from loraloom.web.service import Here

router = _router("progress")
_STARTED = stamp(datetime.now(UTC))


class ProgressState(BaseModel):
    skipped: bool = False
    interrupted: bool = False
    stopping_generation: bool = False
    job: str = ""
    job_count: int = 0
    job_timestamp: str
    job_no: int = 0
    sampling_step: int = 0
    sampling_steps: int = 0


class ProgressAnswer(BaseModel):
    progress: float
    eta_relative: float
    state: ProgressState
    current_image: str | None
    textinfo: str | None


@router.get("/progress", summary="How far the running job is")
def progress(service: Here, skip_current_image: str = "") -> ProgressAnswer:
    """0 and `job_count` 0 where nothing runs or waits. A preview comes with the next call but one: it is made only while somebody asks."""
    tasks = [task for task in service.jobs.drawings() if not task.over.done()]
    running = next((task for task in tasks if task.state == "running"), None)
    if running is None:
        state = ProgressState(job_timestamp=_STARTED, job_count=len(tasks))
        return ProgressAnswer(progress=0, eta_relative=0, state=state, current_image=None, textinfo=None)
    look = skip_current_image.lower() not in ("true", "1", "yes", "on")
    image = running.look() if look else None
    return ProgressAnswer(
        progress=min(1.0, running.step / running.steps) if running.steps else 0.0,
        eta_relative=running.seconds_left if math.isfinite(running.seconds_left) else 0.0,
        state=_state(running, waiting=len(tasks) - 1),
        current_image=base64.b64encode(encoded(image)).decode() if image else None,
        textinfo=None,
    )


@router.post("/interrupt", summary="Stop the pictures that are being drawn; what is finished stays")
def interrupt(service: Here) -> dict[str, str]:
    for task in service.jobs.drawings():
        if task.state == "running":
            service.jobs.interrupt(task)
    return {}


@router.post("/skip", summary="Leave out the batch that is being drawn, and go on with the next")
def skip(service: Here) -> None:
    for task in service.jobs.drawings():
        if task.state == "running":
            task.skipped.set()


def _state(task: DrawTask, *, waiting: int) -> ProgressState:
    """Batches are the WebUI's jobs; what waits counts too, so that a client knows that the server is not idle."""
    batches = len(task.asked.parts)
    return ProgressState(
        skipped=task.skipped.is_set(),
        interrupted=task.interrupted.is_set(),
        stopping_generation=task.interrupted.is_set(),
        job=f"Batch {task.part + 1} out of {batches}",
        job_count=batches + waiting,
        job_timestamp=stamp(task.created),
        job_no=task.part,
        sampling_step=task.part_step,
        sampling_steps=task.part_steps,
    )
