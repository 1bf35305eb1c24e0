"""What clients ask for at their start and this server has none of, and two questions about the server itself."""

from typing import Any

import psutil

from loraloom.web.api.sdapi.routes import router as _router
from loraloom.web.service import Here

router = _router("server")

# Empty here: the address below /sdapi/v1, and what it would list.
_NONE_OF = {
    "hypernetworks": "Hypernetworks",
    "face-restorers": "Face restorers",
    "realesrgan-models": "RealESRGAN models",
    "prompt-styles": "Styles",
    "script-info": "Arguments of scripts",
}


def _nothing() -> list[dict[str, Any]]:
    return []


for _address, _title in _NONE_OF.items():
    router.add_api_route(f"/{_address}", _nothing, name=_address.replace("-", "_"), summary=f"{_title}: there are none")


@router.get("/scripts", summary="Scripts: there are none")
def list_scripts() -> dict[str, list[str]]:
    return {"txt2img": [], "img2img": []}


@router.get("/embeddings", summary="Textual inversions: there are none")
def list_embeddings() -> dict[str, dict[str, Any]]:
    return {"loaded": {}, "skipped": {}}


@router.get("/cmd-flags", summary="How the server was started; no secrets, no folders")
def cmd_flags(service: Here) -> dict[str, Any]:
    return {"api": True, "listen": service.access.addresses, "cors_allow_origins": ",".join(sorted(service.access.origins)) or None}


@router.get("/memory", summary="Memory of this computer")
def memory() -> dict[str, dict[str, Any]]:
    """In bytes. `cuda` is empty: asking would open the GPU."""
    ram = psutil.virtual_memory()
    return {"ram": {"free": ram.available, "used": ram.total - ram.available, "total": ram.total}, "cuda": {}}
