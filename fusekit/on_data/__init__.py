"""Compares two models on a whole data set, batch by batch, and tells how their errors are distributed.

Knows data sets, references and the pools of a batch. Must not know how one model was made from the other.
"""

from fusekit.on_data.source import Source
from fusekit.on_data.verdict import OnData, SampleError

__all__ = ["OnData", "SampleError", "Source"]
