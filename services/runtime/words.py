"""Numbers in what people read."""


def counted(number: int, noun: str) -> str:
    """`1 pod`, `2 pods`."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def are(number: int) -> str:
    """`is` of one, `are` of others."""
    return "is" if number == 1 else "are"
