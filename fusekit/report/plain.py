"""What a terminal would show, as plain text: for `str()`, logs and notebooks without HTML."""

import io

from rich.console import Console, RenderableType

WIDTH = 120


def plain(shown: RenderableType, width: int = WIDTH) -> str:
    """The text without colours, at most `width` columns wide, without the spaces at its end."""
    buffer = io.StringIO()
    Console(file=buffer, width=width, no_color=True, highlight=False).print(shown)
    return buffer.getvalue().rstrip()
