"""The WebUI's options: those that its clients read, and the one that they may change, the checkpoint."""

import logging
from typing import Annotated, Any

from fastapi import Body
from pydantic import BaseModel

from loraloom.errors import SettingsError
from loraloom.web.api.sdapi.routes import router as _router
from loraloom.web.service import Here

router = _router("options")
log = logging.getLogger("loraloom.web")
_LOGGED = 10  # names


class Options(BaseModel):
    sd_model_checkpoint: str
    sd_checkpoint_hash: str
    sd_vae: str = "Automatic"
    CLIP_stop_at_last_layers: int = 1
    samples_format: str = "png"
    send_seed: bool = True
    show_progress_every_n_steps: int = 1
    lora_preferred_name: str = "Filename"
    lora_add_hashes_to_infotext: bool = True


@router.get("/options", summary="Options")
def get_options(service: Here) -> Options:
    base = service.base(service.chosen)
    return Options(sd_model_checkpoint=base.title, sd_checkpoint_hash=base.sha256 or "")


@router.post("/options", summary="Choose the checkpoint of this API")
def set_options(service: Here, options: Annotated[dict[str, Any], Body()]) -> None:
    """`sd_model_checkpoint`: a title, name or hash of /sd-models. It counts for this API until the server stops. Other options are as they
    are; what was sent for them is left aside.
    """
    current = get_options(service).model_dump()
    wanted = options.get("sd_model_checkpoint")
    if wanted is not None:
        if not isinstance(wanted, str):
            raise SettingsError("sd_model_checkpoint: write the title of a checkpoint")
        service.chosen = service.base(wanted).name
    aside = [name for name, value in options.items() if name != "sd_model_checkpoint" and value != current.get(name)]
    if aside:
        more = f" and {len(aside) - _LOGGED} more" if len(aside) > _LOGGED else ""
        log.info("options left aside: %s%s", ", ".join(repr(name[:100]) for name in aside[:_LOGGED]), more)
