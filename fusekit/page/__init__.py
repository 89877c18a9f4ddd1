"""One self-contained HTML file with what an optimization did: tables, bars, and the graph before and after.

Knows HTML and plain records. Must not know models, graphs of torch, or how a report comes about.
"""

from fusekit.page.content import Check, Content, Figure, Timing
from fusekit.page.page import page, snippet, write_page
from fusekit.page.picture import Picture, PicturedBox, PicturedEvent
from fusekit.page.words import Words

__all__ = [
    "Check",
    "Content",
    "Figure",
    "Picture",
    "PicturedBox",
    "PicturedEvent",
    "Timing",
    "Words",
    "page",
    "snippet",
    "write_page",
]
