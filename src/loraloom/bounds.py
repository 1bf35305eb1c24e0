"""What every receiver of a request can hold: texts that any file can store, numbers that any language has."""

import re
from typing import Annotated

from pydantic import AfterValidator, Field

_NO_TEXT = re.compile("[\0\ud800-\udfff]")  # what ends texts in C, and halves of characters


def storable(text: str) -> str:
    """The text itself; raises ValueError for one with a character that no file can store."""
    wrong = _NO_TEXT.search(text)
    if wrong:
        what = f"the character {wrong.start() + 1} is U+{ord(wrong[0]):04X}"
        raise ValueError(f"{what}, which no file can store as text; leave it out")
    return text


Text = Annotated[str, AfterValidator(storable)]
Words = Annotated[Text, Field(max_length=100_000)]  # of a person
Name = Annotated[Text, Field(min_length=1, max_length=4096)]  # of a file, a base, a sampler
Whole = Annotated[int, Field(ge=-(2**53), le=2**53)]  # JavaScript has no others
Real = Annotated[float, Field(ge=-1e9, le=1e9, allow_inf_nan=False)]
