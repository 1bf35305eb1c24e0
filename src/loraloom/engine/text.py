"""Text encoders: the prompt is encoded once for each distinct set of strengths, and each step gets its own embeddings.

`encode_prompt` is wrapped for the time of an attach. What it returns is right for step 1; where strengths change, the
denoiser's input is replaced at every later step. diffusers' step callback fires after a step and offers too few tensors.
"""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from loraloom.engine.mixture import Half, Mixture, Slots
from loraloom.engine.rows import Row, known, picture
from loraloom.errors import EngineError, NotSupported
from loraloom.lazy import torch
from loraloom.undo import Undo

if TYPE_CHECKING:
    from torch import Tensor

Encoded = tuple["Tensor | None", ...]  # (prompt, negative) and, with a pooled vector, (prompt, negative, pooled, negative pooled)


@dataclass
class _Call:
    """The last call of encode_prompt, and what it gives for each set of strengths."""

    arguments: inspect.BoundArguments
    results: dict[Any, Encoded] = field(default_factory=dict)


class Text:
    """The text side of one attach. `go_to` sets the encoders' strengths for a step."""

    def __init__(self, pipeline: Any, mixture: Mixture, slots: Slots, go_to: Callable[[int, int], None]) -> None:
        own = slots.of_text()
        self._pipeline, self._mixture, self._slots, self._go_to = pipeline, mixture, slots, go_to
        self._own = own
        self.varies = slots.vary(own)
        self.wrapped = self.varies or slots.differ(own)
        self._plain: Any = getattr(pipeline, "encode_prompt", None)
        self._call: _Call | None = None
        self._calls: dict[str, int] = {}  # of each encoder, in the running encode_prompt
        if self.wrapped and self._plain is None:
            raise NotSupported(f"{type(pipeline).__name__} has no encode_prompt: its text encoders run one constant strength only")
        if self.varies and not known(pipeline):
            raise NotSupported(
                f"{type(pipeline).__name__}: how it hands embeddings on is not known, so text encoder strengths that change by step are "
                "not run; give te= one number"
            )

    def attach(self, undo: Undo) -> None:
        """Wrap encode_prompt, where it has to be."""
        if self.wrapped:
            undo.keep(self._pipeline, "encode_prompt")
            self._pipeline.encode_prompt = self._encode

    def columns(self, encoder: str, batch: int) -> list[int]:
        """The column of each row of an encoder's call. encode_prompt asks every encoder for the prompts, then for the negative ones."""
        nth = self._calls.get(encoder)
        half: Half = "neg" if nth else "pos"
        if nth is not None:
            self._calls[encoder] = nth + 1
        pictures = self._mixture.pictures
        return [self._mixture.column(picture(index, batch, pictures), half) for index in range(batch)]

    def replaced(self, step: int, steps: int, rows: Sequence[Row], inputs: Mapping[str, Any]) -> dict[str, Any]:
        """The denoiser's keyword arguments with the embeddings of this step."""
        if self._call is None:
            raise EngineError(
                "text encoder strengths change by step, and this run has not called the pipeline's encode_prompt; give prompts"
            )
        first, now = next(iter(self._call.results.values())), self._result(step, steps)
        changed = dict(inputs)
        changed["encoder_hidden_states"] = _swapped(inputs.get("encoder_hidden_states"), first[:2], now[:2], rows)
        condition = inputs.get("added_cond_kwargs")
        if len(now) == 4 and condition and "text_embeds" in condition:
            changed["added_cond_kwargs"] = {**condition, "text_embeds": _swapped(condition["text_embeds"], first[2:], now[2:], rows)}
        return changed

    def _encode(self, *arguments: Any, **options: Any) -> Encoded:
        call = inspect.signature(self._plain).bind(*arguments, **options)
        call.apply_defaults()
        given = [name for name in ("prompt_embeds", "negative_prompt_embeds") if call.arguments.get(name) is not None]
        if given:
            raise EngineError(
                f"{', '.join(given)}: strengths of text encoders change by picture, half or step; give prompts, not embeddings"
            )
        _one_row_for_each_mix(call.arguments, self._mixture.pictures)
        self._call = _Call(call)
        return self._result(1, 1)  # step 1 is at fraction 0 in a run of any length

    def _result(self, step: int, steps: int) -> Encoded:
        assert self._call is not None
        values = self._slots.at(step, steps)
        state = tuple(tuple(column[slot] for slot in self._own) for column in values)
        if state not in self._call.results:
            self._go_to(step, steps)
            self._calls = dict.fromkeys(("text_encoder", "text_encoder_2", "text_encoder_3"), 0)
            try:
                self._call.results[state] = self._plain(*self._call.arguments.args, **self._call.arguments.kwargs)
            finally:
                self._calls = {}
        return self._call.results[state]


def _one_row_for_each_mix(arguments: dict[str, Any], pictures: int) -> None:
    """Prompts repeated where several pictures of one prompt have different mixes: encode_prompt itself repeats after encoding."""
    prompts = [arguments["prompt"]] if isinstance(arguments["prompt"], str) else list(arguments["prompt"])
    each = arguments.get("num_images_per_prompt") or 1
    if pictures <= len(prompts) or each == 1:
        return
    for name in ("prompt", "prompt_2", "prompt_3", "negative_prompt", "negative_prompt_2", "negative_prompt_3"):
        texts = arguments.get(name)
        if isinstance(texts, str) and name.startswith("prompt"):
            texts = [texts]
        if isinstance(texts, list | tuple):
            arguments[name] = [text for text in texts for _ in range(each)]
    arguments["num_images_per_prompt"] = 1


def _swapped(given: Any, first: "Sequence[Tensor | None]", now: "Sequence[Tensor | None]", rows: Sequence[Row]) -> "Tensor":
    """`given`, which the pipeline made of `first`, made of `now`. Raises EngineError if it is not that."""
    expected = _stacked(first, rows)
    if (
        not isinstance(given, torch.Tensor)
        or expected is None
        or given.shape != expected.shape
        or not torch.equal(given, expected.to(given))
    ):
        raise EngineError(
            "the pipeline changed the prompt's embeddings on their way (prompt weighting, an IP-Adapter, embeddings of your own), so "
            "text encoder strengths that change by step cannot be followed; give te= one number"
        )
    found = _stacked(now, rows)
    assert found is not None
    return found.to(given)


def _stacked(halves: "Sequence[Tensor | None]", rows: Sequence[Row]) -> "Tensor | None":
    found = [(halves[0] if row.half == "pos" else halves[1], row.place) for row in rows]
    if any(half is None or index >= len(half) for half, index in found):
        return None
    return torch.stack([half[index] for half, index in found if half is not None])
