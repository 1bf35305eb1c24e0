"""Samplers and schedulers. The WebUI splits what we name in one: "DPM++ 2M Karras" is a sampler with a scheduler."""

from pydantic import BaseModel

from loraloom.errors import SettingsError, suggestion
from loraloom.generate.samplers import ALIASES, SAMPLERS, called
from loraloom.web.api.sdapi.routes import router as _router

router = _router("samplers")

_KARRAS = " Karras"
# Name, label, other names. "normal" is the base's own spacing, which is what a sampler has without Karras.
SCHEDULERS = (("automatic", "Automatic", ("",)), ("normal", "Normal", ("uniform",)), ("karras", "Karras", ()))


class SamplerItem(BaseModel):
    name: str
    aliases: list[str]
    options: dict[str, str]


class SchedulerItem(BaseModel):
    name: str
    label: str
    aliases: list[str] | None
    default_rho: float
    need_inner_model: bool


@router.get("/samplers", summary="Samplers")
def list_samplers() -> list[SamplerItem]:
    return [SamplerItem(name=name, aliases=list(ALIASES.get(name, ())), options={}) for name in SAMPLERS if not name.endswith(_KARRAS)]


@router.get("/schedulers", summary="Schedulers")
def list_schedulers() -> list[SchedulerItem]:
    return [
        SchedulerItem(name=name, label=label, aliases=[alias for alias in aliases if alias], default_rho=-1, need_inner_model=False)
        for name, label, aliases in SCHEDULERS
    ]


def our_sampler(name: str | None, scheduler: str | None) -> str | None:
    """The name in SAMPLERS for the WebUI's two names, in any case; None is the base's own sampler. Raises SettingsError."""
    schedule = _schedule(scheduler)
    if name is None or name.strip().lower() in ("", "automatic"):
        if schedule == "karras":
            raise SettingsError("scheduler: Karras needs a sampler; send sampler_name too")
        return None
    found = called(name)
    if found is None:
        raise SettingsError(f'no sampler "{name[:200]}"{suggestion(name[:200], SAMPLERS) or "; there are " + ", ".join(SAMPLERS)}')
    if schedule != "karras" or found.endswith(_KARRAS):
        return found
    if found + _KARRAS not in SAMPLERS:
        karras = ", ".join(known.removesuffix(_KARRAS) for known in SAMPLERS if known.endswith(_KARRAS))
        raise SettingsError(f"scheduler: {found} does not run with Karras; these do: {karras}")
    return found + _KARRAS


def their_sampler(name: str) -> tuple[str, str]:
    """The WebUI's names of sampler and scheduler for ours."""
    return (name.removesuffix(_KARRAS), "Karras") if name.endswith(_KARRAS) else (name, "Automatic")


def _schedule(scheduler: str | None) -> str:
    wanted = (scheduler or "").strip().lower()
    for name, _, aliases in SCHEDULERS:
        if wanted in (name, *aliases):
            return name
    raise SettingsError(f'no scheduler "{(scheduler or "")[:200]}"; there are {", ".join(label for _, label, _ in SCHEDULERS)}')
