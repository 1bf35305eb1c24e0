"""What the base is taught to draw: concepts with a name and keywords, from emojibase and emojilib."""

import json
import re
from dataclasses import dataclass
from pathlib import Path

from tools.tiny_base.drawings import EmojiSet

SMILEYS, PEOPLE, ANIMALS, FOOD, TRAVEL, ACTIVITIES, OBJECTS, SYMBOLS = 0, 1, 3, 4, 5, 6, 7, 8  # emojibase groups
GROUPS = (SMILEYS, ANIMALS, FOOD, TRAVEL, ACTIVITIES, OBJECTS, PEOPLE, SYMBOLS)

# Twins that differ only in who is shown, where a face turns or what a clock says: they cost capacity and teach nothing.
_LEFT_OUT = re.compile(
    r"facing right|o.clock|-thirty|^(man|woman|men|women|boy|girl)\b.|^(family|couple with heart|kiss):|: (men|women|man|woman)\b"
    r"|button|^keycap|^input |Japanese .* button|squared|medium"
)


# Not taught yet: what is hardest to tell apart at 64 pixels for its number (people, signs, papers).
_NOT_YET = frozenset(
    {"book-paper", "money", "mail", "writing", "office", "medical", "science", "other-object", "place-map", "time", "hotel", "award-medal"}
)


@dataclass(frozen=True)
class Concept:
    hexcode: str
    name: str  # what a prompt says: "red apple"
    keywords: tuple[str, ...]
    group: int
    subgroup: str  # emojibase's: "animal-bird"
    noto: str  # the drawing's name in the Noto set


def taught(concept: Concept) -> bool:
    """Whether the base learns this concept; the others have words in the tokenizer and pictures in the autoencoder already."""
    return concept.group not in (PEOPLE, SYMBOLS) and concept.subgroup not in _NOT_YET


def _plain(text: str) -> str:
    return re.sub(r"[^a-z0-9 -]", "", text.lower().replace("’", "").replace(":", "").replace("_", " ")).strip()


def concepts(emojibase: Path, emojilib: Path, noto: EmojiSet) -> list[Concept]:
    """Every concept that has a Noto drawing, in Unicode order, without twins."""
    names = json.loads((emojibase / "en" / "data.json").read_text("utf-8"))
    keywords = json.loads((emojilib / "dist" / "emoji-en-US.json").read_text("utf-8"))
    subgroups = json.loads((emojibase / "meta" / "groups.json").read_text("utf-8"))["subgroups"]
    found = []
    for entry in sorted(names, key=lambda entry: entry.get("order", 0)):
        drawing = noto.name(entry["hexcode"])
        if entry.get("group") not in GROUPS or drawing is None or _LEFT_OUT.search(entry["label"]):
            continue
        name = _plain(entry["label"])
        words = (_plain(word) for word in (*entry.get("tags", ()), *keywords.get(entry["emoji"], ())))
        unique = tuple(dict.fromkeys(word for word in words if len(word) > 2 and word not in name.split() and word != name))
        found.append(Concept(entry["hexcode"], name, unique, entry["group"], subgroups[str(entry["subgroup"])], drawing))
    return found
