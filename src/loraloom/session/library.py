"""What names and tags lead to: the session's catalogue, looked at again before it is asked."""

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from loraloom.catalogue import Catalogue, Finished, Item, finish, own_strength
from loraloom.errors import Ambiguous, NotFound, PromptError, SettingsError
from loraloom.home import expanded
from loraloom.prompts import LoraTag, Prompt, parse
from loraloom.settings import Settings
from loraloom.strength import Strength


class Use(NamedTuple):
    """A network of a mix; `called` is a name that tells it from all others of the library."""

    item: Item
    strength: Strength
    called: str


Named = Sequence[Use]


class Library:
    """The LoRAs of the settings' folders and of some more. `paths` allows absolute ones in prompts, which a server must not."""

    def __init__(self, settings: Settings, folders: Iterable[str | Path] = (), *, paths: bool = True) -> None:
        self.paths = paths
        self._settings = settings
        self.folders = tuple(expanded(folder) for folder in folders)
        self._looking = threading.Lock()
        self._kept: Catalogue | None = None

    def catalogue(self) -> Catalogue:
        """As it was at its last `rescan`; made anew when one of its folders comes or goes."""
        folders = (*self._settings.library, *self.folders)
        with self._looking:
            if self._kept is None or self._kept.folders != folders:
                self._kept = Catalogue(folders, index=self._settings.library_index, follow_links=self._settings.follow_links)
            return self._kept

    def now(self, prompts: Sequence[Prompt]) -> Catalogue:
        """What is there now, where any prompt has a tag; else nothing, without a look at the disk."""
        if not any(prompt.loras for prompt in prompts):
            return Catalogue(())
        before = self._kept
        if (catalogue := self.catalogue()) is before:
            catalogue.rescan()
        return catalogue

    def locate(self, name: str | Path) -> Path:
        """The file that a path or a name means; a path that is there counts first. Raises NotFound."""
        path = expanded(name)
        if _there(path, Path.is_file):
            return path
        try:
            return self.catalogue().find(str(name), paths=self.paths).path
        except NotFound as error:
            if _there(path, Path.is_dir):  # of PEFT, if it is one
                return path
            if path.is_absolute() or not (path.suffix or len(path.parts) > 1):
                raise
            raise type(error)(f"{path}: no such file, and {error}") from error

    def find(self, prompts: Sequence[Prompt], catalogue: Catalogue, mistakes: list[str] | None = None, *, ambiguous: bool = True) -> Named:
        """Each network once, with the sum of its tags' strengths, in the order in which they first appear. A name that leads to
        nothing is added to `mistakes` and left out where that is given; one that leads to several files only if `ambiguous`.
        """
        found: dict[Path, tuple[Item, Strength]] = {}
        for prompt in prompts:
            for tag in prompt.loras:
                with _at(tag, prompt, mistakes, ambiguous):
                    item = catalogue.find(tag.name, paths=self.paths)
                    key = item.path.resolve()
                    strength = tag.strength(own_strength(catalogue.facts(item, complete=False), self._settings.default_strength))
                    found[key] = (item, found[key][1] + strength if key in found else strength)
        return tuple(Use(item, strength, catalogue.called(item)) for item, strength in found.values())

    def mixed(self, mix: str) -> Named:
        """The networks of a text that is tags alone."""
        prompt = parse(mix)
        if prompt.text.strip() or not prompt.loras:
            column = mix.find(prompt.text.strip()[:1]) if prompt.text.strip() else 0
            raise PromptError("a mix is written as tags alone: <lora:name:0.8>", prompt=mix, column=max(0, column))
        return self.find([prompt], self.now([prompt]))

    def finish(self, prompt: Prompt, catalogue: Catalogue, *, triggers: int | None = None) -> Finished:
        """The prompt as it is drawn, and as its recipe tells it; `triggers` replaces the setting."""
        count = self._settings.auto_apply_triggers if triggers is None else triggers
        return finish(prompt, catalogue, default=self._settings.default_strength, triggers=count, paths=self.paths)


def _there(path: Path, kind: Callable[[Path], bool]) -> bool:
    """False also for a name that no file can have."""
    try:
        return kind(path)
    except OSError:
        return False


@contextmanager
def _at(tag: LoraTag, prompt: Prompt, mistakes: list[str] | None, ambiguous: bool) -> Iterator[None]:
    """A mistake about this tag shows the place of the tag in its prompt; a name that leads to nothing goes to `mistakes` instead."""
    try:
        yield
    except NotFound as error:
        if mistakes is not None and (ambiguous or not isinstance(error, Ambiguous)):
            mistakes.append(str(error))
            return
        placed = PromptError(str(error), prompt=prompt.source, column=tag.column, length=tag.length)
        raise type(error)(str(placed)) from placed
    except SettingsError as error:
        raise PromptError(str(error), prompt=prompt.source, column=tag.column, length=tag.length) from error
