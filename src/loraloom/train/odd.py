"""What is odd about pictures and captions that can all be used: told before the run, never changed in silence."""

from collections.abc import Callable, Iterator, Sequence

from loraloom.train.buckets import lost
from loraloom.train.config import ResolvedConfig
from loraloom.train.dataset import Dataset, Picture
from loraloom.train.looking import alike, same

_SHOWN = 3
_CUT = 0.4  # of a picture; the square of a 4:3 photograph loses a quarter
_COMPARED = 20_000  # pictures; comparing each with each of so many takes some seconds


def odd_pictures(dataset: Dataset, job: ResolvedConfig) -> Iterator[str]:
    """Small ones, animations, shapes that lose much or have too few pictures for a batch, some that are there twice."""
    pictures = dataset.pictures
    small = [picture for picture in pictures if picture.size[0] < picture.shape[0] or picture.size[1] < picture.shape[1]]
    if small:
        than = "their bucket" if job.buckets else f"{job.resolution} pixels"
        yield f"{len(small)} of {len(pictures)} pictures are smaller than {than} and are enlarged: {_names(small)}"
    if moving := [picture for picture in pictures if picture.look.frames > 1]:
        yield f"only the first frame of animations is trained: {_names(moving)}"
    if cut := [picture for picture in pictures if lost(picture.size, picture.shape) > _CUT]:
        advice = "" if job.buckets else "; --buckets keeps their shape"
        yield f"{len(cut)} of {len(pictures)} pictures lose more than {_CUT:.0%} when they are cut to their shape{advice}: {_names(cut)}"
    if job.crop == "random" and job.cache:
        yield "random crops are encoded when they are drawn: the cache keeps captions only"
    looks = [picture.look for picture in pictures]
    for group in same(looks)[:_SHOWN]:
        yield f"the same file under {len(group)} names counts {len(group)} times: {_names([pictures[index] for index in group])}"
    if len(pictures) <= _COMPARED and (pairs := alike(looks)):
        shown = ", ".join(f"{pictures[first].name} and {pictures[second].name}" for first, second in pairs[:_SHOWN])
        yield f"nearly the same: {shown}{_more(len(pairs))}"
    counts = {group: len(group.own.entries) + len(group.regular.entries) for group in dataset.order(job.seed).groups}
    if job.batch > 1 and len(counts) > 1 and (few := sum(count < job.batch for count in counts.values())):
        yield f"{few} of {len(counts)} buckets have fewer pictures than a batch: there a batch has some picture twice"


def odd_captions(dataset: Dataset, tokens_cut: Callable[[str], int]) -> Iterator[str]:
    """Captions that the text encoder does not read to their end."""
    if long := {picture.name: cut for picture in dataset.pictures if (cut := max(map(tokens_cut, picture.captions)))}:
        shown = ", ".join(f"{name} (by {cut})" for name, cut in list(long.items())[:_SHOWN])
        what, are = ("caption is", "is") if len(long) == 1 else ("captions are", "are")
        yield f"{len(long)} {what} longer than the text encoder reads and {are} cut: {shown}{_more(len(long))}"


def _names(pictures: Sequence[Picture]) -> str:
    more = f" and {len(pictures) - _SHOWN} more" if len(pictures) > _SHOWN else ""
    return ", ".join(picture.name for picture in pictures[:_SHOWN]) + more


def _more(count: int) -> str:
    return f" and {count - _SHOWN} more" if count > _SHOWN else ""
