"""The session: settings, catalogue, opened bases and parsed files together. The only room that knows all the others."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Generic, TypeVar

from loraloom import dialects
from loraloom.basefile import BaseFile, open_base
from loraloom.bases import Base
from loraloom.bases.detect import by_family
from loraloom.bases.identify import identify
from loraloom.bases.tiny.model import folder as tiny_folder
from loraloom.catalogue import Catalogue, Finished, Item, finish, inspecting, own_strength
from loraloom.catalogue.inspecting import Fit, Inspection
from loraloom.catalogue.sidecar import read_sidecar
from loraloom.combine import EXACT, CombineRequest, Curve, Goal, OnModule, ResizeRequest, Weights, curve
from loraloom.combine.flatten import flatten
from loraloom.converting import Converted, convert
from loraloom.dialects.fields import TRIGGER
from loraloom.editing import Edited, edit
from loraloom.engine import Fallback
from loraloom.engine import Report as EngineReport
from loraloom.errors import BaseError, LoraError, NotFound, NotSupported, PromptError, SettingsError, WriteFailed
from loraloom.extracting import Extracted, extract, extract_difference, resize
from loraloom.generate.draw import OnStep, Shot, Source, Style, draw
from loraloom.generate.grid import sheet
from loraloom.generate.jobs import Job, OnPicture, Picture, attached, draw_jobs, notes
from loraloom.generate.opened import BaseFacts, Opened, usual_steps
from loraloom.generate.pipeline import EMBEDDED, open_pipeline
from loraloom.generate.probe import probed_live
from loraloom.generate.request import Drawing, GridRequest, ImageRequest, random_seed
from loraloom.generate.source import source
from loraloom.generate.unopened import look
from loraloom.lorafile import LoraFile, Mix, Stack
from loraloom.peek import peek
from loraloom.prompts import LoraTag, Prompt, parse, parse_lenient
from loraloom.schedule import number
from loraloom.settings import Settings, packaged
from loraloom.strength import Strength

if TYPE_CHECKING:
    from PIL.Image import Image

    from loraloom.train import ResolvedConfig, TrainConfig, TrainResult
    from loraloom.train.preflight import Preflight
    from loraloom.train.run import Note, Report

_PIPELINES = 2  # kept at once
_FILE_BYTES = 2**30  # of parsed files, kept at once: five large SDXL networks, or a thousand of tiny's

Value = TypeVar("Value")
Named = Sequence[tuple[Item, Strength]]


class Recent(Generic[Value]):
    """The last values by key, as many as fit into `room`; the one that was not asked for the longest goes first.

    `weigh` says how much room a value takes, 1 each unless given. A value larger than all the room is kept alone.
    """

    def __init__(self, room: int, weigh: Callable[[Value], int] = lambda _: 1) -> None:
        self._room, self._weigh = room, weigh
        self._kept: OrderedDict[Hashable, Value] = OrderedDict()

    def get(self, key: Hashable, make: Callable[[], Value]) -> Value:
        if key not in self._kept:
            self._leave(self._room - 1)  # before the new one is made: two large models may not fit at once
            value = make()
            self._leave(self._room - self._weigh(value))
            self._kept[key] = value
        self._kept.move_to_end(key)
        return self._kept[key]

    def _leave(self, room: int) -> None:
        while self._kept and sum(map(self._weigh, self._kept.values())) > room:
            self._kept.popitem(last=False)


@dataclass(frozen=True)
class Explained:
    """What a request would do. `report` is None without LoRAs."""

    model: str
    style: Style
    report: EngineReport | None
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Sheet:
    """A grid as one picture. `request` has the seed that was used: it draws the same grid again."""

    image: "Image"
    request: GridRequest
    pictures: tuple[tuple[Picture, ...], ...]  # [row][column]
    notes: tuple[str, ...]


class Session:
    """Draws, draws grids and trains. Opened bases and parsed files are kept, a few of each, and read anew when they change."""

    def __init__(self, settings: Settings | None = None, *, lora_folders: Iterable[str | Path] = (), paths: bool = True) -> None:
        """`lora_folders` are searched besides those of the settings; `paths` allows absolute ones in prompts, which a server must not.
        Nothing is opened yet.
        """
        self.settings = settings or Settings.load()
        self._folders = tuple(Path(folder).expanduser() for folder in lora_folders)
        self._paths = paths
        self._looking = threading.Lock()
        self._kept_catalogue: Catalogue | None = None
        self._bases = Recent[Opened](_PIPELINES)
        self._files = Recent[LoraFile](_FILE_BYTES, lambda file: file.nbytes)

    def catalogue(self) -> Catalogue:
        """The LoRAs of the package, of the settings' folders, of `./loras` and of this session's folders. It is kept, as it was
        at its last `rescan`, and made anew when one of these folders comes or goes."""
        folders = (*self.settings.library, *self._folders)
        with self._looking:
            if self._kept_catalogue is None or self._kept_catalogue.folders != folders:
                self._kept_catalogue = Catalogue(folders, index=self.settings.library_index)
            return self._kept_catalogue

    def generate(self, request: ImageRequest, on_step: OnStep | None = None, on_picture: OnPicture | None = None) -> list[Picture]:
        """The request's pictures; picture i has the seed `seed + i`. `on_picture` gets i and the picture as soon as it is finished.

        Raises LoraError subclasses; the base stays untouched.
        """
        begin = source(request)
        opened, jobs = self._jobs(request, begin)
        return draw_jobs(opened, jobs, request, on_step, on_picture, source=begin)

    def explain(self, request: ImageRequest) -> Explained:
        """What `generate` would do with this request, without a picture: every file is read, attached and taken off again.

        Raises as `generate` does.
        """
        begin = source(request)
        opened, jobs = self._jobs(request, begin)
        style = opened.style(request, begin)
        with attached(opened, jobs[0].mix, style, request) as report:
            return Explained(opened.model, style, report, tuple(dict.fromkeys(notes(opened, jobs[0], report, style))))

    def check(self, request: ImageRequest) -> None:
        """Raise what `generate` would raise before it opens the base: mistakes in prompts, unknown LoRAs, a picture that is none."""
        source(request)
        self._named(request)

    def inspect(self, name: str | Path, *, hash: bool = False, keys: bool = False) -> Inspection:
        """What the header of a file says: a path, or a name in the library. Raises as `loraloom.inspect`, or NotFound."""
        return inspecting.inspect(self.locate(name), hash=hash, keys=keys)

    def metadata(self, name: str | Path) -> Mapping[str, str]:
        """All metadata of a file: a stranger's text. Raises FileError, NotFound."""
        return peek(self.locate(name)).metadata

    def fit(self, name: str | Path, base: str | None = None, *, strict: bool = False) -> Fit:
        """How much of a file fits a base (a family's name, a folder, a checkpoint), else its own family: by headers alone."""
        return inspecting.fit(self.locate(name), identify(base) if base else None, strict=strict)

    def convert(
        self,
        name: str | Path,
        output: Path,
        *,
        dialect: str = "kohya",
        goal: Goal = EXACT,
        dtype: str | None = None,
        base: str | None = None,
        overwrite: bool = False,
    ) -> Converted:
        """Write a file in another dialect, type or dtype; as `converting.convert` says. `base` is for files that do not tell theirs."""
        held = identify(base) if base else None
        return convert(self.locate(name), output, dialect=dialect, goal=goal, dtype=dtype, base=held, overwrite=overwrite)

    def edit(
        self,
        name: str | Path,
        output: Path | None = None,
        *,
        changes: Mapping[str, str | None] | None = None,
        only: Sequence[str] = (),
        base: str | None = None,
        overwrite: bool = False,
    ) -> Edited:
        """Change a file's metadata, or leave only a part of its modules; as `editing.edit` says. Raises WriteFailed for a LoRA that
        came with the program: the next version would bring it back."""
        path = self.locate(name)
        if output is None and path.resolve().is_relative_to(packaged().resolve()):
            raise WriteFailed(f"{path.stem} came with loraloom and is not changed in its place; give a second name for a copy")
        found = edit(path, output, changes=changes, only=only, base=identify(base) if base else None, overwrite=overwrite)
        beside = read_sidecar(found.path).words if changes and changes.get(TRIGGER) else ()
        if beside:
            told = f"notes beside the file have trigger words of their own ({', '.join(beside)[:200]}), which count before the file's"
            return replace(found, warnings=(*found.warnings, told))
        return found

    def extract(
        self,
        request: CombineRequest,
        output: Path,
        *,
        live: bool = False,
        on_module: OnModule | None = None,
        overwrite: bool = False,
        room: int | None = None,
    ) -> Extracted:
        """Save the request's mix, or what turns its base into its tuned checkpoint, as one file. Weights are read from the base's
        files where that is possible, else the base is opened. The mean of strengths that change is that over the steps which the
        base usually takes, where the request does not say how many. `on_module` follows the modules; `room` limits a mix's bytes.
        `live` opens the base and compares what it puts out with the mix and with the file; those that come with the program need no
        name for it.

        Raises PromptError for words that are no tags, NotSupported for a tuned checkpoint where paths are not allowed, and what
        `extracting` raises.
        """
        if request.tuned is not None:
            assert request.base is not None
            if live:
                raise SettingsError("what a base puts out is compared for a mix, not for the difference of two checkpoints")
            if not self._paths:
                raise NotSupported("two checkpoints are compared by the command line and the library; a server only takes mixes")
            with self._base_file(request.base, opening=False) as before, self._base_file(request.tuned, opening=False) as after:
                return extract_difference(before, after, output, request, on_module=on_module, overwrite=overwrite)
        with self._stacked(request) as (full, stack, base, weights):
            opened = self._open(full.base or _embedded(base)) if live else None
            found = extract(stack, base, output, full, weights=weights, overwrite=overwrite, on_module=on_module, room=room)
            if opened is None:
                return found
            played = flatten(stack, full.steps).stack if full.flatten and full.steps else stack
            return _compared(found, opened, _only(played, full.components))

    def curve(self, request: CombineRequest, on_module: OnModule | None = None) -> Curve:
        """How far the request's mix would be from its file at every rank, whatever the request's own goal is; nothing is written.

        Raises as `extract` does.
        """
        with self._stacked(request) as (full, stack, base, weights):
            return curve(stack, base, weights=weights, components=full.components, steps=full.steps, on_module=on_module)

    def check_mix(self, request: CombineRequest) -> None:
        """Raise what `extract` would raise of a mix before it reads a file: mistakes in it, unknown LoRAs, an unknown dialect."""
        self._mixed(request.mix)
        dialects.by_name(request.dialect)

    @contextmanager
    def _stacked(self, request: CombineRequest) -> Iterator[tuple[CombineRequest, Stack, Base, Weights | None]]:
        """The request with its steps, the networks of its mix, the family they are for, and the base's weights where it names one."""
        named = self._mixed(request.mix)
        with self._base_file(request.base, opening=True) if request.base else nullcontext() as held:
            files = [dialects.read(item.path, held.base if held else None) for item, _ in named]
            family = held.base if held else by_family(files[0].base)
            assert family is not None
            if request.flatten and request.steps is None:
                request = request.model_copy(update={"steps": usual_steps(family.family)})
            stack = tuple(zip(files, (strength for _, strength in named), strict=True))
            yield request, stack, family, held.weight if held else None

    def resize(self, name: str | Path, request: ResizeRequest, output: Path, *, overwrite: bool = False) -> Extracted:
        """Write a file at the size of the request; as `extracting.resize` says. Its base gives the weights that some types need."""
        with self._base_file(request.base, opening=True) if request.base else nullcontext() as held:
            file = dialects.read(self.locate(name), held.base if held else None)
            family = held.base if held else by_family(file.base)
            if family is None:
                raise BaseError(f"{file.name}: the family {file.base!r} has no table here")
            return resize(file, family, output, request, weights=held.weight if held else None, overwrite=overwrite)

    @contextmanager
    def _base_file(self, source: str, *, opening: bool) -> Iterator[BaseFile]:
        """A base's weights from its files; `opening`: from the opened base where it has none here that can be read."""
        path = tiny_folder() if source == "tiny" else Path(source).expanduser()
        local = path.exists() and source != "nano"
        if not (local or opening or source in EMBEDDED):
            raise BaseError(f"{source}: no such folder or file; two checkpoints are compared where both are on this computer")
        with ExitStack() as stack:
            file = None
            if local:
                with nullcontext() if not opening else suppress(BaseError):
                    file = stack.enter_context(open_base(path))
            yield file or self._open(source).file

    def _mixed(self, mix: str) -> Named:
        """The networks of a text that is tags alone."""
        prompt = parse(mix)
        if prompt.text.strip() or not prompt.loras:
            column = mix.find(prompt.text.strip()[:1]) if prompt.text.strip() else 0
            raise PromptError("a mix is written as tags alone: <lora:name:0.8>", prompt=mix, column=max(0, column))
        return self._find([prompt], self._library([prompt]))

    def locate(self, name: str | Path) -> Path:
        """The file that a path or a name in the library means; a path that is there counts first. Raises NotFound."""
        path = Path(name).expanduser()
        if path.is_file():
            return path
        try:
            return self.catalogue().find(str(name), paths=self._paths).path
        except NotFound as error:
            if path.is_dir():  # of PEFT, if it is one
                return path
            if path.is_absolute() or not (path.suffix or len(path.parts) > 1):
                raise
            raise type(error)(f"{path}: no such file, and {error}") from error

    def about(self, base: str | None = None) -> BaseFacts:
        """What a base is and does by itself; None is the settings' base. Opens it. Raises BaseError."""
        return self._open(base).facts

    def _named(self, request: ImageRequest) -> tuple[Prompt, Prompt, Named, Named, tuple[str, ...]]:
        """Both prompts, the networks of each, and what a lenient request let pass."""
        mistakes: list[str] = []
        told = mistakes if request.lenient else None
        prompt, negative = _parse(request.prompt, told), _parse(request.negative_prompt, told)
        library = self._library([prompt, negative])
        named, named_negative = self._find([prompt], library, told), self._find([negative], library, told)
        finished, finished_negative = self._finish(prompt, library), self._finish(negative, library, triggers=0)
        return finished.prompt, finished_negative.prompt, named, named_negative, (*mistakes, *finished.notes)

    def _jobs(self, request: ImageRequest, begin: Source | None) -> tuple[Opened, list[Job]]:
        """The base, and a job for each picture of the request; all have the same mix."""
        prompt, negative, named, named_negative, mistakes = self._named(request)  # before the base is opened: mistakes show at once
        opened, seed = self._open(request.base).beginning_with(begin), _seed(request)
        mix = Mix(self._stack(named, opened, request), self._stack(named_negative, opened, request))
        said = (*mistakes, *_notes(prompt))
        jobs = [
            Job(Shot(_words(prompt), seed + i, _words(negative)), mix, prompt.source, negative.source, said)
            for i in range(request.pictures)
        ]
        return opened, jobs

    def grid(self, request: GridRequest, on_step: OnStep | None = None) -> Sheet:
        """Every prompt with every column, on one sheet; all pictures have the same seed. Raises as `generate` does."""
        seed = _seed(request)
        request = request.model_copy(update={"seed": seed})
        prompts, negative = [parse(prompt) for prompt in request.prompts], parse(request.negative_prompt)
        columns = [(column, parse(column.tags)) for column in request.all_columns]
        library = self._library([*prompts, negative, *(tags for _, tags in columns)])
        cells = [(prompt, column, self._find([prompt, tags], library)) for prompt in prompts for column, tags in columns]
        named_negative = self._find([negative], library)
        negative = self._finish(negative, library, triggers=0).prompt
        opened = self._open(request.base)
        below = self._stack(named_negative, opened, request)
        jobs = []
        for prompt, column, named in cells:
            cell = self._finish(parse(_joined(prompt.source, column.tags)), library)
            shot = Shot(_words(cell.prompt), seed, _words(negative))
            mix = Mix(self._stack(named, opened, request), below)
            jobs.append(Job(shot, mix, cell.prompt.source, negative.source, (*_notes(prompt), *cell.notes)))
        drawn = draw_jobs(opened, jobs, request, on_step)
        rows = tuple(tuple(drawn[start : start + len(columns)]) for start in range(0, len(drawn), len(columns)))
        image = sheet(
            [prompt.source.strip() or "(no prompt)" for prompt in prompts],
            [column.label for column, _ in columns],
            [[picture.image for picture in row] for row in rows],
            caption=_caption(drawn[0]),
        )
        return Sheet(image, request, rows, tuple(dict.fromkeys(note for picture in drawn for note in picture.notes)))

    def preflight(self, config: "TrainConfig", progress: "Report | None" = None) -> "Preflight":
        """What a training run would read, write and need. No model is loaded unless it must come from the hub; nothing is written.

        Raises SettingsError, DatasetError or BaseError; what else would stop the run is in the result's `problems`.
        """
        from loraloom.train.preflight import Known, preflight
        from loraloom.train.result import Progress

        config = self._with_base(config)
        source = config.base or self.settings.base
        seen = look(source)
        known = Known(seen.tokens_cut, seen.weights, seen.width, seen.pixels_per_latent) if seen else None
        tell = progress or (lambda _: None)
        base = seen.base if seen else self._open(source).base
        return preflight(config, base, known, done=lambda count, total: tell(Progress("look", count, total)))

    def train(self, config: "TrainConfig", progress: "Report | None" = None, note: "Note | None" = None) -> "TrainResult":
        """Train a network as `config` says and write it. Sample pictures are drawn by this session, with the base's defaults."""
        from loraloom import train

        checked = self.preflight(config, progress)
        checked.require_ready()  # before minutes are spent on loading
        config = self._with_base(config)
        opened = self._open(config.base, kept=config.base_dtype == "loaded")  # a base that is held otherwise is nobody else's

        def sample(network: LoraFile, prompts: Sequence[str], seed: int) -> "list[Image]":
            style = opened.style(Drawing())
            with opened.engine.attached(Mix(((network, Strength.of(1.0)),)), steps=style.steps):
                return list(draw(opened.pipeline, [Shot(prompt, seed) for prompt in prompts], style))

        return train.train(config, opened.pipeline, opened.base, draw=sample, progress=progress, note=note, checked=checked)

    def resolve(self, config: "TrainConfig") -> "ResolvedConfig":
        """The job as `train` would run it, with everything decided for its base."""
        from loraloom import train

        config = self._with_base(config)
        seen = look(config.base or "")
        return train.resolve(config, seen.base if seen else self._open(config.base).base)

    def _with_base(self, config: "TrainConfig") -> "TrainConfig":
        return config.model_copy(update={"base": config.base or self.settings.base})

    def _open(self, base: str | None, *, kept: bool = True) -> Opened:
        source = base or self.settings.base
        path = Path(source).expanduser()
        local = source not in EMBEDDED and path.exists()
        mark = path / "model_index.json" if path.is_dir() else path
        state = mark.stat().st_mtime_ns if local and mark.exists() else 0
        model = path.resolve().name.removesuffix(".safetensors") if local else source

        def make() -> Opened:
            return Opened(open_pipeline(source), model, self.settings.loader)

        return self._bases.get((source, state), make) if kept else make()

    def _library(self, prompts: Sequence[Prompt]) -> Catalogue:
        """What is there now, where any prompt has a tag; else nothing, without a look at the disk."""
        if not any(prompt.loras for prompt in prompts):
            return Catalogue(())
        before = self._kept_catalogue
        if (catalogue := self.catalogue()) is before:
            catalogue.rescan()
        return catalogue

    def _finish(self, prompt: Prompt, library: Catalogue, *, triggers: int | None = None) -> Finished:
        """The prompt as it is drawn, and as its recipe tells it; `triggers` replaces the setting."""
        count = self.settings.auto_apply_triggers if triggers is None else triggers
        return finish(prompt, library, default=self.settings.default_strength, triggers=count, paths=self._paths)

    def _find(self, prompts: Sequence[Prompt], library: Catalogue, mistakes: list[str] | None = None) -> Named:
        """Each network once, with the sum of its tags' strengths, in the order in which they first appear. A name that leads to
        nothing is added to `mistakes` and left out where that is given.
        """
        found: dict[Path, tuple[Item, Strength]] = {}
        for prompt in prompts:
            for tag in prompt.loras:
                with _at(tag, prompt, mistakes):
                    item = library.find(tag.name, paths=self._paths)
                    key = item.path.resolve()
                    strength = tag.strength(own_strength(library.facts(item, complete=False), self.settings.default_strength))
                    found[key] = (item, found[key][1] + strength if key in found else strength)
        return tuple(found.values())

    def _stack(self, named: Named, opened: Opened, request: Drawing) -> Stack:
        """Every file read and checked, those at strength 0 too."""
        return tuple((self._read(item, opened, request), strength) for item, strength in named)

    def _read(self, item: Item, opened: Opened, request: Drawing) -> LoraFile:
        runner, force = opened.runner(request.loader), request.force
        if isinstance(runner, Fallback):
            return self._files.get((item.identity, runner.title, runner.titles, force), lambda: runner.read(item.path, force=force))
        base = runner.base
        return self._files.get((item.identity, base.family, force), lambda: dialects.read(item.path, base, force=force))


