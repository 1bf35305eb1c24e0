"""Trigger words of a network: from the files beside it, else from its metadata; the first source that has any.

Order: the notes beside the file (`sidecar.NOTES`), `modelspec.trigger_phrase`, `modelspec.tags`, `ss_tag_frequency`.
"""

from collections.abc import Mapping
from operator import itemgetter
from typing import Any, NamedTuple

import msgspec

from loraloom.catalogue.sidecar import MAX_WORD, MAX_WORDS, Sidecar, as_words


class Triggers(NamedTuple):
    """`words` in their order, from tag frequencies most frequent first; `sure` are those that a prompt may be given unasked."""

    words: tuple[str, ...]
    sure: tuple[str, ...]


def triggers(sidecar: Sidecar, metadata: Mapping[str, str]) -> Triggers:
    """Words that somebody wrote down are sure. Those that were only counted are sure if at least half of the pictures had them:
    the rest is what happened to be in the pictures."""
    told = (sidecar.words, as_words(metadata.get("modelspec.trigger_phrase")), as_words(metadata.get("modelspec.tags")))
    words = next((words for words in told if words), ())
    if words:
        return Triggers(words, words)
    words, counts = _counted(metadata.get("ss_tag_frequency", ""))
    counted = pictures(metadata) if words else 0
    return Triggers(words, words[: sum(2 * count >= counted for count in counts)] if counted else ())


def _counted(text: str) -> tuple[tuple[str, ...], tuple[float, ...]]:
    """The tags of `{"10_name": {"tag": 12}}` and how often they were counted over all folders; most frequent first, else in the
    order of the file. Whole lists at once: a library has thousands of files with hundreds of tags."""
    folders = list(_read(text, dict[str, dict[str, float]], {}).values())
    counts: dict[str, float] = {}
    for tags in folders:
        stripped = dict(zip(map(str.strip, tags), tags.values(), strict=True))
        if counts:
            stripped = counts | {word: count + counts.get(word, 0) for word, count in stripped.items()}
        counts = stripped
    counts.pop("", None)
    ranked = sorted(counts.items(), key=itemgetter(1), reverse=True)[:MAX_WORDS]
    while ranked and ranked[-1][1] <= 0:
        ranked.pop()
    words, numbers = zip(*ranked, strict=True) if ranked else ((), ())
    return (words if max(map(len, words), default=0) <= MAX_WORD else tuple(word[:MAX_WORD] for word in words)), numbers


def pictures(metadata: Mapping[str, str]) -> int:
    """How many pictures the tags were counted over; 0 if the file does not say. Not `ss_num_train_images`: that counts repeats."""
    folders = _read(metadata.get("ss_dataset_dirs", ""), dict[str, dict[str, Any]], {})
    if not folders:
        sets = _read(metadata.get("ss_datasets", ""), list[dict[str, Any]], [])
        subsets = [part for each in sets if isinstance(each.get("subsets"), list) for part in each["subsets"]]
        folders = {str(place): part for place, part in enumerate(subsets) if isinstance(part, dict)}
    counted = [folder.get("img_count") for folder in folders.values()]
    return sum(count for count in counted if isinstance(count, int) and not isinstance(count, bool) and count > 0)


def _read(text: str, kind: Any, default: Any) -> Any:
    if not text:
        return default
    try:
        return msgspec.json.decode(text, type=kind)
    except (msgspec.DecodeError, RecursionError):
        return default
