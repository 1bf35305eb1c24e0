"""A prompt that is read, and its mistakes raised or collected."""

from loraloom.prompts import Prompt, parse, parse_lenient


def parsed(text: str, mistakes: list[str] | None) -> Prompt:
    """The prompt; its mistakes go to `mistakes` where that is given, else the first is raised."""
    if mistakes is None:
        return parse(text)
    prompt, found = parse_lenient(text)
    mistakes += (str(mistake) for mistake in found)
    return prompt
