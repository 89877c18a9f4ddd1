"""Quaternion arithmetic and layers, computed number by number. The layers are compared with these."""

import hypothesis.strategies as st
import torch
from torch import Tensor

from fusekit.testing.strategies import gaussian


@st.composite
def _tensors(draw: st.DrawFn, *shape: int) -> Tensor:
    return gaussian(draw, *shape)


def drawn(data: st.DataObject, *shape: int) -> Tensor:
    """A seeded random float64 tensor."""
    return data.draw(_tensors(*shape))


UNITS = ("r", "i", "j", "k")
SIGNED = {"ij": "k", "jk": "i", "ki": "j", "ji": "-k", "kj": "-i", "ik": "-j", "ii": "-r", "jj": "-r", "kk": "-r"}


def hamilton(a: Tensor, b: Tensor) -> Tensor:
    """a ⊗ b of [*, 4] by the nine products of units."""
    a, b = torch.broadcast_tensors(a, b)
    out = torch.zeros_like(a)
    for m, first in enumerate(UNITS):
        for n, second in enumerate(UNITS):
            unit = second if first == "r" else first if second == "r" else SIGNED[first + second]
            sign = -1 if unit.startswith("-") else 1
            out[..., UNITS.index(unit[-1])] += sign * a[..., m] * b[..., n]
    return out


def conjugate(a: Tensor) -> Tensor:
    return a * torch.tensor([1, -1, -1, -1], dtype=a.dtype)


def numbers(x: Tensor) -> Tensor:
    """[*, 4 C] in blocks r | i | j | k -> [*, C, 4]."""
    parts: Tensor = x.unflatten(-1, (4, -1))
    return parts.transpose(-1, -2)


def blocks(q: Tensor) -> Tensor:
    """[*, C, 4] -> [*, 4 C], the inverse of `numbers`."""
    return q.transpose(-1, -2).flatten(-2)


def linear(x: Tensor, w: Tensor) -> Tensor:
    """y_o = Σ_i w_oi ⊗ x_i; w [4, out, in]."""
    return blocks(hamilton(w.movedim(0, -1), numbers(x).unsqueeze(-3)).sum(-2))


def rotation(x: Tensor, w: Tensor, inverse: bool = False) -> Tensor:
    """y_o = Σ_i q_oi v_i q_oi*, v the imaginary part of x and q = w / |w|."""
    q = torch.nn.functional.normalize(w.movedim(0, -1), dim=-1)
    q = conjugate(q) if inverse else q
    v = numbers(x).unsqueeze(-3) * torch.tensor([0, 1, 1, 1], dtype=x.dtype)
    return blocks(hamilton(hamilton(q, v), conjugate(q)).sum(-2))


def lstm(x: Tensor, w: Tensor, u: Tensor, b: Tensor, c: Tensor, gates: str) -> Tensor:
    """All h of one layer over x [T, N, in] from zeros, one gate at a time.

    gates "quaternion": each gate i, f, g, o is a quaternion product of its own. "component": one product of four times
    the width, of which the components r, i, j, k are the gates i, f, o, g.
    """
    size = w.shape[1]
    h = memory = x.new_zeros(x.shape[1], size)
    out = []
    for now in x:
        if gates == "component":
            i, f, o, g = (linear(now, w) + b + linear(h, u) + c).chunk(4, -1)
        else:
            rows = size // 4
            of = [linear(now, w[:, n * rows :][:, :rows]) + linear(h, u[:, n * rows :][:, :rows]) for n in range(4)]
            shift = b + c
            i, f, g, o = (gate + shift[n * size :][:size] for n, gate in enumerate(of))
        memory = torch.sigmoid(i) * torch.tanh(g) + torch.sigmoid(f) * memory
        h = torch.sigmoid(o) * torch.tanh(memory)
        out.append(h)
    return torch.stack(out)
