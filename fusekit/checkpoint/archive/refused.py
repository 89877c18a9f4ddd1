"""The error for a part of an archive that is not allowed. Code that knows the file's name turns it into a
CheckpointError."""


class Refused(Exception):
    """An archive contains something that is not allowed. The message says where it is, what was found, and what was
    expected."""


def shown(value: object, most: int = 60) -> str:
    """A value as text for a one-line message, of at most `most` characters."""
    if isinstance(value, dict):
        return f"an object of {len(value):,} fields"
    if isinstance(value, list):
        return f"a list of {len(value):,}"
    text = ascii(value[: most + 1]) if isinstance(value, str) else ascii(value)
    return text if len(text) <= most else f"{text[: most - 4]} ..."
