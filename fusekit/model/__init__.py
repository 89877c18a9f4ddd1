"""A module and its inputs: example inputs, copies, traced programs, runs in float64.

Knows torch. Must not know graphs, laws or runtimes.
"""

from fusekit.model.copies import overridden
from fusekit.model.evaluation import evaluation_copy, on_copy
from fusekit.model.float64 import run_float64, widened
from fusekit.model.inputs import Inputs, resize
from fusekit.model.patches import computing_threads, quiet
from fusekit.model.program import Freedom, export_program
from fusekit.model.surroundings import plain_modes

__all__ = [
    "Freedom",
    "Inputs",
    "computing_threads",
    "evaluation_copy",
    "export_program",
    "on_copy",
    "overridden",
    "plain_modes",
    "quiet",
    "resize",
    "run_float64",
    "widened",
]
