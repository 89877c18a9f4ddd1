"""The whole optimization: capture, lower, the stages of passes, emit; then the check that the result is right and not
slower.

Knows the rooms below and the order in which they are used. Must not know the command line or checkpoint files.
"""

from fusekit.optimizing.options import Options
from fusekit.optimizing.promise_file import Export
from fusekit.optimizing.promise_module import optimized

__all__ = [
    "Export",
    "Options",
    "optimized",
]
