"""The way through: capture, lower, the stages, emit; then the promise that the whole is right and not slower.

Knows all rooms below and in which order they are visited. Must not know the command line, or files of checkpoints.
"""

from fusekit.optimizing.options import Options
from fusekit.optimizing.promise_file import Export
from fusekit.optimizing.promise_module import optimized

__all__ = [
    "Export",
    "Options",
    "optimized",
]
