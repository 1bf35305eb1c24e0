"""Folders of pictures with their captions, read and checked before the first step; what is odd is told, nothing is dropped in silence."""

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from loraloom.errors import DatasetError
from loraloom.train.buckets import Buckets
from loraloom.train.captions import LIST, FolderCaptions, caption_files
from loraloom.train.chance import Sample
from loraloom.train.config import ResolvedConfig
from loraloom.train.folders import Folder, find_folders, no_pictures
from loraloom.train.looking import Look, look_at_all
from loraloom.train.masks import ALPHA, BESIDE, Masks, is_black, is_mask, open_mask
from loraloom.train.naming import listed, with_ending
from loraloom.train.order import Order
from loraloom.train.pictures import PLUGINS, UNREAD, Shape, endings, is_unnamed
from loraloom.train.texts import require_texts
from loraloom.train.wording import Wording


@dataclass(frozen=True)
class Picture:
    path: Path
    name: str  # path below the dataset's folder, with "/"
    captions: tuple[str, ...]  # one of them at each step, as they are trained: with prefix, suffix and trigger
    folder: Folder
    look: Look
    shape: Shape  # that it is cut and scaled to
    mask: Path | None  # the file that holds it; its own for transparency

    @property
    def size(self) -> Shape:
        return self.look.size

    @property
    def caption(self) -> str:
        """All of them, a line each."""
        return "\n".join(self.captions)

    def caption_of(self, sample: Sample) -> str:
        """The one that chance chooses for a sample."""
        if len(self.captions) == 1:
            return self.captions[0]
        return self.captions[int(sample.chance("caption line") * len(self.captions))]


@dataclass(frozen=True)
class Dataset:
    pictures: tuple[Picture, ...]  # by name, regularisation pictures last
    pieces: Mapping[str, Mapping[str, str]]  # by name of the picture: hashes of its file, its captions and its mask, and its repeats
    notes: tuple[str, ...]

    @cached_property
    def fingerprint(self) -> str:
        """sha256 over names, bytes, captions, repeats and masks."""
        return hashlib.sha256(json.dumps(self.pieces, sort_keys=True).encode()).hexdigest()

    @property
    def own(self) -> tuple[Picture, ...]:
        """Those that are learned."""
        return tuple(picture for picture in self.pictures if not picture.folder.regular)

    @property
    def regular(self) -> tuple[Picture, ...]:
        """Those of what must stay as it is."""
        return tuple(picture for picture in self.pictures if picture.folder.regular)

    @property
    def repeats(self) -> tuple[int, ...]:
        return tuple(picture.folder.repeats for picture in self.pictures)

    @cached_property
    def shapes(self) -> Mapping[Shape, int]:
        """How many pictures are trained at each shape, repeats not counted."""
        return dict(sorted(Counter(picture.shape for picture in self.pictures).items()))

    def order(self, seed: int) -> Order:
        """Of the pictures in a run."""
        regular = frozenset(index for index, picture in enumerate(self.pictures) if picture.folder.regular)
        shapes = tuple(picture.shape for picture in self.pictures)
        return Order(seed, tuple(picture.name for picture in self.pictures), self.repeats, shapes, regular)

    def tag_frequency(self) -> Mapping[str, Mapping[str, int]]:
        """Pictures by tag, for each folder: what other tools take trigger words from."""
        found: dict[str, Counter[str]] = {}
        for picture in self.own:
            tags = {tag.strip() for caption in picture.captions for tag in caption.split(",") if tag.strip()}
            found.setdefault(picture.folder.path.name, Counter()).update(sorted(tags))
        return {folder: dict(counts.most_common()) for folder, counts in found.items()}


def read_dataset(
    job: ResolvedConfig, folders: Sequence[Path] | None = None, *, done: Callable[[int, int], None] = lambda *_: None
) -> Dataset:
    """Every picture of the job's folders, or of others as the job's are read but without regularisation; `done` hears how many of how
    many were looked at. Raises DatasetError that says where and what to do, SettingsError for buckets that have no shape."""
    reader = _Reader(job)
    held = reader.folders(job.pictures if folders is None else folders, regular=False)
    if job.regularization and folders is None:
        held += reader.folders(job.regularization, regular=True)
    paths = [path for _, paths in held for path in paths]
    reader.require_texts(held)
    looks = look_at_all(paths, lambda count: done(count, len(paths)))
    found = [picture for folder, paths in held for picture in reader.pictures(folder, paths, looks)]
    pictures = tuple(sorted(found, key=lambda picture: (picture.folder.regular, picture.name)))
    reader.notes += _masks_told(pictures, job)
    return Dataset(pictures, {picture.name: _pieces(picture) for picture in pictures}, tuple(reader.notes))


