"""What runs a network: how it is built there, timed, priced, and what was measured of it before.

Knows PyTorch and ONNX Runtime. Must not know what is optimized, or why.
"""
