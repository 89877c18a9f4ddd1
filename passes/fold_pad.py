"""Let a convolution do its own zero padding and its own cropping.

    c ∘ pad(q) = c with padding p + q
    c ∘ pad_v(q) ∘ a = (c ∘ a) ∘ pad_w(q), a(w) = v      c pads nothing; with padding q where w = 0
    c ∘ pad_v(q) ∘ c1 = (c + Σ K v) ∘ pad_0(q) ∘ (c1 - v)                      c pads nothing
    c ∘ cut(q, t) = c with padding t·p - q, stride t·s and dilation t·d
    cut(q, t) ∘ c = c with padding p - s·q and stride s·t

A crop (q < 0) before a convolution that pads is no sum: the cropped border must stay zero. Padding that differs
between the sides is kept per side; ONNX convolutions take it as it is, torch's need an operator for the difference,
which the price knows. A slice of rows, or of every t-th, before a convolution becomes its stride; behind one, what
nobody reads is not computed.
"""

from dataclasses import dataclass, replace

import torch

from fusekit.algebra import Affine, Composition, Conv, Cut, Pad, Picking, ValuePad
from fusekit.algebra.values import is_zero
from fusekit.errors import Inapplicable
from fusekit.rewriting import Rewrite
from fusekit.rewriting.pattern import Compose


@dataclass(frozen=True)
class FoldPad(Rewrite):
    """c ∘ pad(q) = c with padding p + q."""

    name = "fold-pad"
    pattern = Compose(Conv, Pad)

    def propose(self, c: Conv, pad: Pad) -> Conv:
        return c @ pad


@dataclass(frozen=True)
class FoldAffineValuePad(Rewrite):
    """c ∘ pad_v(q) ∘ a = (c ∘ a) ∘ pad_w(q), a(w) = v."""

    name = "fold-affine-value-pad"
    pattern = Compose(Conv, ValuePad, Affine)

    def propose(self, c: Conv, pad: ValuePad, a: Affine) -> Conv | Composition:
        inner = pad.before(a)
        folded = c @ a
        return folded @ inner if isinstance(inner, Pad) else Composition((folded, inner))


@dataclass(frozen=True)
class FoldPickingValuePad(Rewrite):
    """c ∘ pad_v(q) ∘ p = (c ∘ p) ∘ pad_v(q)."""

    name = "fold-picking-value-pad"
    pattern = Compose(Conv, ValuePad, Picking)

    def propose(self, c: Conv, pad: ValuePad, picking: Picking) -> Composition:
        if len(pad.padding) > c.n:
            raise Inapplicable(f"the pad reaches beyond the {c.n} spatial axes")
        if pad.constants():
            raise Inapplicable("a channel that is picked twice may be padded with two values")
        return Composition((c @ picking, pad))


@dataclass(frozen=True)
class FoldConvValuePad(Rewrite):
    """c ∘ pad_v(q) ∘ c1 = (c + Σ K v) ∘ pad_0(q) ∘ (c1 - v): the bias of c1 is gone where it is what was padded."""

    name = "fold-conv-value-pad"
    pattern = Compose(Conv, ValuePad, Conv)

    def propose(self, c: Conv, pad: ValuePad, inner: Conv) -> Composition:
        if len(pad.padding) != c.n or inner.n != c.n:
            raise Inapplicable(f"the pad is of other axes than the {c.n} spatial ones")
        return Composition(((c @ pad.shift) @ Pad(pad.padding), _less(inner, pad)))


@dataclass(frozen=True)
class FoldCutIn(Rewrite):
    """c ∘ cut(q, t) = c with padding t·p - q, stride t·s and dilation t·d."""

    name = "fold-cut-in"
    pattern = Compose(Conv, Cut)

    def propose(self, c: Conv, cut: Cut) -> Conv:
        return c @ cut


@dataclass(frozen=True)
class FoldCut(Rewrite):
    """cut(q, t) ∘ c = c with padding p - s·q and stride s·t."""

    name = "fold-cut"
    pattern = Compose(Cut, Conv)

    def propose(self, cut: Cut, c: Conv) -> Conv:
        return cut @ c


def _less(c: Conv, pad: ValuePad) -> Conv:
    """c - v; without a bias where that is v, up to rounding."""
    bias = torch.zeros(c.out_channels, dtype=c.kernel.dtype, device=c.kernel.device) if c.bias is None else c.bias
    left = pad.less(Affine.of(None, bias, c.channel_axis))
    return replace(c, bias=None if is_zero(left.shift) else left.shift)
