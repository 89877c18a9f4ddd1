"""What the standard operators mean, one family a file: the only files that know their attributes and versions.

A reader answers None for whatever it is not sure of.
"""

from fusekit.grafting.meaning import Reader
from fusekit.grafting.operators import activations, arithmetic, convolutions, parts, rearranged, windows

READERS: dict[str, Reader] = {
    **arithmetic.READERS,
    **activations.READERS,
    **convolutions.READERS,
    **parts.READERS,
    **rearranged.READERS,
    **windows.READERS,
}

__all__ = ["READERS"]
