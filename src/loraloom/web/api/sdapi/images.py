"""txt2img and img2img: the answer comes when the pictures are there."""

import asyncio
import base64
from functools import partial

from fastapi import Request

from loraloom.errors import Interrupted
from loraloom.web.answers import WrongRequest
from loraloom.web.api.sdapi.body import Answer, Generation, ImageToImage, TextToImage
from loraloom.web.api.sdapi.info import info
from loraloom.web.api.sdapi.routes import router as _router
from loraloom.web.api.sdapi.wish import read_wish
from loraloom.web.service import Here, Service
from loraloom.web.waiting import waited_for

router = _router("pictures")


@router.post("/txt2img", summary="Pictures from a prompt")
async def txt2img(service: Here, body: TextToImage, connection: Request) -> Answer:
    """An interrupted request is answered with what was finished. What could not be done is in `info.extra_generation_params.Ignored`.
    A request whose client hangs up leaves the queue, or is interrupted, unless its pictures are saved (`save_images`)."""
    return await _draw(service, body, connection)


@router.post("/img2img", summary="Pictures from a picture and a prompt")
async def img2img(service: Here, body: ImageToImage, connection: Request) -> Answer:
    """As txt2img. With a mask only what is white in it is drawn again; around it the picture stays as it is."""
    return await _draw(service, body, connection)


async def _draw(service: Service, body: Generation, connection: Request) -> Answer:
    wish = await asyncio.to_thread(read_wish, body, service)
    save = bool(body.save_images and not body.do_not_save_samples)
    if await connection.is_disconnected() and not save:
        raise Interrupted("nobody waits for these pictures any more")
    task = await asyncio.to_thread(partial(service.submit, wish.request, parts=wish.parts, save=save))
    await waited_for(task.over, connection, lambda: None if save else service.jobs.interrupt(task))
    if task.error is not None:
        raise WrongRequest(task.error, wish.request)
    images = [base64.b64encode(drawn.png).decode() for drawn in task.pictures] if body.send_images is not False else []
    return Answer(images=images, parameters=_echo(body), info=info(task, wish, body))


def _echo(body: Generation) -> dict[str, object]:
    """The request as it was understood; pictures only where the client wants them back."""
    echo = body.model_dump(mode="json", exclude={"strict_lora", *(body.model_extra or {})})
    if isinstance(body, ImageToImage) and not body.include_init_images:
        echo |= {"init_images": None, "mask": None}
    return echo
