"""Emphasis and long prompts on CLIP: `encode_prompt` reads `(word:1.2)` and any number of tokens for the time of a `with`.

As in the Stable Diffusion WebUI (its emphasis "Original"): z' = w · z for each token's embedding z and weight w, then the mean of each
chunk is what it was before. docs/design/emphasis.md says why no library does it.

`encode_prompt` itself encodes the chunks, each as a prompt of its own, so that clip skip, dtypes and pooled vectors are the pipeline's.
Prompts that fit and weigh nothing are its own business: same call, same bits.
"""

import inspect
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from functools import partial, wraps
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from loraloom.engine.live import components
from loraloom.engine.rows import known
from loraloom.generate.chunks import Chunk, chunks
from loraloom.lazy import torch
from loraloom.prompts import unmarked
from loraloom.strength import is_text_encoder
from loraloom.undo import Undo, changing

if TYPE_CHECKING:
    from torch import Tensor

_CLIP = ("CLIPTextModel", "CLIPTextModelWithProjection")
_GIVEN = ("prompt_embeds", "negative_prompt_embeds", "prompt_2", "negative_prompt_2")  # by which a caller takes over


def encoders(pipeline: Any) -> Mapping[str, Any]:
    """The pipeline's text encoders by name."""
    return {name: part for name, part in components(pipeline).items() if is_text_encoder(name)}


def weighs(pipeline: Any) -> bool:
    """Whether emphasis and long prompts are run on this pipeline: one of Stable Diffusion's, with CLIP alone."""
    parts = encoders(pipeline)
    return (
        known(pipeline)
        and hasattr(pipeline, "encode_prompt")
        and bool(parts)
        and all(type(part).__name__ in _CLIP for part in parts.values())
    )


def count_chunks(pipeline: Any, *texts: str) -> int:
    """How many chunks the longest of these texts takes on this pipeline. Pictures are drawn together only where this is equal: an
    empty chunk is looked at too."""
    if not weighs(pipeline):
        return 1
    return max(len(found) for text in texts for found in _by_tokenizer(pipeline, text).values())


def texts(pipeline: Any, marked: Sequence[str]) -> list[str]:
    """Texts with emphasis marks as this pipeline gets them: without the marks where it weighs no words."""
    return list(marked) if weighs(pipeline) else [unmarked(text) for text in marked]


def emphasised(pipeline: Any) -> AbstractContextManager[None]:
    """Inside, `encode_prompt` reads emphasis marks, where the pipeline weighs words. Networks are attached inside of this, not around
    it: they encode a prompt once for each set of strengths."""
    return changing(partial(_emphasise, pipeline))


def _emphasise(pipeline: Any, undo: Undo) -> None:
    if not weighs(pipeline):
        return
    plain = pipeline.encode_prompt

    @wraps(plain)
    def encode_prompt(*arguments: Any, **options: Any) -> Any:
        call = inspect.signature(plain).bind(*arguments, **options)
        call.apply_defaults()
        return _encoded(pipeline, plain, call)

    undo.keep(pipeline, "encode_prompt")
    pipeline.encode_prompt = encode_prompt


def _encoded(pipeline: Any, plain: Any, call: inspect.BoundArguments) -> Any:
    asked = call.arguments
    if asked.get("prompt") is None or any(asked.get(name) is not None for name in _GIVEN):
        return plain(*call.args, **call.kwargs)
    prompts = _several(asked["prompt"], 1)
    negatives = None if asked.get("negative_prompt") is None else _several(asked["negative_prompt"], len(prompts))
    read = {text: _by_tokenizer(pipeline, text) for text in (*prompts, *(negatives or ()))}
    found = [each for parts in read.values() for each in parts.values()]
    count = max(map(len, found))
    if count == 1 and all(chunk.plain for each in found for chunk in each):
        call.arguments |= {name: _unmarked(asked[name]) for name in ("prompt", "negative_prompt") if asked.get(name) is not None}
        return plain(*call.args, **call.kwargs)
    rows = _Rows(pipeline, read, count)
    each = asked.get("num_images_per_prompt") or 1
    call.arguments |= {"prompt": rows.names(prompts), "num_images_per_prompt": 1}
    call.arguments |= {} if negatives is None else {"negative_prompt": rows.names(negatives)}
    with rows.read():
        embedded = plain(*call.args, **call.kwargs)
    return _joined(pipeline, embedded, rows, prompts, negatives, each)


def _several(given: "str | Sequence[str]", count: int) -> list[str]:
    return [given] * count if isinstance(given, str) else list(given)


def _unmarked(given: "str | Sequence[str]") -> "str | list[str]":
    return unmarked(given) if isinstance(given, str) else [unmarked(text) for text in given]


def _by_tokenizer(pipeline: Any, text: str) -> dict[str, list[Chunk]]:
    """The chunks of a text for each text encoder, by its name."""
    found = {}
    for name in encoders(pipeline):
        tokenizer = getattr(pipeline, _tokenizer(name))
        several = any(word.endswith("_1") for word in tokenizer.added_tokens_encoder)  # vectors of one word
        spelled = partial(pipeline.maybe_convert_prompt, tokenizer=tokenizer) if several else str
        found[name] = chunks(text, tokenizer, spelled)
    return found


