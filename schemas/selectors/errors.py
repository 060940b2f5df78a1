"""What all selectors have in common: their limits, and how a wrong one is told."""

import re

MAX_BYTES = 16 * 1024
"""Length of a selector's text."""
MAX_REQUIREMENTS = 64
"""Requirements of a label selector, terms of a field selector."""

_SURROGATE = re.compile("[\ud800-\udfff]")


class SelectorError(ValueError):
    """Not a selector, or none that can be answered.

    The text says what is wrong and at which character, counted from 1, or at which place of an object.
    """

    def __init__(self, message: str, next_step: str) -> None:
        super().__init__(message)
        self.next_step = next_step


def check_text(text: str) -> None:
    """Raises SelectorError for one that is too long, or no text."""
    size = len(text.encode(errors="surrogatepass"))
    if size > MAX_BYTES:
        raise SelectorError(f"a selector of {size} bytes, more than {MAX_BYTES}", "ask for less at a time")
    if (wrong := _SURROGATE.search(text)) is not None:
        raise SelectorError(f"character {wrong.start() + 1} of the selector is no text", "send it in UTF-8")
