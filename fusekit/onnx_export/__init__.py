"""Writes a module as a verified ONNX file. If a check fails, it writes no file.

Knows torch.onnx, the format, and the names in a file. Must not know how the module was optimized.
"""

from fusekit.onnx_export.real_ends import INTERLEAVED, between_real_ends
from fusekit.onnx_export.write_file import export_onnx, export_plain

__all__ = [
    "INTERLEAVED",
    "between_real_ends",
    "export_onnx",
    "export_plain",
]
