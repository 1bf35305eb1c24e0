"""The packages that install, with their own loaders on a real pipeline: diffusers, PEFT and LyCORIS."""

import copy
import importlib.metadata
import logging
import warnings
from abc import abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from loraloom.adapters import Adapter
from loraloom.bases import Base, Target
from loraloom.bases.nano.model import load
from tools.interchange.peer import Change, Peer, Place, Places, Refused


class Package(Peer):
    """Its version is the installed one. What it raises while it reads a file refuses the file, whatever it is: its own errors are of
    any class."""

    @staticmethod
    @cache
    def shared() -> Any:
        """The random base, for who leaves it as it is."""
        return load()

    def fresh(self) -> Any:
        return copy.deepcopy(self.shared())

    def changes(self, path: Path, places: Places, base: Base, strength: float) -> Mapping[Target, Change]:
        try:
            with quiet():
                return self.read(path, places, strength)
        except Exception as error:
            raise Refused(str(error)) from error

    @abstractmethod
    def read(self, path: Path, places: Places, strength: float) -> Mapping[Target, Change]: ...


@contextmanager
def quiet() -> Iterator[None]:
    from diffusers.utils import logging as of_diffusers
    from transformers.utils import logging as of_transformers

    logging.getLogger("LyCORIS").setLevel(logging.CRITICAL)
    of_diffusers.set_verbosity(50)
    of_transformers.set_verbosity(50)
    of_transformers.disable_progress_bar()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def changed(pipeline: Any, places: Places) -> dict[Target, Change]:
    """What is different in the modules of a pipeline from the places' values; those that are the same are not in it."""
    found = {}
    for target, place in places.items():
        module = module_of(pipeline, target)
        weight = module.weight.detach() - place.weight
        bias = None if place.bias is None else module.bias.detach() - place.bias
        if bool(weight.any()) or (bias is not None and bool(bias.any())):
            found[target] = Change(weight, bias if bias is not None and bool(bias.any()) else None)
    return found


def module_of(pipeline: Any, target: Target) -> Any:
    name = target.module if target.component == "unet" else target.module.removeprefix("text_model.")
    return getattr(pipeline, target.component).get_submodule(name)


class Diffusers(Package):
    name: ClassVar[str] = "diffusers"
    title: ClassVar[str] = "diffusers"
    version: ClassVar[str] = f"{importlib.metadata.version('diffusers')} with transformers {importlib.metadata.version('transformers')}"

    def read(self, path: Path, places: Places, strength: float) -> Mapping[Target, Change]:
        pipeline = self.fresh()
        pipeline.load_lora_weights(path)
        pipeline.fuse_lora(components=["unet", "text_encoder"], lora_scale=strength)
        pipeline.unload_lora_weights()
        return changed(pipeline, places)


class Peft(Package):
    name: ClassVar[str] = "peft"
    title: ClassVar[str] = "PEFT"
    version: ClassVar[str] = importlib.metadata.version("peft")

    def read(self, path: Path, places: Places, strength: float) -> Mapping[Target, Change]:
        import peft

        pipeline = self.fresh()
        for component in {target.component for target in places}:
            folder = path / component if (path / component).is_dir() else path
            model = peft.PeftModel.from_pretrained(getattr(pipeline, component), folder)
            for module in model.modules():
                if isinstance(module, peft.tuners.tuners_utils.BaseTunerLayer):
                    module.scale_layer(strength)
            setattr(pipeline, component, model.merge_and_unload())
        return changed(pipeline, places)


@contextmanager
def nothing_besides() -> Iterator[None]:
    """LyCORIS makes a network of all modules before it reads a file, and throws it away; without its usual choice there are none. (Of a
    UNet of today's diffusers that choice takes the time embedding twice, by class and by name, and fails on it.)"""
    from lycoris.kohya import LycorisNetworkKohya

    chosen = {name: value for name, value in vars(LycorisNetworkKohya).items() if name.endswith(("_REPLACE_MODULE", "_REPLACE_NAME"))}
    for name in chosen:
        setattr(LycorisNetworkKohya, name, [])
    try:
        yield
    finally:
        for name, value in chosen.items():
            setattr(LycorisNetworkKohya, name, value)


class Lycoris(Package):
    """Beside the layers, as its network runs; compared by what the layers put out."""

    name: ClassVar[str] = "lycoris"
    title: ClassVar[str] = "LyCORIS"
    version: ClassVar[str] = importlib.metadata.version("lycoris_lora")

    def read(self, path: Path, places: Places, strength: float) -> Mapping[Target, Change]:
        from lycoris.kohya import create_network_from_weights

        pipeline = self.shared()
        encoder = nn.Module()
        encoder.text_model = pipeline.text_encoder  # as transformers 4 names it, and the files
        with nothing_besides():
            network, _ = create_network_from_weights(1.0, str(path), None, encoder, pipeline.unet)
        modules = {module.org_module[0]: module for module in network.unet_loras + network.text_encoder_loras}
        return {
            target: self.change(modules[module], place, strength)
            for target, place in places.items()
            if (module := module_of(pipeline, target)) in modules
        }

    def expected(self, adapter: Adapter, place: Place, strength: float) -> Change:
        meant = super().expected(adapter, place, strength)
        layer = copy.deepcopy(module_of(self.shared(), place.layer.target))
        before = put_out(layer, place)
        with torch.no_grad():
            for parameter, change in zip((layer.weight, layer.bias), meant, strict=True):
                if change is not None:
                    parameter += change
        return Change(put_out(layer, place) - before)

    def change(self, module: Any, place: Place, strength: float) -> Change:
        module.eval()
        module.multiplier = strength
        return Change(put_out(module, place) - put_out(module.org_module[0], place))


class LycorisMerged(Lycoris):
    name: ClassVar[str] = "lycoris merged"
    title: ClassVar[str] = "LyCORIS, merged"
    expected = Peer.expected

    def change(self, module: Any, place: Place, strength: float) -> Change:
        weight, bias = module.get_merged_weight(multiplier=strength, shape=place.weight.shape)
        shift = None if bias is None or place.bias is None else bias.detach() - place.bias
        return Change(weight.detach() - place.weight, shift if shift is not None and bool(shift.any()) else None)


@torch.no_grad()
def put_out(layer: Any, place: Place) -> Tensor:
    """On a fixed random input of the layer's own kind."""
    shape, text = place.weight.shape, place.layer.place.is_text
    if len(shape) == 1:
        size: tuple[int, ...] = (3, 5, *shape) if text else (3, *shape, 4, 4)
    else:
        size = (2, 5, shape[1]) if len(shape) == 2 else (2, shape[1], 6, 6)
    inputs = torch.randn(size, generator=torch.Generator().manual_seed(5))
    found: Tensor = layer(inputs)
    return found