class _Reader:
    """Reads folders as a job says, and collects what is odd."""

    def __init__(self, job: ResolvedConfig) -> None:
        self.job, self.notes = job, list[str]()
        self._wording, self._buckets, self._masks = Wording.of(job), Buckets.of(job), Masks(job.masks)

    def folders(self, given: Sequence[Path], *, regular: bool) -> list[tuple[Folder, list[Path]]]:
        """The folders that hold pictures, each with them; raises DatasetError if none does."""
        tried = find_folders(given, subfolders=self.job.subfolders, regular=regular, notes=self.notes)
        told = len(self.notes)
        found = [(folder, paths) for folder in tried if (paths := self._paths(folder))]
        if not found:
            raise no_pictures(tried, self.notes if not tried else self.notes[told:])
        return found

    def require_texts(self, held: Sequence[tuple[Folder, Sequence[Path]]]) -> None:
        """Raises one DatasetError for all texts that cannot be read."""
        used = []
        for folder, paths in held:
            texts, stems = caption_files(folder.path), {path.stem for path in paths}
            used += [path for stem, path in texts.items() if stem in stems]
            used += [path for path in (folder.path / LIST,) if path.exists()]
        require_texts(dict.fromkeys(used), self.job.caption_encoding)

    def _paths(self, folder: Folder) -> list[Path]:
        self.notes += _not_read(folder)
        paths = with_ending(folder.path, endings())
        if (masks := [path for path in paths if is_mask(path)]) and self.job.masks != BESIDE:
            self.notes.append(f"masks that are not used without --masks {BESIDE}: {listed(masks, folder.name_of)}")
        return [path for path in paths if not is_mask(path)]

    def pictures(self, folder: Folder, paths: Sequence[Path], looks: Mapping[Path, Look]) -> Iterator[Picture]:
        instead = "" if folder.regular else self.job.caption
        by_name = self.job.caption_from_name and not (folder.regular and folder.caption)  # r0012.png says less than 1_cat does
        captions = FolderCaptions.read(
            folder.path,
            root=folder.root,
            instead=instead,
            by_name=by_name,
            join=self.job.caption_lines == "join",
            encoding=self.job.caption_encoding,
        )
        missing, several = [], []
        for path in paths:
            given = captions.of(path) or (folder.caption,)
            if not any(given):
                missing.append(path)
            if len(given) > 1:
                several.append(path)
            seen = looks[path]
            written = tuple(self._wording.written(text, trigger=not folder.regular) for text in given)
            shape = self._buckets.shape_for(seen.size) if self._buckets else (self.job.resolution, self.job.resolution)
            mask = self._masks.of(path, transparent=seen.transparent) if not folder.regular else None
            yield Picture(path, folder.name_of(path), written, folder, seen, shape, mask)
        if missing:
            alone = self._wording.written("", trigger=not folder.regular)
            instead = f'they are trained as "{alone}"' if alone else "they are trained without words, and no trigger is set either"
            if folder.regular and not alone:
                instead = "they keep what is drawn without words; say what they show to keep that"
            self.notes.append(f"{len(missing)} of {len(paths)} pictures have no caption, {instead}: {listed(missing, folder.name_of)}")
        if several and not captions.instead:
            what = "picture has several captions" if len(several) == 1 else "pictures have several captions"
            advice = "one of them is drawn at each step; --caption-lines join makes one of them"
            self.notes.append(f"{len(several)} {what}, one a line: {advice}: {listed(several, folder.name_of)}")
        self.notes += captions.odd(paths, folder.name_of)


def _not_read(folder: Folder) -> Iterator[str]:
    """Pictures that nothing here opens, each kind with what opens it."""
    inside = [path for path in folder.path.iterdir() if not path.name.startswith(".") and path.suffix.lower() not in endings()]
    by_package: dict[str, list[Path]] = {}
    for path in sorted(path for path in inside if path.suffix.lower() in PLUGINS and not path.is_dir()):
        by_package.setdefault(PLUGINS[path.suffix.lower()], []).append(path)
    for package, paths in by_package.items():
        yield f"not read ({listed(paths, folder.name_of)}): pip install {package} reads them, or save them as PNG or JPEG"
    if unread := sorted(path for path in inside if path.suffix.lower() in UNREAD and not path.is_dir()):
        yield f"not read, save them as PNG or JPEG: {listed(unread, folder.name_of)}"
    if unnamed := sorted(path for path in inside if is_unnamed(path)):
        yield f"not read, because their names do not end as pictures' do; rename them: {listed(unnamed, folder.name_of)}"


def _masks_told(pictures: Sequence[Picture], job: ResolvedConfig) -> Iterator[str]:
    """Opens every mask: what cannot be used is one error, what is odd a note."""
    if not job.masks:
        return
    own = [picture for picture in pictures if not picture.folder.regular]
    faults, black = [], []
    for picture in own:
        if picture.mask is None:
            continue
        try:
            if is_black(open_mask(picture.mask, picture.path, picture.size)) and not job.mask_background:
                black.append(picture.mask)
        except DatasetError as error:
            faults.append(str(error))
    if faults:
        raise DatasetError("\n  ".join((f"{len(faults)} masks cannot be used:", *faults)) if len(faults) > 1 else faults[0])
    if black:
        yield f"{len(black)} masks are black all over, nothing is learned from their pictures: {listed(black)}"
    if without := [picture for picture in own if picture.mask is None]:
        what = "no transparency" if job.masks == ALPHA else "no mask"
        which = listed([picture.path for picture in without])
        yield f"{len(without)} of {len(own)} pictures have {what} and count everywhere: {which}"


def _pieces(picture: Picture) -> dict[str, str]:
    """What of a picture decides a run, in the words in which a change is told."""
    found = {
        "file": picture.look.sha256,
        "caption": hashlib.sha256(repr(picture.captions).encode()).hexdigest(),
        "repeats": str(picture.folder.repeats),
    }
    if picture.mask is not None and picture.mask != picture.path:
        found["mask"] = hashlib.sha256(picture.mask.read_bytes()).hexdigest()
    return found
