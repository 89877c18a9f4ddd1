"""What the standard operators mean, one family a file: the only files that know their attributes and versions.

A reader answers None for whatever it is not sure of.
"""

from fusekit.grafting.meaning import Reader
from fusekit.grafting.operators import (
    activations,
    arithmetic,
    convolutions,
    normalizations,
    parts,
    rearranged,
    resized,
    windows,
)

READERS: dict[str, Reader] = {
    **arithmetic.READERS,
    **activations.READERS,
    **convolutions.READERS,
    **normalizations.READERS,
    **parts.READERS,
    **rearranged.READERS,
    **resized.READERS,
    **windows.READERS,
}

__all__ = ["READERS"]
