"""Initial values for the layers of `fusekit.nn`."""

from fusekit.nn.init.complex import (
    complex_phase_,
    complex_rayleigh_,
    complex_unitary_,
    complex_variance,
)
from fusekit.nn.init.quaternion import (
    quaternion_chi_,
    quaternion_init,
    quaternion_unitary_,
    unitary_init,
)

__all__ = [
    "complex_phase_",
    "complex_rayleigh_",
    "complex_unitary_",
    "complex_variance",
    "quaternion_chi_",
    "quaternion_init",
    "quaternion_unitary_",
    "unitary_init",
]
