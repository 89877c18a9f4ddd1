"""The product's own interleaved timer, under the name benchmarks use."""

from fusekit.timing import Call, Times, interleaved

__all__ = ["Call", "Times", "interleaved"]
