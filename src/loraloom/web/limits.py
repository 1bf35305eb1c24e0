"""What one request may ask of the server; beyond it the answer is a 4xx."""

from loraloom.combine import CombineRequest
from loraloom.errors import SettingsError
from loraloom.generate.request import ImageRequest

BODY = 64 * 2**20  # bytes
HEAD_SECONDS = 20.0  # that the headers of a request may take
BODY_SECONDS = 30.0  # that its body may take, and a second more for each
BODY_RATE = 4096  # bytes
WRITE_SECONDS = 60.0  # in which a client takes nothing of its answer
CONNECTIONS = 512  # at once; most systems let a process have 1,024 files open
PROMPT = 20_000  # characters
PIXELS = 2048 * 2048  # of a picture
STEPS = 500
PICTURES = 100  # of a job
NETWORKS = 64  # of a mix that becomes one file
NETWORK_BYTES = 4 * 2**30  # of such a file
CURVES = 4  # that are waited for
CURVE_SECONDS = 120.0

WAITING = 64  # jobs in the queue
WAITING_BYTES = 512 * 2**20  # of what they were asked with, pictures and masks as they came
KEPT_JOBS = 200  # that are over
KEPT_BYTES = 256 * 2**20  # of all that is kept of them
LISTENERS = 64  # of events
NEWS = 1000  # that wait for a listener who does not listen; the oldest go first
GRACEFUL_SECONDS = 7.0  # that a running job has to finish when the server stops, by default; all is over within ten


def check_limits(request: ImageRequest) -> None:
    """Raise SettingsError for a request that is too large for a server, with the value and its limit."""
    pixels = (request.width or 8) * (request.height or 8)
    _check(
        ("prompt", len(request.prompt), PROMPT),
        ("negative_prompt", len(request.negative_prompt), PROMPT),
        ("steps", request.steps or 0, STEPS),
        ("pictures", request.pictures, PICTURES),
        ("width × height", pixels, PIXELS),
    )


def check_mix_limits(request: CombineRequest) -> None:
    """As `check_limits`, for a mix that becomes one file."""
    _check(("mix", len(request.mix), PROMPT), ("networks in the mix", request.mix.count("<"), NETWORKS))


def _check(*given: tuple[str, int, int]) -> None:
    for name, value, most in given:
        if value > most:
            raise SettingsError(f"{name}: {value} is more than this server takes at once, {most}")
