"""Text that came from elsewhere, as it may be shown on a terminal."""


def printable(text: str) -> str:
    """One line. What a cluster holds, or somebody typed, must not reach the terminal as an escape sequence,
    nor turn around what stands beside it."""
    return "".join(c if c.isprintable() else " " if c in "\r\n\t" else f"\\x{ord(c):02x}" for c in text)
