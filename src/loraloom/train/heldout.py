"""Which pictures are held out of a run: a folder of their own, or a part of the job's, chosen by the seed."""

from dataclasses import replace

from loraloom.errors import DatasetError
from loraloom.lazy import torch
from loraloom.train.chance import generator
from loraloom.train.config import ResolvedConfig
from loraloom.train.dataset import Dataset, read_dataset
from loraloom.train.naming import listed


def held_apart(job: ResolvedConfig, dataset: Dataset) -> tuple[Dataset, Dataset | None]:
    """(trained on, held out), the first with what is to be said of it; its `pieces` are those of both. Raises DatasetError."""
    if job.validation_share:
        return _split(dataset, job.validation_share, job.seed)
    if not job.validation:
        return dataset, None
    held = read_dataset(job, job.validation)
    notes = [*dataset.notes, *(f"held-out pictures: {text}" for text in held.notes)]
    known = {picture.look.sha256 for picture in dataset.own}
    if twins := [picture.path for picture in held.pictures if picture.look.sha256 in known]:
        notes.append(f"{len(twins)} held-out pictures are among those that are trained on, so they tell nothing: {listed(twins)}")
    both = {**dataset.pieces, **{f"held out/{name}": piece for name, piece in held.pieces.items()}}
    return replace(dataset, pieces=both, notes=tuple(notes)), held


def _split(dataset: Dataset, share: float, seed: int) -> tuple[Dataset, Dataset]:
    """Regularisation pictures are all trained on."""
    count = len(dataset.own)
    if count < 2:
        raise DatasetError("validation_share needs at least two pictures: one is held out")
    chosen = {dataset.own[index].name for index in some(count, min(count - 1, max(1, round(share * count))), seed)}
    held = tuple(picture for picture in dataset.own if picture.name in chosen)
    kept = tuple(picture for picture in dataset.pictures if picture.folder.regular or picture.name not in chosen)
    note = f"{len(held)} of {count} pictures are held out: {listed([picture.path for picture in held])}"
    return replace(dataset, pictures=kept, notes=(*dataset.notes, note)), replace(dataset, pictures=held, notes=())


def some(count: int, most: int, seed: int) -> list[int]:
    """At most so many of `count` indices, rising; the same for the same seed."""
    order: list[int] = torch.randperm(count, generator=generator(seed, "held out")).tolist()
    return sorted(order[:most])
