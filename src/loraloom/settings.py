"""Settings: what a person sets once. From the environment (`LORALOOM_*`), else a TOML file, else the defaults below."""

import os
import reprlib
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, PydanticBaseSettingsSource, SettingsConfigDict, TomlConfigSettingsSource

from loraloom.bounds import storable
from loraloom.errors import SettingsError, suggestion
from loraloom.home import cache_folder, expanded
from loraloom.settingsfile import change, changing, read_document, settings_file, write_document


class Values(BaseModel):
    """Every setting with its default. As one text the folders are separated as in PATH."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    lora_folders: Annotated[tuple[Path, ...], NoDecode] = ()  # searched at any depth, after the LoRAs of the package
    model_folders: Annotated[tuple[Path, ...], NoDecode] = ()  # of bases that a server offers by name: checkpoints and diffusers' folders
    follow_links: bool = False  # links in those folders may lead out of them, to other drives
    default_strength: float = Field(default=1.0, allow_inf_nan=False, ge=-1e6, le=1e6)  # of a tag without a number
    output_folder: Path = Path("outputs")
    base: str = Field(default="tiny", min_length=1, max_length=4096)
    loader: Literal["auto", "native", "diffusers"] = "auto"  # who runs LoRAs; auto: the native engine where it knows the base
    auto_apply_triggers: int = Field(default=0, ge=-1, le=1000)  # trigger words given to a prompt unasked: none, the first so many, -1 all
    library_index: Path = Field(default_factory=lambda: cache_folder() / "library.sqlite")  # what is known of LoRA files

    @field_validator("lora_folders", "model_folders", "output_folder", "base", "library_index")
    @classmethod
    def _storable(cls, value: str | Path | tuple[Path, ...]) -> str | Path | tuple[Path, ...]:
        """No system takes U+0000 in a name, and TOML is Unicode."""
        for name in value if isinstance(value, tuple) else [value]:
            storable(str(name))
        return value

    @field_validator("lora_folders", "model_folders", mode="before")
    @classmethod
    def _separate(cls, value: object) -> object:
        return [part for part in value.split(os.pathsep) if part] if isinstance(value, str) else value

    @field_validator("lora_folders", "model_folders")
    @classmethod
    def _expand(cls, value: tuple[Path, ...]) -> tuple[Path, ...]:
        return tuple(expanded(folder) for folder in value)

    @field_validator("output_folder", "library_index")
    @classmethod
    def _expand_one(cls, value: Path) -> Path:
        return expanded(value)


class Settings(Values, BaseSettings):
    """The values that count here: from the environment, else the file, else the defaults."""

    model_config = SettingsConfigDict(env_prefix="LORALOOM_", env_ignore_empty=True, extra="forbid", frozen=True)

    @property
    def library(self) -> tuple[Path, ...]:
        """Where LoRAs are looked for: those of the package, the folders of this setting, `./loras`. The first and the last need not be."""
        return (*_present(packaged()), *self.lora_folders, *_present(Path("loras")))

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return init_settings, env_settings, TomlConfigSettingsSource(settings_cls, settings_file())

    @classmethod
    def load(cls) -> "Settings":
        """The settings of this process; raises SettingsError, naming the file and the setting."""
        try:
            return cls()
        except ValidationError as error:
            raise SettingsError(f"{explain(error, known=cls.model_fields)}\n  (from {settings_file()} or LORALOOM_*)") from error
        except (OSError, ValueError) as error:  # not TOML, not text, not readable
            raise SettingsError(f"{settings_file()}: cannot be read as TOML: {error}") from error

    @classmethod
    def fixed(cls) -> tuple[str, ...]:
        """The settings that the environment fixes: the file cannot change them."""
        return tuple(name for name in cls.model_fields if _from_environment(name))

    @classmethod
    def save(cls, changes: Mapping[str, Any]) -> "Settings":
        """Write these values into the settings file, None for the default, and return the settings as they are then. Values may be
        texts, as in the environment. The rest of the file stays as it is, comments too.

        Raises SettingsError for a name or value without meaning and for what the environment fixes, WriteFailed if the disk says
        no; the file has not changed then.
        """
        held = [name for name in changes if name in cls.model_fields and _from_environment(name)]
        if held:
            names = ", ".join(_variable(name) for name in held)
            raise SettingsError(f"{', '.join(held)}: fixed by the environment ({names}), so the file would not count; change it there")
        with changing(settings_file()) as path:
            document = read_document(path)
            wanted = {**document.unwrap(), **changes}
            try:
                # A name that means nothing is refused even where its value is taken back, unless it is that line which goes.
                unknown = {name for name in changes if name not in cls.model_fields and name not in document}
                valid = Values.model_validate({name: value for name, value in wanted.items() if value is not None or name in unknown})
            except ValidationError as error:
                raise SettingsError(f"{explain(error, known=cls.model_fields)}\n  (nothing was written to {path})") from error
            plain = valid.model_dump(mode="json")
            change(document, {name: None if value is None else plain[name] for name, value in changes.items()})
            write_document(path, document)
            return cls.load()


def packaged() -> Path:
    """The folder of the LoRAs that come with the program."""
    return Path(str(files("loraloom"))) / "assets" / "loras"


def _variable(name: str) -> str:
    return f"LORALOOM_{name.upper()}"


def _from_environment(name: str) -> bool:
    """As pydantic-settings looks: in any case, and an empty value is none."""
    return any(value and variable.upper() == _variable(name) for variable, value in os.environ.items())


def _present(folder: Path) -> tuple[Path, ...]:
    return (folder,) if folder.is_dir() else ()


_SHORT = reprlib.Repr()  # of a value that may be a stranger's: long or deep
_SHORT.maxstring = _SHORT.maxother = 200


def explain(error: ValidationError, known: Any = ()) -> str:
    """One line for each mistake: which option, what is wrong with it, and what was given; for people, not programmers."""
    return "\n".join(_line(detail, known) for detail in error.errors(include_url=False))


def _line(detail: Any, known: Any) -> str:
    name = ".".join(str(part) for part in detail["loc"])
    if detail["type"] == "extra_forbidden":
        return f"there is no option {name!r}{suggestion(name, known) or '; there are ' + ', '.join(known) if known else ''}"
    message = detail["msg"].removeprefix("Value error, ").removeprefix("Input ")
    given = "" if detail["type"] in ("missing", "value_error") else f", not {_SHORT.repr(detail['input'])}"
    return f"{name}: {message}{given}" if name else message
