"""A module to a verified ONNX file, or to no file at all.

Knows torch.onnx, the format, and the names in a file. Must not know how the module was optimized.
"""
