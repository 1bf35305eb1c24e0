"""Base models as diffusers pipelines, and samplers as its schedulers: the only file here that imports diffusers.

A base is opened by its name: embedded, a folder, a checkpoint file, the hub. Weights are read from safetensors only."""

import inspect
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loraloom.bases.nano import model as nano
from loraloom.bases.tiny import model as tiny
from loraloom.engine.surroundings import making
from loraloom.errors import BaseError, NotSupported, SettingsError, suggestion
from loraloom.extras import missing
from loraloom.filenames import has_ending
from loraloom.generate.samplers import SAMPLERS
from loraloom.generate.turns import TURNS
from loraloom.home import expanded
from loraloom.lazy import LazyModule, torch
from loraloom.tensorfile import Header

if TYPE_CHECKING:
    import diffusers
else:
    diffusers = LazyModule("diffusers")

EMBEDDED = ("tiny", "nano")
# What diffusers raises for a model that is incomplete, damaged or of a kind that it does not know.
_LOADING = (OSError, ValueError, KeyError, AttributeError, TypeError, RuntimeError)
_HUB = re.compile(r"(?P<name>[\w.-]+/[\w.-]+)(?:@(?P<revision>[\w.-]+))?")
# A name that only checkpoints of this kind have, and the pipeline for it; the first that is found counts.
_CHECKPOINTS = (
    ("conditioner.embedders.1.", "StableDiffusionXLPipeline"),
    ("cond_stage_model.", "StableDiffusionPipeline"),
    ("double_blocks.0.", "FluxPipeline"),
    ("joint_blocks.0.", "StableDiffusion3Pipeline"),
)


def open_pipeline(source: str, held: "torch.dtype | None" = None) -> Any:
    """The text-to-image pipeline that `source` names: "tiny", "nano", a folder in diffusers' layout, a `.safetensors`
    checkpoint, or `owner/name[@commit]` on the hub. Embedded bases stay on the CPU in float32, so that their pictures are the
    same everywhere; others go to the GPU in half precision if there is one.

    Of a folder or of the hub's, `held` is the dtype of all but the VAE as they are read, so that they never take more memory than so.
    One base is opened at a time, and nothing of `TURNS` works meanwhile. Raises BaseError, or FileError for a damaged file.
    """
    os.environ.setdefault("DIFFUSERS_DISABLE_REMOTE_CODE", "1")
    with TURNS.resting():
        load = _loader(source, held)
    with TURNS.opening(), making(), _quiet():
        pipeline = load()
    _require_complete(source, pipeline)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def painter(pipeline: Any, *, masked: bool) -> Any:
    """A pipeline of the same parts that begins with a picture (`masked`: and a mask). Raises NotSupported where diffusers has none."""
    kind = diffusers.AutoPipelineForInpainting if masked else diffusers.AutoPipelineForImage2Image
    try:
        with _quiet():
            made = kind.from_pipe(pipeline)
    except ValueError as error:
        how = "a picture and a mask" if masked else "a picture"
        raise NotSupported(f"{type(pipeline).__name__}: diffusers has no pipeline that begins with {how} for this base") from error
    made.set_progress_bar_config(disable=True)
    return made


def _require_complete(source: str, pipeline: Any) -> None:
    """Raises BaseError for a base with parameters that have no values: another thread made a model of its own with accelerate meanwhile."""
    for name, part in pipeline.components.items():
        if isinstance(part, torch.nn.Module) and any(tensor.is_meta for tensor in (*part.parameters(), *part.buffers())):
            raise BaseError(f"{source}: {name} was loaded without its values (they are on the meta device); open this base again")


def _loader(source: str, held: "torch.dtype | None") -> Callable[[], Any]:
    """How `source` is loaded. What can be known to be wrong without torch is an error here, and a base of the hub is fetched."""
    if source == "tiny":
        return tiny.load
    if source == "nano":
        return nano.load
    path = expanded(source)
    if path.is_dir():
        if not (path / "model_index.json").is_file():
            models = ", ".join(sorted(found.parent.name for found in path.glob("*/model_index.json"))[:5])
            inside = f"; it holds {models}" if models else ""
            raise BaseError(f"{path}: not a base model in diffusers' layout (it has no model_index.json){inside}")
        return partial(_open_folder, path, str(path), _by_component(held))
    if path.is_file():
        return partial(_open_checkpoint, path, _checkpoint_class(path))
    hub = _HUB.fullmatch(source)
    if hub is None or has_ending(source):
        raise BaseError(_no_such_base(source, path))
    return partial(_open_folder, _fetched(source, hub["name"], hub["revision"]), source, _by_component(held))


def _open_folder(path: Path, named: str, dtype: Any) -> Any:
    try:
        return _placed(diffusers.DiffusionPipeline.from_pretrained(path, local_files_only=True, use_safetensors=True, dtype=dtype))
    except _LOADING as error:
        raise BaseError(f"{named}: this base model cannot be loaded: {_first_line(error)}") from error


def _checkpoint_class(path: Path) -> str:
    """The pipeline for a checkpoint. Reading its header refuses pickles and damaged files before diffusers sees them."""
    names = Header.read(path).entries
    kind = next((pipeline for mark, pipeline in _CHECKPOINTS if any(mark in name for name in names)), None)
    if kind is None:
        lora = any("lora" in name for name in names)
        what = f"this is a LoRA; write it in the prompt, as in <lora:{path.stem}>" if lora else "no checkpoint that loraloom knows"
        raise BaseError(f"{path}: not a base model: {what}")
    return kind


