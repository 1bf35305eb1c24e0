"""What one request may ask of the server; beyond it the answer is a 4xx."""

from loraloom.errors import SettingsError
from loraloom.generate.request import ImageRequest

BODY = 64 * 2**20  # bytes
PROMPT = 20_000  # characters
PIXELS = 2048 * 2048  # of a picture
STEPS = 500
PICTURES = 100  # of a job

WAITING = 64  # jobs in the queue
KEPT_JOBS = 200  # that are over
KEPT_BYTES = 256 * 2**20  # of their pictures
LISTENERS = 64  # of events


def check_limits(request: ImageRequest) -> None:
    """Raise SettingsError for a request that is too large for a server, with the value and its limit."""
    pixels = (request.width or 8) * (request.height or 8)
    for name, value, most in (
        ("prompt", len(request.prompt), PROMPT),
        ("negative_prompt", len(request.negative_prompt), PROMPT),
        ("steps", request.steps or 0, STEPS),
        ("pictures", request.pictures, PICTURES),
        ("width × height", pixels, PIXELS),
    ):
        if value > most:
            raise SettingsError(f"{name}: {value} is more than this server takes at once, {most}")
