"""Random checkpoints in the layouts that people have, made of a pipeline."""

from pathlib import Path

import torch
from safetensors.torch import save_file

from loraloom.bases import Base
from loraloom.engine.live import live_modules


def single_file(pipeline, base: Base) -> dict[str, torch.Tensor]:
    """CompVis' and Stability's layout, by the tables; tests/test_basefile.py has diffusers read it back."""
    tensors, fused = {}, {}
    for target, module in live_modules(pipeline, base).items():
        for parameter, tensor in module.named_parameters(recurse=False):
            place = base.single_file[target.component].places(target.module, base.by_target[target].original, parameter)[0]
            value = tensor.detach().mT if place.turned else tensor.detach()
            if place.part is None:
                tensors[place.key] = value.contiguous()
            else:
                fused.setdefault(place.key, {})[place.part] = value
    return tensors | {key: torch.cat([parts[number] for number in range(3)]) for key, parts in fused.items()}


FOLDERS = {
    "folder": {},
    "shards": {"max_shard_size": "100KB"},
    "fp16 variant": {"variant": "fp16"},
    "fp16 variant of shards": {"variant": "fp16", "max_shard_size": "100KB"},
    "folder of transformers 4": {},
}
SINGLE_FILES = ("single file", "single file without text_model", "unet", "original unet")
LAYOUTS = (*FOLDERS, *SINGLE_FILES)


def saved(pipeline, base: Base, path: Path, layout: str) -> Path:
    """The pipeline at `path` in one of LAYOUTS."""
    if layout not in FOLDERS:
        save_file(_tensors(pipeline, base, layout), path)
        return path
    pipeline.save_pretrained(path, **FOLDERS[layout])
    if layout == "folder of transformers 4":
        for component in base.components[1:]:
            tensors = getattr(pipeline, component).state_dict()
            named = {key if key.startswith("text_") else f"text_model.{key}": value.contiguous() for key, value in tensors.items()}
            positions = {"text_model.embeddings.position_ids": torch.arange(32)[None]}
            save_file(named | positions, path / component / "model.safetensors")
    return path


def _tensors(pipeline, base: Base, layout: str) -> dict[str, torch.Tensor]:
    if layout == "unet":
        return {key: value.contiguous() for key, value in pipeline.unet.state_dict().items()}
    tensors, prefix = single_file(pipeline, base), "model.diffusion_model."
    if layout == "original unet":
        return {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
    return tensors if layout == "single file" else {key.replace(".text_model.", "."): value for key, value in tensors.items()}
