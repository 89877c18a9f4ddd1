"""Compute layers over an algebra in fewer products (`fusekit/algebra/products/product_conv.py`).

    c = mix(C) ∘ Conv(A·F, groups = P) ∘ mix(B)        complex: 3 products for 4 blocks, quaternion: 8 for 16
    c = mix(Eᵀ) ∘ c' ∘ mix(E)                          parts that are never read or always zero left out: rotations
    mix(M₁) ∘ mix(M₂) = mix(M₁ M₂)                     between two such layers

The blocks are found in the numbers of the kernel, whoever put them there. There are fewer multiplications, but two
small matrices are applied to whole signals in addition. So it pays only with many channels; from which number on, only
a measurement says. The products are larger than their sum, so the rounding error grows. In half precision it becomes
some 1.7 times as large, which must be asked for (`half`); in single precision it stays near that of the convolution.
"""

from dataclasses import dataclass

import torch

from fusekit.algebra import Composition, Conv, Mixing
from fusekit.algebra.products.product_conv import algebra_of, by_products, without_zero_blocks
from fusekit.errors import Inapplicable
from fusekit.rewriting import Rewrite
from fusekit.rewriting.pattern import Compose, Having

_HALF = (torch.float16, torch.bfloat16)


@dataclass(frozen=True)
class UseProduct(Rewrite):
    """c = mix(C) ∘ Conv(A·F) ∘ mix(B) for a kernel Σ_u T[·, u, ·] ⊗ F_u, by the shortest algorithm for T. `half`: for
    kernels in half precision too, where rounding grows by some 1.7."""

    name = "use-product"
    pattern = Having(Conv, algebra_of)
    by_value = True
    gain = 0.75
    sized = True
    realizes = True
    hope = 1.5

    half: bool = False

    def propose(self, c: Conv) -> Composition:
        if c.kernel.dtype in _HALF and not self.half:
            raise Inapplicable(
                "products in half precision round more than the convolution: ask for them with half=True"
            )
        return by_products(c)


@dataclass(frozen=True)
class DropBlocks(Rewrite):
    """c = mix(Eᵀ) ∘ c' ∘ mix(E), where a part of the channels is not read, or its outputs are zero: it takes less."""

    name = "drop-blocks"
    pattern = Having(Conv, without_zero_blocks)
    by_value = True
    gain = 0.9
    sized = True
    realizes = True
    hope = 1.5

    def propose(self, c: Conv) -> Composition:
        return without_zero_blocks(c)


@dataclass(frozen=True)
class MergeMixings(Rewrite):
    """mix(M₁) ∘ mix(M₂) = mix(M₁ M₂)."""

    name = "merge-mixings"
    pattern = Compose(Mixing, Mixing)

    def propose(self, outer: Mixing, inner: Mixing) -> Mixing:
        return outer @ inner
