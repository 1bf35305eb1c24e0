"""Embeddings that come with a network: new words for tokenizer and text encoder for the time of an attach.  arXiv:2208.01618.

The tokenizer is replaced by a copy that knows the words. The encoder's weights are not touched: an id that the base does not
have is hidden from it (older CLIP finds the end of the text as the highest id) and its vector put in where its row would stand.
"""

import copy
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from loraloom.engine.live import after_calls, before_calls, called
from loraloom.errors import EngineError, NotSupported
from loraloom.lazy import torch
from loraloom.lorafile import LoraFile
from loraloom.undo import Undo

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module


class Tokens:
    """The words of some networks on one pipeline."""

    def __init__(self, pipeline: Any, files: Iterable[LoraFile]) -> None:
        """Raises EngineError for one word with two meanings, NotSupported for an encoder that is not there or has another width."""
        self._pipeline = pipeline
        self._words: dict[str, dict[str, Tensor]] = {}  # by component
        owners: dict[tuple[str, str], LoraFile] = {}
        for file in files:
            for word, vectors in file.embeddings.items():
                for component, tensor in vectors.items():
                    owner = owners.setdefault((component, word), file)
                    known = self._words.setdefault(component, {}).setdefault(word, tensor)
                    if owner is not file and not torch.equal(known, tensor):
                        raise EngineError(f"{owner.name} and {file.name} both bring the word {word!r}, with different embeddings; use one")
        encoders = called(pipeline)
        for component, words in self._words.items():
            _check(pipeline, component, encoders.get(component), words)

    def teach(self, undo: Undo) -> None:
        """The words mean their embeddings from now on."""
        for component, words in self._words.items():
            name = component.replace("text_encoder", "tokenizer")
            tokenizer = copy.deepcopy(getattr(self._pipeline, name))
            vectors = _taught(tokenizer, words)
            undo.keep(self._pipeline, name)
            setattr(self._pipeline, name, tokenizer)
            _put_in(called(self._pipeline)[component], vectors, undo)


def _check(pipeline: Any, component: str, encoder: "Module | None", words: "Mapping[str, Tensor]") -> None:
    if encoder is None or getattr(pipeline, component.replace("text_encoder", "tokenizer"), None) is None:
        raise NotSupported(f"{', '.join(words)}: embeddings for {component}, which this pipeline does not have")
    if hasattr(encoder, "_orig_mod") or encoder._compiled_call_impl is not None:
        raise NotSupported(
            f"{component} is compiled, and the embeddings of {', '.join(words)} would not be seen; compile the denoiser only"
        )
    width = _embedding(encoder).weight.shape[1]
    for word, vectors in words.items():
        if vectors.ndim != 2 or vectors.shape[1] != width:
            raise NotSupported(f"{word}: embeddings of {list(vectors.shape)}, the {component} is {width} wide")


def _embedding(encoder: Any) -> Any:
    return encoder.get_input_embeddings()


def _taught(tokenizer: Any, words: "Mapping[str, Tensor]") -> "dict[int, Tensor]":
    """The vector of each new id. A word of several vectors is several words, as diffusers spells them: `w w_1 w_2`."""
    from transformers import AddedToken

    found = {}
    for word, vectors in words.items():
        for index, vector in enumerate(vectors):
            name = word if index == 0 else f"{word}_{index}"
            tokenizer.add_tokens(AddedToken(name, normalized=False))
            found[tokenizer.convert_tokens_to_ids(name)] = vector
    return found


def _put_in(encoder: "Module", vectors: "Mapping[int, Tensor]", undo: Undo) -> None:
    """Hooks that give the vectors for their ids."""
    ids = torch.tensor(sorted(vectors))
    table = torch.stack([vectors[number] for number in sorted(vectors)])
    given: list[tuple[Tensor, Tensor]] = []  # of the call that is running: where new ids stand, and which

    def hide(_: "Module", arguments: tuple[Any, ...], options: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        text: Tensor = arguments[0] if arguments else options["input_ids"]
        new = torch.isin(text, ids.to(text.device))
        given[:] = [(new, torch.searchsorted(ids.to(text.device), text[new]))]
        hidden = torch.where(new, 0, text)
        return ((hidden, *arguments[1:]), options) if arguments else (arguments, {**options, "input_ids": hidden})

    def show(_: "Module", inputs: "tuple[Tensor, ...]", output: "Tensor") -> "Tensor":
        new, which = given[0]
        changed = output.clone()
        changed[new.view(inputs[0].shape)] = table.to(output)[which]
        return changed

    before_calls(encoder, hide, undo)
    after_calls(_embedding(encoder), show, undo)
