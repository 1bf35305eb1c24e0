"""What our own HTTP API says and hears. Requests are those of the library: ImageRequest, Settings.

GET   /api/v1/health                 Health; the only route that never needs credentials, beside /login
GET   /api/v1/base                   BaseInfo of the settings' base; ?open=true opens it first
GET   /api/v1/samplers               names
GET   /api/v1/networks               Networks; ?q=words &family= &type=
POST  /api/v1/networks/refresh       Networks, after a scan
GET   /api/v1/networks/{id}          NetworkDetails
GET   /api/v1/networks/{id}/preview  a picture, encoded anew
POST  /api/v1/jobs                   ImageRequest -> 202 Job; a mistake in the prompt is 422 at once
GET   /api/v1/jobs                   Jobs, newest first
GET   /api/v1/jobs/{id}              Job
POST  /api/v1/jobs/{id}/interrupt    Job
GET   /api/v1/jobs/{id}/preview      PNG of the picture as it is now
GET   /api/v1/pictures/{id}          PNG with its recipe
GET   /api/v1/events                 server-sent events `job` (a Job) and `networks` ({}); ?job=ID for one alone
GET   /api/v1/settings               SettingsView
PATCH /api/v1/settings               {name: value} -> SettingsView; kept in the settings file
"""

from datetime import datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict

from loraloom.generate.request import ImageRequest

State = Literal["queued", "running", "done", "failed", "interrupted"]


class _Answer(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Health(_Answer):
    status: Literal["ok"] = "ok"
    version: str
    auth: bool  # requests need credentials


class BaseInfo(_Answer):
    """The base that draws, and what it does where a request says nothing. None: not known before it is opened."""

    name: str
    family: str | None
    title: str | None  # "SD 1.x"
    opened: bool
    steps: int | None
    guidance: float | None
    width: int | None
    height: int | None
    sampler: str | None


class Network(_Answer):
    """One LoRA file of the library, as a card shows it."""

    id: str  # what addresses it; names and paths never do
    name: str
    tag: str  # the shortest name that means this file alone: what a prompt says
    folder: str  # below the library, "" at its top
    family: str  # "" where it is not known
    base: str  # the family's title, "SD 1.x"
    types: tuple[str, ...]
    rank: str
    modules: int
    triggers: tuple[str, ...]
    size: int  # bytes
    modified: datetime
    hash: str
    strength: float | None  # preferred; None: the setting
    preview: str | None  # URL of a picture
    fits: bool | None  # the current base; None: cannot be told
    problem: str  # why it cannot be used, "" if it can


class Networks(_Answer):
    networks: tuple[Network, ...]
    families: tuple[str, ...]  # of the whole library, for a filter
    types: tuple[str, ...]


class NetworkDetails(Network):
    notes: str
    metadata: dict[str, str]  # strangers' text


class Mistake(_Answer):
    """What is wrong, and where in the prompt if that is known; columns count characters from 0."""

    message: str
    field: Literal["prompt", "negative_prompt"] | None = None
    column: int | None = None
    length: int = 1


class DrawnPicture(_Answer):
    id: str
    url: str
    seed: int
    width: int
    height: int
    recipe: str  # as the PNG carries it
    notes: tuple[str, ...]


class Job(_Answer):
    id: str
    state: State
    created: datetime
    request: ImageRequest
    place: int  # in the queue; 0: it runs or is over
    step: int
    steps: int  # of all pictures
    rate: float  # steps a second; 0 before it is known
    seconds_left: float | None
    preview: str | None  # URL of the picture as it is now
    pictures: tuple[DrawnPicture, ...]
    report: str  # what the engine did with the networks, "" without any
    notes: tuple[str, ...]
    mistake: Mistake | None  # why it failed


class Jobs(_Answer):
    jobs: tuple[Job, ...]


class ErrorAnswer(_Answer):
    """Every answer from 400 up."""

    error: str  # the kind: "NotFound"
    detail: str
    body: str = ""
    errors: str = ""
    hint: str = ""
    mistake: Mistake | None = None


class SettingsView(_Answer):
    """The settings that the page shows, and which of them the environment holds fast."""

    values: dict[str, object]
    fixed: tuple[str, ...]  # set by LORALOOM_*: cannot be changed here
    file: str
