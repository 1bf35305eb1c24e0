"""Trigger words of a network: from the files beside it, else from its metadata; the first source that has any.

Order: `x.json`, `x.metadata.json`, `x.civitai.info`, `modelspec.trigger_phrase`, `modelspec.tags`, `ss_tag_frequency`.
"""

from collections import Counter
from collections.abc import Mapping
from typing import Any, NamedTuple

import msgspec

from loraloom.catalogue.sidecar import MAX_WORDS, Sidecar, as_word, as_words


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
    counts = _counts(metadata.get("ss_tag_frequency", "")).most_common(MAX_WORDS)
    pictures = _pictures(metadata)
    sure = tuple(tag for tag, count in counts if pictures and 2 * count >= pictures)
    return Triggers(tuple(tag for tag, _ in counts), sure)


def _counts(text: str) -> "Counter[str]":
    """`{"10_name": {"tag": 12}}`, summed over folders."""
    counts: Counter[str] = Counter()
    for tags in _read(text, dict[str, dict[str, float]], {}).values():
        for tag, count in tags.items():
            word = as_word(tag)
            if word and 0 < count < 1e15:
                counts[word] += int(count)
    return counts


def _pictures(metadata: Mapping[str, str]) -> int:
    """How many pictures the tags were counted over; 0 if the file does not say. Not `ss_num_train_images`: that counts repeats."""
    folders = _read(metadata.get("ss_dataset_dirs", ""), dict[str, dict[str, Any]], {})
    if not folders:
        sets = _read(metadata.get("ss_datasets", ""), list[dict[str, Any]], [])
        subsets = [part for each in sets if isinstance(each.get("subsets"), list) for part in each["subsets"]]
        folders = {str(place): part for place, part in enumerate(subsets) if isinstance(part, dict)}
    counted = [folder.get("img_count") for folder in folders.values()]
    return sum(count for count in counted if isinstance(count, int) and not isinstance(count, bool) and count > 0)


def _read(text: str, kind: Any, default: Any) -> Any:
    try:
        return msgspec.json.decode(text, type=kind)
    except (msgspec.DecodeError, RecursionError):
        return default