def _embedded(base: Base) -> str:
    """The base of this family that comes with the program; raises SettingsError where there is none."""
    if base.family not in EMBEDDED:
        raise SettingsError(f"to compare what {base.title} puts out its base is opened; give one", fields=("base",))
    return base.family


def _only(stack: Stack, components: Sequence[str] | None) -> Stack:
    """What the networks do to these components; None: to all. Networks of which nothing is left are left out."""
    if components is None:
        return stack
    cut = [
        (replace(file, adapters={target: adapter for target, adapter in file.adapters.items() if target.component in components}), strength)
        for file, strength in stack
    ]
    return [(file, strength) for file, strength in cut if file.adapters or file.embeddings]


def _compared(found: Extracted, held: Opened, stack: Stack) -> Extracted:
    """With what the open base puts out; a warning where it cannot be asked, as the file is written by then."""
    try:
        return replace(found, outputs=probed_live(held, stack, dialects.read(found.path, held.base, force=True)))
    except LoraError as error:
        return replace(found, warnings=(*found.warnings, f"what {held.model} puts out was not compared: {error}"))


@contextmanager
def _at(tag: LoraTag, prompt: Prompt, mistakes: list[str] | None) -> Iterator[None]:
    """A mistake about this tag shows the place of the tag in its prompt; a name that leads to nothing goes to `mistakes` instead."""
    try:
        yield
    except NotFound as error:
        if mistakes is not None:
            mistakes.append(str(error))
            return
        placed = PromptError(str(error), prompt=prompt.source, column=tag.column, length=tag.length)
        raise type(error)(str(placed)) from placed
    except SettingsError as error:
        raise PromptError(str(error), prompt=prompt.source, column=tag.column, length=tag.length) from error


def _parse(text: str, mistakes: list[str] | None) -> Prompt:
    """The prompt; its mistakes go to `mistakes` where that is given, else the first is raised."""
    if mistakes is None:
        return parse(text)
    prompt, found = parse_lenient(text)
    mistakes += (str(mistake) for mistake in found)
    return prompt


def _words(prompt: Prompt) -> str:
    """The text for an encoder that knows no weights: emphasis marks are not words."""
    return "".join(text for text, _ in prompt.emphasis)


def _joined(*parts: str) -> str:
    return " ".join(part for part in parts if part)


def _notes(prompt: Prompt) -> tuple[str, ...]:
    weighted = any(weight != 1 for _, weight in prompt.emphasis)
    return ("emphasis like (word:1.2) is not run yet; the words are drawn with weight 1",) if weighted else ()


def _seed(request: Drawing) -> int:
    return random_seed() if request.seed is None else request.seed


def _caption(picture: Picture) -> str:
    recipe = picture.recipe
    guidance = "" if recipe.guidance is None else f" · guidance {number(recipe.guidance)}"
    return f"{recipe.model} · {recipe.sampler} · {recipe.steps} steps{guidance} · seed {recipe.seed}"
