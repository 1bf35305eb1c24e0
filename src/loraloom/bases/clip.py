"""Module names of transformers' CLIP text encoders, as files write them: with `text_model`, which transformers 5 dropped."""

from collections.abc import Iterator
from dataclasses import dataclass

from loraloom.bases.base import Kind, Layer, Target


@dataclass(frozen=True)
class TextEncoder:
    """The numbers of one CLIP text encoder."""

    component: str  # "text_encoder", "text_encoder_2"
    width: int
    depth: int
    vocabulary: int = 49408
    positions: int = 77
    projection: int = 0  # width of text_projection, where the class has one

    def layers(self) -> tuple[Layer, ...]:
        return tuple(self._walk())

    def _walk(self) -> Iterator[Layer]:
        def layer(name: str, kind: Kind, *shape: int) -> Layer:
            trained = kind == "linear" and ".layers." in name
            return Layer(Target(self.component, name), kind, shape, attention=trained)

        width = self.width
        yield layer("text_model.embeddings.token_embedding", "embedding", self.vocabulary, width)
        yield layer("text_model.embeddings.position_embedding", "embedding", self.positions, width)
        for index in range(self.depth):
            block = f"text_model.encoder.layers.{index}"
            yield layer(f"{block}.layer_norm1", "norm", width)
            for name in ("q_proj", "k_proj", "v_proj", "out_proj"):
                yield layer(f"{block}.self_attn.{name}", "linear", width, width)
            yield layer(f"{block}.layer_norm2", "norm", width)
            yield layer(f"{block}.mlp.fc1", "linear", 4 * width, width)
            yield layer(f"{block}.mlp.fc2", "linear", width, 4 * width)
        yield layer("text_model.final_layer_norm", "norm", width)
        if self.projection:
            yield layer("text_projection", "linear", self.projection, width)