def _tokenizer(encoder: str) -> str:
    return encoder.replace("text_encoder", "tokenizer")


class _Rows:
    """Chunks as rows of a batch, those of one text after one another. Texts with fewer chunks end with empty ones."""

    def __init__(self, pipeline: Any, read: Mapping[str, Mapping[str, list[Chunk]]], count: int) -> None:
        self._pipeline, self.count = pipeline, count
        self._places = {text: place for place, text in enumerate(read)}
        self._chunks: dict[str, dict[str, Chunk]] = {}  # by encoder and name of the row
        for encoder in encoders(pipeline):
            (empty,) = chunks("", getattr(pipeline, _tokenizer(encoder)))
            rows = {"": empty}  # what `encode_prompt` takes for a negative prompt that is not given
            for text, parts in read.items():
                padded = [*parts[encoder], *[empty] * (count - len(parts[encoder]))]
                rows |= dict(zip(self._names(text), padded, strict=True))
            self._chunks[encoder] = rows

    def names(self, texts: Sequence[str]) -> list[str]:
        """What stands for these texts in a call of `encode_prompt` inside of `read`."""
        return [name for text in texts for name in self._names(text)]

    def _names(self, text: str) -> list[str]:
        return [f"{self._places[text]}.{index}" for index in range(self.count)]

    def weights(self, encoder: str, texts: Sequence[str]) -> "Tensor":
        """[texts, chunks, positions]"""
        rows = [self._chunks[encoder][name].weights for name in self.names(texts)]
        return torch.tensor(rows).view(len(texts), self.count, -1)

    def read(self) -> AbstractContextManager[None]:
        """Inside, the pipeline's tokenizers give the rows' tokens for their names."""
        return changing(self._hand_over)

    def _hand_over(self, undo: Undo) -> None:
        for encoder, rows in self._chunks.items():
            name = _tokenizer(encoder)
            length = getattr(self._pipeline, name).model_max_length
            undo.keep(self._pipeline, name)
            setattr(self._pipeline, name, _RowTokenizer(length, rows))


class _RowTokenizer:
    """What `encode_prompt` asks of a tokenizer, for rows that are tokens already."""

    added_tokens_encoder: Mapping[str, int] = {}  # no words of several vectors: they are spelled out

    def __init__(self, length: int, rows: Mapping[str, Chunk]) -> None:
        self.model_max_length, self._rows = length, rows

    def tokenize(self, _: str) -> list[str]:
        return []

    def __call__(self, names: Sequence[str], **_: Any) -> SimpleNamespace:
        found = [self._rows[name] for name in names]
        ids = torch.tensor([chunk.ids for chunk in found])
        mask = torch.tensor([[int(place < chunk.used) for place in range(len(chunk.ids))] for chunk in found])
        return SimpleNamespace(input_ids=ids, attention_mask=mask)


def _joined(pipeline: Any, embedded: Any, rows: _Rows, prompts: Sequence[str], negatives: Sequence[str] | None, each: int) -> Any:
    """What `encode_prompt` gave for rows, as what it gives for prompts: one row each, `each` times."""
    halves = [prompts, negatives]
    joined: list[Tensor | None] = []
    for half, tensor in enumerate(embedded):
        if tensor is None:
            joined.append(None)
        elif tensor.ndim == 2:  # pooled: of the first chunk
            joined.append(tensor[:: rows.count].repeat_interleave(each, dim=0))
        else:
            texts = halves[half]
            found = tensor.unflatten(0, (-1, rows.count))
            weighed = found if texts is None else _weighed(pipeline, found, rows, texts)
            joined.append(weighed.flatten(1, 2).repeat_interleave(each, dim=0))
    return tuple(joined)


def _weighed(pipeline: Any, embedded: "Tensor", rows: _Rows, texts: Sequence[str]) -> "Tensor":
    """[texts, chunks, positions, width], the widths of the encoders side by side: each has a mean of its own."""
    parts = encoders(pipeline)
    pieces = torch.split(embedded, [part.config.hidden_size for part in parts.values()], dim=-1)
    return torch.cat([weigh(piece, rows.weights(name, texts)) for name, piece in zip(parts, pieces, strict=True)], dim=-1)


def weigh(embedded: "Tensor", weights: "Tensor") -> "Tensor":
    """z [..., positions, width] times w [..., positions]; each [positions, width] keeps its mean, where it has one.

    A layer norm without a shift leaves a mean that is rounding alone, up to u · mean|z| (u: the unit roundoff of z's dtype); a ratio of
    two such means says nothing.
    """
    weights = weights.to(embedded.device)
    if bool((weights == 1).all()):
        return embedded
    plain = embedded.float()
    changed = plain * weights[..., None]
    before, after = (tensor.mean((-2, -1), keepdim=True) for tensor in (plain, changed))
    least = torch.finfo(embedded.dtype).eps * plain.abs().mean((-2, -1), keepdim=True)
    ratio = torch.where((before.abs() > least) & (after.abs() > least), before / after, 1.0)
    unchanged = (weights == 1).all(-1)[..., None, None]
    return torch.where(unchanged, embedded, (changed * ratio).to(embedded.dtype))
