"""What a caption says: the trigger in front, words around it, and what chance makes of it at a step."""

import re
from dataclasses import dataclass

from loraloom.lazy import torch
from loraloom.train.chance import Sample
from loraloom.train.config import ResolvedConfig


def one_line(text: str) -> str:
    return " ".join(text.split())


def lines(text: str) -> tuple[str, ...]:
    """Its lines that say anything, each on one line."""
    return tuple(filter(None, map(one_line, text.splitlines())))


PLACEHOLDERS = re.compile(r"\[(?:trigger|name)\]", re.IGNORECASE)  # where ai-toolkit puts the trigger


def in_place(text: str, trigger: str) -> str:
    """The trigger where the text has a place for it, as `[trigger], a cat`. Without a trigger the text stays."""
    return PLACEHOLDERS.sub(lambda _: trigger, text) if trigger else text


def with_trigger(caption: str, trigger: str) -> str:
    """The trigger in front, unless the caption has it as a whole word already."""
    if not trigger or _names(trigger, caption):
        return caption
    return f"{trigger}, {caption}" if caption else trigger


def _names(trigger: str, text: str) -> bool:
    return re.search(rf"(?<!\w){re.escape(trigger)}(?!\w)", text, re.IGNORECASE) is not None


@dataclass(frozen=True)
class Wording:
    """What happens to captions. `at_step` is a function of the sample alone."""

    trigger: str = ""
    prefix: str = ""
    suffix: str = ""
    dropout: float = 0.0  # of whole captions
    tag_dropout: float = 0.0  # of comma-separated parts
    shuffle: bool = False
    keep_first: int = 0  # parts at the beginning that stay where they are

    @classmethod
    def of(cls, job: ResolvedConfig) -> "Wording":
        return cls(
            trigger=job.trigger,
            prefix=one_line(job.caption_prefix),
            suffix=one_line(job.caption_suffix),
            dropout=job.caption_dropout,
            tag_dropout=job.tag_dropout,
            shuffle=job.caption_shuffle,
            keep_first=job.keep_first,
        )

    @property
    def is_fixed(self) -> bool:
        """Whether a caption is always as it is written, or left out whole."""
        return not self.shuffle and not self.tag_dropout

    def written(self, caption: str, *, trigger: bool = True) -> str:
        """The caption on one line with prefix, suffix and (not for regularisation pictures) the trigger."""
        around = in_place(one_line(f"{self.prefix} {caption} {self.suffix}"), self.trigger)
        around = re.sub(r"\s+,", ",", around).strip(", ")
        return with_trigger(around, self.trigger) if trigger else around

    def at_step(self, caption: str, sample: Sample) -> str:
        """The caption that this sample is trained with: dropped, thinned, shuffled with the trigger's part first, or as it is."""
        if self.dropout and sample.chance("caption dropout") < self.dropout:
            return ""
        if self.is_fixed:
            return caption
        parts = [part.strip() for part in caption.split(",") if part.strip()]
        stays = [index < self.keep_first or bool(self.trigger and _names(self.trigger, part)) for index, part in enumerate(parts)]
        kept = [part for part, stay in zip(parts, stays, strict=True) if stay]
        others = [part for part, stay in zip(parts, stays, strict=True) if not stay]
        if self.tag_dropout:
            chances = torch.rand(len(others), generator=sample.generator("tag dropout")).tolist()
            others = [part for part, chance in zip(others, chances, strict=True) if chance >= self.tag_dropout]
        if self.shuffle:
            order = torch.randperm(len(others), generator=sample.generator("caption shuffle")).tolist()
            others = [others[index] for index in order]
        return ", ".join([*kept, *others])
