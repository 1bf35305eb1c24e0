"""Extract: a mix as one new file of the library, and what it would cost before it is written."""

import asyncio
import threading

from fastapi import Request

from loraloom.combine import CombineRequest, Curve
from loraloom.dialects import DIALECTS
from loraloom.web.answers import NoSuch
from loraloom.web.api.models import ExtractJob, ExtractPlaces, ExtractReport, ExtractRequest, Folder, Naming
from loraloom.web.api.own.job_answers import extract_answer, extraction
from loraloom.web.api.own.routes import BUSY, MISSING, TAKEN
from loraloom.web.api.own.routes import router as _router
from loraloom.web.extraction import ExtractTask
from loraloom.web.service import Here
from loraloom.web.waiting import waited_for

router = _router("extract")


@router.get("/extract", summary="Where a new file can go, and how its tensors can be named")
def get_places(service: Here) -> ExtractPlaces:
    return ExtractPlaces(
        folders=tuple(Folder(id=shelf.id, name=shelf.name) for shelf in service.shelves),
        dialects=tuple(Naming(name=each.name, title=each.title) for each in DIALECTS if each.writes and not each.folder),
    )


@router.post("/extract", status_code=202, responses=TAKEN | BUSY, summary="Save a mix as one new file of the library")
def extract(service: Here, request: ExtractRequest) -> ExtractJob:
    """The job waits in the queue, then runs; a step is a module. A mistake in the mix is 422 at once, with its place; a name that is
    taken is 409 unless `overwrite` is set. The file appears when it is whole: an interrupted job leaves nothing."""
    return extract_answer(service, service.extract(request))


@router.post("/extract/curve", responses=BUSY, summary="How far a mix would be from its file at every rank")
async def get_curve(service: Here, request: CombineRequest, connection: Request) -> Curve:
    """Nothing is written, and the request's own rank or error does not count. The errors follow from the singular values of the mix,
    so all ranks together take as long as one."""
    left = threading.Event()
    future = await asyncio.to_thread(service.curve, request, left)

    def leave() -> None:
        left.set()  # for one that is being made
        future.cancel()  # for one that waits behind a job

    return await waited_for(future, connection, leave)


@router.get("/extract/{id}", responses=MISSING, summary="The report of an extraction that is done")
def get_report(service: Here, id: str) -> ExtractReport:
    """With a row for each module."""
    task = service.jobs.get(id)
    told = extraction(service, task) if isinstance(task, ExtractTask) else None
    if told is None or not isinstance(task, ExtractTask) or task.found is None:
        raise NoSuch(f"job {id} has no report; it is {task.state}")
    return ExtractReport(**dict(told), rows=task.found.rows)
