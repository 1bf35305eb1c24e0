"""Module names of transformers' CLIP text encoders, as files write them: with `text_model`, which transformers 5 dropped."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from loraloom.bases.base import Kind, Layer, Target
from loraloom.bases.singlefile import Place

_OPENCLIP = {
    "layer_norm1": "ln_1",
    "self_attn.out_proj": "attn.out_proj",
    "layer_norm2": "ln_2",
    "mlp.fc1": "mlp.c_fc",
    "mlp.fc2": "mlp.c_proj",
}


@dataclass(frozen=True)
class TextEncoder:
    """The numbers of one CLIP text encoder."""

    component: str  # "text_encoder", "text_encoder_2"
    width: int
    depth: int
    vocabulary: int = 49408
    positions: int = 77
    projection: int = 0  # width of text_projection, where the class has one
    unread: int = 0  # last layers, and what follows them, that the denoiser does not see

    def layers(self) -> tuple[Layer, ...]:
        return tuple(self._walk())

    def openclip(self) -> Mapping[str, Place]:
        """Where OpenCLIP, which trained the larger encoders, keeps each parameter of these layers."""
        found = {
            "text_model.embeddings.token_embedding.weight": Place("token_embedding.weight"),
            "text_model.embeddings.position_embedding.weight": Place("positional_embedding"),
        }
        if self.projection:
            found["text_projection.weight"] = Place("text_projection", turned=True)
        for parameter in ("weight", "bias"):
            found[f"text_model.final_layer_norm.{parameter}"] = Place(f"ln_final.{parameter}")
            for index in range(self.depth):
                ours, theirs = f"text_model.encoder.layers.{index}", f"transformer.resblocks.{index}"
                for part, name in enumerate(("q_proj", "k_proj", "v_proj")):
                    found[f"{ours}.self_attn.{name}.{parameter}"] = Place(f"{theirs}.attn.in_proj_{parameter}", part)
                for name, original in _OPENCLIP.items():
                    found[f"{ours}.{name}.{parameter}"] = Place(f"{theirs}.{original}.{parameter}")
        return found

    def _walk(self) -> Iterator[Layer]:
        def layer(name: str, kind: Kind, *shape: int, number: int = 0) -> Layer:
            trained, unread = kind == "linear" and ".layers." in name, number > self.depth - self.unread
            return Layer(Target(self.component, name), kind, shape, unread=unread, attention=trained)

        width = self.width
        yield layer("text_model.embeddings.token_embedding", "embedding", self.vocabulary, width)
        yield layer("text_model.embeddings.position_embedding", "embedding", self.positions, width)
        for index in range(self.depth):
            block, number = f"text_model.encoder.layers.{index}", index + 1
            yield layer(f"{block}.layer_norm1", "norm", width, number=number)
            for name in ("q_proj", "k_proj", "v_proj", "out_proj"):
                yield layer(f"{block}.self_attn.{name}", "linear", width, width, number=number)
            yield layer(f"{block}.layer_norm2", "norm", width, number=number)
            yield layer(f"{block}.mlp.fc1", "linear", 4 * width, width, number=number)
            yield layer(f"{block}.mlp.fc2", "linear", width, 4 * width, number=number)
        yield layer("text_model.final_layer_norm", "norm", width, number=self.depth)
        if self.projection:
            yield layer("text_projection", "linear", self.projection, width)
