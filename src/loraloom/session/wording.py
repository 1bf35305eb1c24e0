"""A prompt's text on its way to the encoder, and what is said about it."""

from loraloom.prompts import Prompt, parse, parse_lenient


def parsed(text: str, mistakes: list[str] | None) -> Prompt:
    """The prompt; its mistakes go to `mistakes` where that is given, else the first is raised."""
    if mistakes is None:
        return parse(text)
    prompt, found = parse_lenient(text)
    mistakes += (str(mistake) for mistake in found)
    return prompt


def words(prompt: Prompt) -> str:
    """The text for an encoder that knows no weights: emphasis marks are not words."""
    return "".join(text for text, _ in prompt.emphasis)


def unweighted(prompt: Prompt) -> tuple[str, ...]:
    """A note where the prompt weights words, which `words` does not."""
    weighted = any(weight != 1 for _, weight in prompt.emphasis)
    return ("emphasis like (word:1.2) is not run yet; the words are drawn with weight 1",) if weighted else ()
