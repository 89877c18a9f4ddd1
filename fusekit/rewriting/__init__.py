"""match -> propose -> cost -> verify -> commit: the driver that applies all laws.

Knows patterns, prices and the float64 check of a region. Must not know any particular law or runtime.
"""

from fusekit.rewriting.driver import MARGIN, Driver, Progress
from fusekit.rewriting.rewrite import Exactness, Rewrite, Stage
from fusekit.rewriting.verify import relative_error

__all__ = ["MARGIN", "Driver", "Exactness", "Progress", "Rewrite", "Stage", "relative_error"]
