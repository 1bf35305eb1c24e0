"""What can be asked of a session. Every job is done in a file of its own, over what the session keeps."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from loraloom.bases.identify import identify
from loraloom.catalogue import Catalogue, inspecting
from loraloom.catalogue.inspecting import Fit, Inspection
from loraloom.combine import EXACT, CombineRequest, Curve, Goal, OnModule, ResizeRequest
from loraloom.converting import Converted
from loraloom.editing import Edited
from loraloom.extracting import Extracted
from loraloom.generate.draw import OnStep
from loraloom.generate.jobs import OnPicture, Picture
from loraloom.generate.opened import BaseFacts
from loraloom.generate.request import GridRequest, ImageRequest
from loraloom.generate.turns import TURNS
from loraloom.newfile import new_file
from loraloom.peek import peek
from loraloom.session import drawing, files, mixes, sheets
from loraloom.session.bases import Bases
from loraloom.session.drawing import Explained
from loraloom.session.kept import Kept
from loraloom.session.library import Library
from loraloom.session.networks import Networks
from loraloom.session.sheets import Sheet
from loraloom.settings import Settings

if TYPE_CHECKING:
    from loraloom.train import ResolvedConfig, TrainConfig, TrainResult
    from loraloom.train.preflight import Preflight
    from loraloom.train.run import Note, Report


class Session:
    """Draws, draws grids and trains. Opened bases and parsed files are kept, a few of each, and read anew when they change.

    A session belongs to one thread. Sessions of several threads work together, but for the moment in which one of them opens a base: the
    others rest then, between two steps.
    """

    def __init__(
        self, settings: Settings | None = None, *, lora_folders: Iterable[str | Path] = (), follow_links: bool = False, paths: bool = True
    ) -> None:
        """`lora_folders` are searched besides those of the settings; `follow_links` turns that setting on; `paths` allows those of
        this computer in prompts, which a server must not. Nothing is opened yet.
        """
        self.settings = settings or Settings.load()
        if follow_links:
            self.settings = self.settings.model_copy(update={"follow_links": True})
        self._kept = Kept(Library(self.settings, lora_folders, paths=paths), Bases(self.settings), Networks())

    def catalogue(self) -> Catalogue:
        """The LoRAs of the package, of the settings' folders, of `./loras` and of this session's folders. It is kept, as it was
        at its last `rescan`, and made anew when one of these folders comes or goes."""
        return self._kept.library.catalogue()

    def locate(self, name: str | Path) -> Path:
        """The file that a path or a name in the library means; a path that is there counts first. Raises NotFound."""
        return self._kept.library.locate(name)

    def new_file(self, output: str | Path, *, usual: str = "") -> Path:
        """Where a new LoRA goes: under a bare name into the first folder of the library that can be written into, so that a prompt
        finds it, else exactly where `output` says. As `newfile.new_file` says; raises SettingsError."""
        return new_file(output, self.settings, self._kept.library.folders, usual=usual)

    def about(self, base: str | None = None) -> BaseFacts:
        """What a base is and does by itself; None is the settings' base. Opens it. Raises BaseError."""
        return self._kept.bases.open(base).facts

    def generate(self, request: ImageRequest, on_step: OnStep | None = None, on_picture: OnPicture | None = None) -> list[Picture]:
        """The request's pictures; picture i has the seed `seed + i`. `on_picture` gets i and the picture as soon as it is finished.

        Raises LoraError subclasses; the base stays untouched.
        """
        with TURNS.working():
            return drawing.generate(self._kept, request, TURNS.between(on_step), TURNS.between(on_picture))

    def explain(self, request: ImageRequest) -> Explained:
        """What `generate` would do with this request, without a picture: every file is read, attached and taken off again.

        Raises as `generate` does.
        """
        with TURNS.working():
            return drawing.explain(self._kept, request)

    def check(self, request: ImageRequest) -> None:
        """Raise what `generate` would raise before it opens the base: mistakes in prompts, unknown LoRAs, a picture that is none."""
        drawing.check(self._kept.library, request)

    def grid(self, request: GridRequest, on_step: OnStep | None = None) -> Sheet:
        """Every prompt with every column, on one sheet; all pictures have the same seed. Raises as `generate` does."""
        with TURNS.working():
            return sheets.grid(self._kept, request, TURNS.between(on_step))

    def inspect(self, name: str | Path, *, hash: bool = False, keys: bool = False) -> Inspection:
        """What the header of a file says: a path, or a name in the library. Raises as `loraloom.inspect`, or NotFound."""
        return inspecting.inspect(self.locate(name), hash=hash, keys=keys)

    def metadata(self, name: str | Path) -> Mapping[str, str]:
        """All metadata of a file: a stranger's text. Raises FileError, NotFound."""
        return peek(self.locate(name)).metadata

    def fit(self, name: str | Path, base: str | None = None, *, strict: bool = False, deep: bool = False) -> Fit:
        """How much of a file fits a base (a family's name, a folder, a checkpoint), else its own family: by headers alone, and with
        `deep` by every value."""
        return inspecting.fit(self.locate(name), identify(base) if base else None, strict=strict, deep=deep)

    def convert(
        self,
        name: str | Path,
        output: Path,
        *,
        dialect: str | None = None,
        tool: str | None = None,
        goal: Goal = EXACT,
        plain: bool = False,
        dtype: str | None = None,
        base: str | None = None,
        overwrite: bool = False,
        repair: bool = False,
    ) -> Converted:
        """Write a file in another dialect, type or dtype, for another program, or repaired; as `converting.convert` says. `base` is for
        files that do not tell theirs; for a program and for plain factors its weights are read too."""
        form = files.Form(dialect, tool, goal, dtype, plain=plain, repair=repair)
        with TURNS.working():
            return files.convert(self._kept, name, output, form, base, overwrite=overwrite)

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
        with TURNS.working():
            return files.edit(self.locate(name), output, changes=changes, only=only, base=base, overwrite=overwrite)

    def resize(self, name: str | Path, request: ResizeRequest, output: Path, *, overwrite: bool = False) -> Extracted:
        """Write a file at the size of the request; as `extracting.resize` says. Its base gives the weights that some types need."""
        with TURNS.working():
            return files.resize(self._kept, name, request, output, overwrite=overwrite)

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
        told = TURNS.between(on_module)
        with TURNS.working():
            return mixes.extract(self._kept, request, output, live=live, on_module=told, overwrite=overwrite, room=room)

    def curve(self, request: CombineRequest, on_module: OnModule | None = None) -> Curve:
        """How far the request's mix would be from its file at every rank, whatever the request's own goal is; nothing is written.

        Raises as `extract` does.
        """
        with TURNS.working():
            return mixes.curve(self._kept, request, TURNS.between(on_module))

    def check_mix(self, request: CombineRequest) -> None:
        """Raise what `extract` would raise of a mix before it reads a file: mistakes in it, unknown LoRAs, an unknown dialect."""
        mixes.check(self._kept.library, request)

    def preflight(self, config: "TrainConfig", progress: "Report | None" = None) -> "Preflight":
        """What a training run would read, write and need. No model is loaded unless it must come from the hub; nothing is written.

        Raises SettingsError, DatasetError or BaseError; what else would stop the run is in the result's `problems`.
        """
        from loraloom.session import training

        return training.preflight(self._kept.bases, config, progress)

    def train(self, config: "TrainConfig", progress: "Report | None" = None, note: "Note | None" = None) -> "TrainResult":
        """Train a network as `config` says and write it. Sample pictures are drawn by this session, with the base's defaults."""
        from loraloom.session import training

        with TURNS.working():
            return training.train(self._kept.bases, config, TURNS.between(progress), note)

    def resolve(self, config: "TrainConfig") -> "ResolvedConfig":
        """The job as `train` would run it, with everything decided for its base."""
        from loraloom.session import training

        return training.resolve(self._kept.bases, config)