def _open_checkpoint(path: Path, kind: str) -> Any:
    try:
        return _placed(getattr(diffusers, kind).from_single_file(str(path), dtype=_dtype()))
    except _LOADING as error:
        raise BaseError(
            f"{path}: this checkpoint cannot be loaded as {kind}: {_first_line(error)}. The first time, reading a single file needs "
            "the configuration of its family from the hub; without a network, use a folder in diffusers' layout"
        ) from error


def _fetched(source: str, name: str, revision: str | None) -> Path:
    """The folder of this computer that the hub's files are in."""
    try:
        return Path(diffusers.DiffusionPipeline.download(name, revision=revision, use_safetensors=True))
    except _LOADING as error:
        kinds = _kinds(error)
        if kinds & {"RepositoryNotFoundError", "RevisionNotFoundError", "GatedRepoError"}:
            what = "the hub has no such model, or it is not public"
        elif kinds & {"ConnectError", "ConnectTimeout", "OfflineModeIsEnabled", "LocalEntryNotFoundError", "gaierror", "ConnectionError"}:
            what = f"the hub cannot be reached; without a network, use {' or '.join(EMBEDDED)} or a folder"
        else:
            what = f"not loaded from the hub: {_first_line(error)}"
        raise BaseError(
            f"{source}: no such folder or file here, and {what}{suggestion(Path(source).name, _known_near(Path(source)))}"
        ) from error


def _kinds(error: BaseException | None) -> set[str]:
    """The class names of an error and of all that led to it; diffusers hides the hub's errors behind OSError."""
    found: set[str] = set()
    while error is not None:
        found.add(type(error).__name__)
        error = error.__cause__ or error.__context__
    return found


def _no_such_base(source: str, path: Path) -> str:
    what = "no such file" if has_ending(source) else "no such base model"
    kinds = f"; a base is {', '.join(EMBEDDED)}, a folder in diffusers' layout, a .safetensors checkpoint or owner/name on the hub"
    return f"{source}: {what}{suggestion(path.name, _known_near(path)) or kinds}"


def _known_near(path: Path) -> list[str]:
    """The embedded bases, and what could have been meant in the folder where `path` would be."""
    try:
        near = [item for item in path.parent.iterdir() if has_ending(item.name) or (item / "model_index.json").is_file()]
    except OSError:
        near = []
    return [*EMBEDDED, *(item.name for item in near)]


def _placed(pipeline: Any) -> Any:
    return pipeline.to("cuda") if torch.cuda.is_available() else pipeline


def _dtype() -> "torch.dtype":
    """Half precision on a GPU: bfloat16 where it is fast, since float16 overflows in some bases."""
    if not torch.cuda.is_available():
        return torch.float32
    return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16


def _by_component(held: "torch.dtype | None") -> Any:
    """As from_pretrained takes it."""
    return _dtype() if held is None else {"default": held, "vae": _dtype()}


def _first_line(error: Exception) -> str:
    line = next(iter(str(error).strip().splitlines()), "") or type(error).__name__
    return line if len(line) <= 240 else f"{line[:240]}..."


def scheduler(name: str, own: Any, steps: int) -> Any:
    """The sampler with the base's own betas, prediction type and timestep spacing. `own` is the base's scheduler.

    Raises NotSupported where base and sampler do not go together, SettingsError for a number of steps that it cannot make.
    """
    sampler = SAMPLERS[name]
    if "FlowMatch" in type(own).__name__:
        if sampler.flow is None:
            known = ", ".join(other for other, kind in SAMPLERS.items() if kind.flow)
            raise NotSupported(f"{name} is not for flow-matching bases; use {known}")
        return getattr(diffusers, sampler.flow).from_config(own.config)
    kind = getattr(diffusers, sampler.scheduler)
    options = dict(sampler.options)
    if own.config.get("rescale_betas_zero_snr") and "rescale_betas_zero_snr" not in inspect.signature(kind.__init__).parameters:
        options["trained_betas"] = _zero_snr_betas(own)
    try:
        made = kind.from_config(own.config, **options)
    except ImportError as error:
        raise NotSupported(f"{missing(f'sampler {name}', 'scipy')}, or use another sampler") from error
    try:
        made.set_timesteps(steps)
    except ValueError as error:
        raise SettingsError(f"{name} does not run with {steps} steps: {_first_line(error)}") from error
    first = [float(timestep) for timestep in made.timesteps[:2]]
    if len(set(first)) < len(first):
        # diffusers 0.42 looks a step up by its timestep and would begin with the second of two equal ones.
        raise NotSupported(f"{name} with {steps} steps repeats its first timestep on this base; take fewer steps or no Karras")
    return made


def _zero_snr_betas(own: Any) -> list[float]:
    """The betas of a base with zero terminal SNR for schedulers that cannot rescale them themselves.

    The last step keeps 2^-24 of the signal, as diffusers' EulerDiscreteScheduler does it: sigma would be infinite.
    """
    alphas = own.alphas_cumprod.double().clamp(min=2**-24)
    before = torch.cat([torch.ones(1, dtype=torch.float64), alphas[:-1]])
    return [float(beta) for beta in 1 - alphas / before]


@contextmanager
def _quiet() -> Iterator[None]:
    """No progress bars of diffusers and transformers while a model loads; ours say what is going on."""
    from diffusers.utils import logging as diffusers_logging
    from transformers.utils import logging as transformers_logging

    shown = [log for log in (diffusers_logging, transformers_logging) if log.is_progress_bar_enabled()]
    for log in shown:
        log.disable_progress_bar()
    try:
        yield
    finally:
        for log in shown:
            log.enable_progress_bar()
