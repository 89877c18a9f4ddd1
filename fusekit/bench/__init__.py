"""Benchmarks: how fast a network is before and after the optimization, and after that of other tools.

Knows the other tools and how to measure time. Must not know how a rewrite works.
"""

from fusekit.bench.contenders import file_versions, versions
from fusekit.bench.measure import Bench

__all__ = [
    "Bench",
    "file_versions",
    "versions",
]
