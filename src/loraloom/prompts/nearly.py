"""What is nearly a tag: other brackets, escapes of HTML, JSON and URLs, characters that look alike or are invisible, the tags of other
tools. Found, so that it is never drawn as words."""

import re
import unicodedata
from dataclasses import dataclass

from loraloom.errors import PromptError

# Zero width, byte order mark, soft hyphen, directions of writing. Joiners are no part of it: letters and emoji need them.
INVISIBLE = re.compile("[\u00ad\u200b\u200e\u200f\u202a-\u202e\u2060-\u2069\ufeff]")
TYPES = ("lora", "lyco", "loha", "lokr", "dora", "locon")  # each means a network, whatever adapters it holds
OPENING = re.compile(rf"<(?:{'|'.join(TYPES)}):\s*", re.IGNORECASE)
_ESCAPES = r"&(?:amp;)*(?:lt|gt|colon|#0*(?:58|60|62)|#x0*3[ace]);?|%3[ace]|\\u003[ace]|\\[<>:]"
_SIGN = re.compile(rf"{_ESCAPES}|.", re.IGNORECASE | re.DOTALL)
_MEANT = (("<", r"lt|60|3c|<"), (">", r"gt|62|3e|>"), (":", r"colon|58|3a|:"))
# Characters that NFKC does not make one of ours: brackets, colons, and letters of other alphabets that look like those of `lora`, `lyco`.
_ALIKE = {
    **dict.fromkeys("〈《⟨⟪‹«❮≪˂", "<"),
    **dict.fromkeys("〉》⟩⟫›»❯≫˃", ">"),
    **dict.fromkeys("꞉∶ː˸։", ":"),
    **dict(zip("оасуοαӏ", "oacyoal", strict=True)),
}


def _slips(word: str) -> set[str]:
    """The word with two neighbours swapped, with a letter missing or doubled."""
    return {
        *(word[:n] + word[n + 1] + word[n] + word[n + 2 :] for n in range(len(word) - 1)),
        *(word[:n] + word[n + 1 :] for n in range(1, len(word))),
        *(word[:n] + word[n] + word[n:] for n in range(len(word))),
    } - set(TYPES)


_ANY = "|".join((*TYPES, "lycoris", "hypernet"))
_SLIPS = "|".join(sorted({*_slips("lora"), *_slips("lyco"), "loras"}))
_NUMBER = r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)"
_NAME = r"(?!(?:[0-9.]+)\s*[])}])[^\s:,<>()\[\]{}]+"  # a number behind a colon is emphasis: (lora:1.2)
_FORMS = (
    re.compile(
        rf"<[\s/]*(?P<type>{_ANY})(?![\w-])(?:\s*(?P<mark>[:=;|])(?P<rest>[^<>]*)|(?P<spaced>\s[^<>]*[:=][^<>]*)|\s*(?=>|\Z))(?P<end>>)?",
        re.IGNORECASE,
    ),
    re.compile(rf"<\s*(?P<type>{_SLIPS})\s*:\s*(?P<rest>[^<>:]+:\s*{_NUMBER}[^<>]*)(?P<end>>)", re.IGNORECASE),
    re.compile(rf"[\[({{]\s*(?P<type>lora|lyco)\s*:\s*(?P<rest>{_NAME}(?::[^<>()\[\]{{}}]*)?)(?P<end>[])}}])", re.IGNORECASE),
    re.compile(rf"(?<![\w<])(?P<type>lora|lyco):(?P<rest>{_NAME}:{_NUMBER})(?P<end>)(?![\w.])", re.IGNORECASE),
    re.compile(rf"\b(?P<type>(?:with|use)lora)\(\s*(?P<rest>[^,<>()]+?)\s*(?:,\s*(?P<number>{_NUMBER})\s*)?(?P<end>\))", re.IGNORECASE),
)


@dataclass(frozen=True, slots=True)
class Nearly:
    """A stretch of the prompt that is nearly a tag. It leaves the text where it is `closed`."""

    start: int
    stop: int
    closed: bool
    mistake: PromptError


def find_nearly(text: str, source: str) -> list[Nearly]:
    """All of them, in order, none inside another; columns are those of `text`, which stands for `source` character by character and has
    spaces for what is a tag."""
    plain, starts = _plain(text)
    if not re.search(rf"{_ANY}|{_SLIPS}", plain, re.IGNORECASE):
        return []
    found: list[Nearly] = []
    matches = (match for form in _FORMS for match in form.finditer(plain))
    for match in sorted(matches, key=lambda match: (match.start(), -match.end())):
        closed = match["end"] is not None
        start, stop = starts[match.start()], starts[match.end() if closed else match.end("type")]
        # `<lora:` itself that is no tag is a mistake already: it is not closed.
        if OPENING.match(source, start) or (found and start < found[-1].stop):
            continue
        found.append(Nearly(start, stop, closed, _mistake(match, source, start, stop)))
    return found


def _mistake(match: re.Match[str], source: str, start: int, stop: int) -> PromptError:
    parts = match.groupdict()
    kind = parts["type"].lower()
    if kind == "hypernet":
        message = "hypernetworks are not supported; use a LoRA, as in <lora:ink:0.8>"
    else:
        hidden = INVISIBLE.search(source, start, stop)
        why = f", with an invisible character (U+{ord(hidden.group()):04X})" if hidden else ""
        message = f"this is nearly a tag{why}; write <{kind if kind in TYPES else 'lora'}:{_inside(parts) or 'ink:0.8'}>"
    return PromptError(message, prompt=source, column=start, length=stop - start)


def _inside(parts: dict[str, str | None]) -> str:
    """What was meant between the colon behind the type and the >; "" where it cannot be told."""
    if parts["end"] is None:
        return ""
    rest = (parts["rest"] or parts.get("spaced") or "").replace(parts.get("mark") or ":", ":")
    return ":".join(filter(None, (rest.strip(), parts.get("number"))))


def _plain(text: str) -> tuple[str, list[int]]:
    """The text in the characters of a tag, and where each of them begins in `text`; at the end, where the text ends."""
    signs: list[str] = []
    starts: list[int] = []
    for match in _SIGN.finditer(text):
        sign = _sign(match.group())
        signs.append(sign)
        starts += [match.start()] * len(sign)
    return "".join(signs), [*starts, len(text)]


def _sign(written: str) -> str:
    """One character of a tag for what was written; "" for what is invisible."""
    if len(written) > 1:
        return next(sign for sign, spelled in _MEANT if re.search(rf"(?:{spelled});?$", written, re.IGNORECASE))
    if written.isascii():
        return written
    if INVISIBLE.match(written):
        return ""
    folded = unicodedata.normalize("NFKC", written)
    return _ALIKE.get(written) or (folded if len(folded) == 1 else written)
