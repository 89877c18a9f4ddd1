"""An ONNX file with its linear regions folded, and all the rest as it came.

Knows the format, what its operators mean, and how a file is judged against another. Must not know modules of PyTorch,
or the command line.
"""

from fusekit.grafting.optimize_file import optimize_onnx

__all__ = ["optimize_onnx"]
