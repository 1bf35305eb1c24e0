"""Checkpoints: the bases that a client may choose, by name. There are no VAEs beside those of the bases."""

from pydantic import BaseModel

from loraloom.filenames import SUFFIX, has_ending
from loraloom.web.api.sdapi.routes import router as _router
from loraloom.web.bases import known_bases
from loraloom.web.service import Here

router = _router("checkpoints")


class CheckpointItem(BaseModel):
    """`filename` has no folders; hashes are of small models only."""

    title: str
    model_name: str
    hash: str | None
    sha256: str | None
    filename: str
    config: str | None = None


class VaeItem(BaseModel):
    model_name: str
    filename: str


@router.get("/sd-models", summary="Checkpoints")
def list_checkpoints(service: Here) -> list[CheckpointItem]:
    return [
        CheckpointItem(
            title=base.title,
            model_name=base.name,
            hash=base.sha256 and base.sha256[:10],
            sha256=base.sha256,
            filename=f"{base.name.rpartition('/')[2]}{SUFFIX if has_ending(base.source) else ''}",
        )
        for base in known_bases(service.settings)
    ]


@router.post("/refresh-checkpoints", summary="Nothing to do: the folders are looked at with every question")
def refresh_checkpoints() -> None:
    return None


@router.get("/sd-vae", summary="VAEs")
def list_vaes() -> list[VaeItem]:
    return []
