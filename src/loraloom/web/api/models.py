"""What our own HTTP API says and hears. Requests are those of the library: ImageRequest, CombineRequest, Settings.

GET   /api/v1/health                 Health; like `ready` and /login it never needs credentials
GET   /api/v1/ready                  Ready; 503 with the same body where work should be sent elsewhere
GET   /api/v1/base                   BaseInfo of the settings' base
POST  /api/v1/base/open              BaseInfo, after the settings' base was opened
GET   /api/v1/samplers               names
GET   /api/v1/networks               Networks; ?q=words &family= &type=
POST  /api/v1/networks/refresh       Networks, after a scan
GET   /api/v1/networks/{id}          NetworkDetails
GET   /api/v1/networks/{id}/preview  a picture, encoded anew
POST  /api/v1/jobs                   ImageRequest -> 202 Job; a mistake in the prompt is 422 at once
GET   /api/v1/jobs                   Jobs, newest first
GET   /api/v1/jobs/{id}              Job or ExtractJob
POST  /api/v1/jobs/{id}/interrupt    Job or ExtractJob
GET   /api/v1/jobs/{id}/preview      PNG of the picture as it is now
GET   /api/v1/pictures/{id}          PNG with its recipe
GET   /api/v1/extract                ExtractPlaces: folders and namings that a new file can have
POST  /api/v1/extract                ExtractRequest -> 202 ExtractJob; a mistake in the mix is 422 at once, a name that is taken 409
POST  /api/v1/extract/curve          CombineRequest -> Curve: the error at every rank, before anything is written
GET   /api/v1/extract/{id}           ExtractReport of a job that is done, with a row for each module
GET   /api/v1/events                 server-sent events `job` (a Job or ExtractJob) and `networks` ({}); ?job=ID for one alone
GET   /api/v1/settings               SettingsView
PATCH /api/v1/settings               {name: value} -> SettingsView; kept in the settings file
"""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from loraloom.bounds import Text
from loraloom.combine import CombineRequest
from loraloom.extracting import Row
from loraloom.generate.request import ImageRequest
from loraloom.web.held import BaseState
from loraloom.web.names import NetworkName

State = Literal["queued", "running", "done", "failed", "interrupted"]


class _Answer(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class HeldBases(_Answer):
    """How many bases are in each state. Their names are told to those alone who have credentials (BaseInfo)."""

    opening: int = 0
    open: int = 0
    dropped: int = 0  # a job on it ended in a bug; the next job opens it again
    failed: int = 0  # it could not be opened; the next job tries again


class Health(_Answer):
    """`degraded`: a base is dropped or failed; `stopping`: the server leaves. In every state the server answers."""

    status: Literal["ok", "degraded", "stopping"] = "ok"
    version: str
    auth: bool  # requests need credentials
    bases: HeldBases


class Ready(_Answer):
    """Whether work should be sent here: the server stays, its queue has room, and the settings' base has not failed to open."""

    ready: bool
    reason: str = ""  # why not


class BaseInfo(_Answer):
    """The base that draws, and what it does where a request says nothing. None: not known before it is opened."""

    name: str
    family: str | None
    title: str | None  # "SD 1.x"
    opened: bool
    state: BaseState
    problem: str  # why it is dropped or failed
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
    favorite: bool  # in the notes beside the file
    preview: str | None  # URL of a picture
    fits: bool | None  # the current base; None: cannot be told
    problem: str  # why it cannot be used, "" if it can
    notices: tuple[str, ...]  # what could not be read of the notes beside it


class Networks(_Answer):
    networks: tuple[Network, ...]
    families: tuple[str, ...]  # of the whole library, for a filter
    types: tuple[str, ...]


class NetworkDetails(Network):
    notes: str
    metadata: dict[str, str]  # strangers' text


class Mistake(_Answer):
    """What is wrong, and where if that is known; columns count characters from 0."""

    message: str
    field: str | None = None  # of the request, where it is settled: "prompt", "mix", "name", "base", ...
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


class _Job(_Answer):
    id: str
    state: State
    created: datetime
    place: int  # in the queue; 0: it runs or is over
    step: int
    steps: int  # of all pictures, or modules
    rate: float  # steps a second; 0 before it is known
    seconds_left: float | None
    notes: tuple[str, ...]
    mistake: Mistake | None  # why it failed


class Job(_Job):
    """Pictures that are drawn."""

    kind: Literal["draw"] = "draw"
    request: ImageRequest
    preview: str | None  # URL of the picture as it is now
    pictures: tuple[DrawnPicture, ...]
    report: str  # what the engine did with the networks, "" without any


class ExtractRequest(CombineRequest):
    """A mix that becomes one file of the library. `base` is a name of those that the server offers."""

    name: NetworkName  # of the file, without its ending
    folder: Annotated[Text, Field(max_length=64)] | None = None  # the id or name of one; None: the first
    overwrite: bool = False  # a file that has this name there


class Extraction(_Answer):
    """What was written, and how far it is from the mix. Errors are relative (Frobenius), of all modules together."""

    name: str
    network: str | None  # its id in the library
    tag: str  # what a prompt calls it
    folder: str
    size: int | None  # bytes
    base: str  # the family's title
    dialect: str
    dtype: str
    method: str  # in words
    types: dict[str, int]  # modules of each
    components: dict[str, int]
    ranks: tuple[int, int]  # smallest and largest
    error: float  # as combined
    written: float  # as written: with the rounding to the dtype
    worst: Row | None  # the module that is the farthest away as written
    furthest: Row | None  # the one whose output is, for a fixed random input


class ExtractReport(Extraction):
    rows: tuple[Row, ...]


class ExtractJob(_Job):
    """A mix that becomes one file."""

    kind: Literal["extract"] = "extract"
    request: ExtractRequest
    result: Extraction | None  # None before it is done


AnyJob = Annotated[Job | ExtractJob, Field(discriminator="kind")]


class Jobs(_Answer):
    jobs: tuple[AnyJob, ...]


class Folder(_Answer):
    """A folder of the library that new files may go into."""

    id: str
    name: str  # its last part


class Naming(_Answer):
    name: str
    title: str


class ExtractPlaces(_Answer):
    folders: tuple[Folder, ...]  # the first is used where a request names none
    dialects: tuple[Naming, ...]


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
