"""Initial values for the layers of `fusekit.nn`."""

from fusekit.nn.init.complex import (
    complex_phase_,
    complex_rayleigh_,
    complex_unitary_,
    complex_variance,
)

__all__ = [
    "complex_phase_",
    "complex_rayleigh_",
    "complex_unitary_",
    "complex_variance",
]
