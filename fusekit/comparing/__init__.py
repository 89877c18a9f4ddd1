"""Two models side by side: where their graphs differ (`diff`), and where their results part (`bisect`).

Knows graphs, files and how results are judged. Must not know how one model was made of the other, except where the
rewrites of an optimization are halved.
"""

from fusekit.comparing.difference import Difference
from fusekit.comparing.parting import Parting

__all__ = ["Difference", "Parting"]
