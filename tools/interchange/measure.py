"""How a program reads a form in a naming: every change of a module beside ours, at strengths 1 and 0.7."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import cast

import torch

from loraloom.adapters import Adapter
from loraloom.bases import NANO, Target
from loraloom.dialects import write
from loraloom.errors import BadTensor, DialectCannotHold, SettingsError
from loraloom.lorafile import LoraFile
from tools.interchange.comfyui import ComfyUI, Forge
from tools.interchange.forms import FORMS
from tools.interchange.invokeai import InvokeAI
from tools.interchange.packages import Diffusers, Lycoris, LycorisMerged, Package, Peft, module_of
from tools.interchange.peer import Change, Peer, Place, Refused
from tools.interchange.sd_scripts import SDScripts
from tools.interchange.sdnext import SDNext

PEERS: tuple[Peer, ...] = (
    *(ComfyUI(), Forge(), SDNext(), InvokeAI(), SDScripts()),
    *(Diffusers(), Peft(), Lycoris(), LycorisMerged()),
)
STRENGTHS = (1.0, 0.7)
NEAR = 2e-5  # of a change, relative (Frobenius): float32's 6e-8 times the few hundred terms of a product, a hundredfold
# One layer of each kind; the names of files do not depend on more.
_LAYERS = {
    "attention": "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_v",
    "3×3": "unet.down_blocks.0.resnets.0.conv2",
    "text MLP": "text_encoder.text_model.encoder.layers.0.mlp.fc1",
    "text attention": "text_encoder.text_model.encoder.layers.0.self_attn.out_proj",
    "norm": "unet.down_blocks.0.attentions.0.norm",
    "text norm": "text_encoder.text_model.encoder.layers.0.layer_norm1",
    "embedding": "text_encoder.text_model.embeddings.token_embedding",
}


@dataclass(frozen=True)
class Reading:
    """How one program reads one form, by the kind of layer: the largest relative error at each strength, infinite where it finds
    nothing."""

    errors: Mapping[str, tuple[float, float]]
    refused: str = ""
    held: bool = True  # whether the naming holds the form at all

    def verdict(self, layer: str) -> str:
        """One of "whole", "at 1" (and not at 0.7), "wrong", "no" (not found), "refused"; "–" where the naming has no place."""
        if not self.held:
            return "–"
        if self.refused:
            return "refused"
        first, second = self.errors[layer]
        if first == float("inf"):
            return "no"
        return "wrong" if first > NEAR else "whole" if second <= NEAR else "at 1"


@cache
def places() -> Mapping[str, Place]:
    pipeline = Package.shared()
    found = {}
    for kind, name in _LAYERS.items():
        component, _, module = name.partition(".")
        layer = NANO.by_target[Target(component, module)]
        live = module_of(pipeline, layer.target)
        found[kind] = Place(layer, live.weight.detach(), None if getattr(live, "bias", None) is None else live.bias.detach())
    return found


@cache
def network(form: str) -> Mapping[str, Adapter]:
    """The form on every kind of layer that it can change, by kind."""
    found = {}
    for kind, place in places().items():
        if not FORMS[form].of(place.layer) or (FORMS[form].biased and place.bias is None):
            continue
        try:
            adapter = FORMS[form].make(place.weight)
            shapes = {suffix: tuple(tensor.shape) for suffix, tensor in adapter.tensors().items()}
            adapter.check(shapes)
        except (BadTensor, SettingsError):
            continue  # no butterfly of these rows
        if adapter.misfit(shapes, place.layer.shape) is None:
            found[kind] = adapter
    return found


def reading(peer: Peer, form: str, dialect: str, folder: Path) -> Reading:
    """One file of the form, as `peer` reads it. Files are made in `folder`, once each."""
    made, path = network(form), folder / f"{form} {dialect}.safetensors"
    meant = {places()[kind].layer.target: places()[kind] for kind in made}
    file = LoraFile({places()[kind].layer.target: adapter for kind, adapter in made.items()}, {}, "nano")
    try:
        if not path.exists():
            write(file, path, dialect, dtype=torch.float32)
        found = [peer.changes(path, meant, NANO, strength) for strength in STRENGTHS]
    except DialectCannotHold:
        return Reading({}, held=False)
    except Refused as error:
        return Reading({}, str(error) or "refused")
    return Reading({kind: cast("tuple[float, float]", tuple(_errors(peer, kind, adapter, found))) for kind, adapter in made.items()})


def _errors(peer: Peer, kind: str, adapter: Adapter, found: Sequence[Mapping[Target, Change]]) -> Iterator[float]:
    place = places()[kind]
    for strength, changes in zip(STRENGTHS, found, strict=True):
        change = changes.get(place.layer.target)
        yield math.inf if change is None else distance(change, peer.expected(adapter, place, strength))


def distance(found: Change, wanted: Change) -> float:
    """Relative to the change that was wanted, the weight's and the bias's together; what is not there counts as 0."""
    pairs = [(theirs, ours) for theirs, ours in zip(found, wanted, strict=True) if ours is not None]
    left = math.hypot(*(float((ours if theirs is None else theirs - ours).norm()) for theirs, ours in pairs))
    return left / math.hypot(*(float(ours.norm()) for _, ours in pairs))
