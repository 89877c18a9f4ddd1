"""An ONNX file with its linear regions folded, and all the rest as it came.

Knows the format, what its operators mean, and how a file is judged against another. Must not know modules of PyTorch,
or the command line.
"""

from fusekit.grafting.importing import as_graph
from fusekit.grafting.inputs import inputs_for, sizes_of
from fusekit.grafting.optimize_file import optimize_onnx, validate_onnx

__all__ = ["as_graph", "inputs_for", "optimize_onnx", "sizes_of", "validate_onnx"]
