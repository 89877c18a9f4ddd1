"""How fast a network is, before and after, and what others make of it.

Knows competitors and clocks. Must not know how a rewrite works.
"""

from fusekit.bench.contenders import file_versions, versions
from fusekit.bench.measure import Bench

__all__ = [
    "Bench",
    "file_versions",
    "versions",
]
