"""Why a part of an archive is not taken. Whoever knows the file's name makes a CheckpointError of it."""


class Refused(Exception):
    """What stands in an archive is none of what may stand there: where it is, what came, and what is expected."""


def shown(value: object, most: int = 60) -> str:
    """What came, in a form that fits a message of one line, however large it is."""
    if isinstance(value, dict):
        return f"an object of {len(value):,} fields"
    if isinstance(value, list):
        return f"a list of {len(value):,}"
    text = ascii(value[: most + 1]) if isinstance(value, str) else ascii(value)
    return text if len(text) <= most else f"{text[: most - 4]} ..."
