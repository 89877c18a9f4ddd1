"""Decides whether two modules, files or graphs compute the same, by comparing both with a run in float64.

Knows modules, files and numbers. Must not know how one was made from the other.
"""

from fusekit.validation.judge import fault, validate
from fusekit.validation.reference import Reference
from fusekit.validation.tolerance import outputs_of
from fusekit.validation.verdict import Validation

__all__ = [
    "Reference",
    "Validation",
    "fault",
    "outputs_of",
    "validate",
]
