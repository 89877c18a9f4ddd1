"""The discrete Fourier transform on real tensors, for programs without complex numbers, by products with matrices.

    (re, im) -> F (re, im)        F from `algebra.transforms.fourier`: one matrix, two factors, or a chirp

A transform is planned when it is called, or exported, one axis after another. An axis of a known size has constant
matrices. One whose size torch.export leaves free has a matrix that the program computes from the size, exact at every
length; where the example is longer than `LONGEST`, its square would be too large, and the transform stays torch's own.
"""

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fusekit.algebra.transforms.dft import at_load
from fusekit.algebra.transforms.fourier import Axis, Kind, chirp, chirp_points, factored, first_factor, matrix

Size = Any  # int, or a symbol of torch.export
Parts = list[Tensor]  # the real part, or both

LONGEST = 1024  # the longest example for which an axis of free size is a matrix
STORED = 1 << 18  # entries up to which a matrix is stored; above, it is computed when a file is loaded
NARROW = 8  # columns below which an axis is moved to the right of the others
WIDER = {torch.float16: torch.float32, torch.bfloat16: torch.float32}


class Fourier(nn.Module):
    """A transform of `kind` over the axes `dims` of real tensors; it has no parameters.

    Args:
        kind: "complex", "of real" (one-sided spectra of real samples) or "to real".
        dims: the axes, counted from the left or the right; the last one is that of the one-sided spectrum.
        sign: of the exponent: -1 for torch's fft, 1 for its ifft.
        power: s = n^-power for each axis: 0, 0.5 or 1.
    """

    def __init__(self, kind: Kind, dims: Sequence[int], sign: int, power: float) -> None:
        super().__init__()
        self.kind, self.dims, self.sign, self.power = kind, tuple(dims), sign, power

    def extra_repr(self) -> str:
        return f"{self.kind}, dims={self.dims}, sign={self.sign}, power={self.power}"

    def forward(self, re: Tensor, im: Tensor | None = None, *sizes: Size) -> Any:
        """(re, im) of the result, or a tensor if it is real. Shapes: `re` and `im` [*]; `im` None stands for zeros.

        `sizes`: the number of points of each axis, to which it is cropped or padded; none at all: as many as there are.
        """
        parts = [re] if im is None else [re, im]
        dtype = re.dtype
        if dtype in WIDER:
            parts = [part.to(WIDER[dtype]) for part in parts]
        axes = list(zip(self.dims, sizes or (None,) * len(self.dims), strict=True))
        if self.kind == "of real":
            axes.reverse()
        for number, (dim, size) in enumerate(axes):
            first, last = number == 0, number == len(axes) - 1
            kind: Kind = "complex"
            if (self.kind == "of real" and first) or (self.kind == "to real" and last):
                kind = self.kind
            parts = self._along(parts, dim % re.dim(), kind, size)
        if dtype in WIDER:
            parts = [part.to(dtype) for part in parts]
        if self.kind == "to real":
            return parts[0]
        return parts[0], parts[1] if len(parts) > 1 else torch.zeros_like(parts[0])

    def _along(self, parts: Parts, dim: int, kind: Kind, size: Size) -> Parts:
        there = parts[0].shape[dim]
        if size is None:
            size = 2 * (there - 1) if kind == "to real" else there
        taken = size // 2 + 1 if kind == "to real" else size
        parts = [fitted(part, dim, taken) for part in parts]
        if kind == "of real":
            parts = parts[:1]
        if isinstance(size, int):
            return _known(parts, dim, Axis(size, kind, self.sign, float(size) ** -self.power))
        if _expected(size) <= LONGEST:
            return _free(parts, dim, kind, size, self.sign, self.power)
        return _by_torch(parts, dim, kind, size, self.sign, self.power)


def fitted(part: Tensor, dim: int, size: Size) -> Tensor:
    """The part cropped or padded with zeros at the end of an axis."""
    there = part.shape[dim]
    if isinstance(size, int) and isinstance(there, int):
        if there == size:
            return part
        if there > size:
            return part.narrow(dim, 0, size)
        return F.pad(part, (*(0, 0) * (part.dim() - 1 - dim), 0, size - there))
    if size is there or str(size) == str(there):  # the same symbol: to compare two of them would fix a size
        return part
    padded = F.pad(part, (*(0, 0) * (part.dim() - 1 - dim), 0, size))
    return padded.narrow(dim, 0, size)


def _expected(size: Size) -> int:
    """The size for the example; 0 if it is not known."""
    hint = getattr(getattr(size, "node", None), "hint", None)
    return 0 if hint is None else int(hint)


def _known(parts: Parts, dim: int, axis: Axis) -> Parts:
    """An axis of a known size."""
    if (points := chirp_points(axis)) is not None:
        return _by_chirp(parts, dim, axis, points)
    if axis.kind == "complex" and len(parts) == 1:
        return _known_real(parts[0], dim, axis)
    first = first_factor(axis)
    if first > 1:
        if axis.kind == "to real" and len(parts) == 1:
            parts = [parts[0], torch.zeros_like(parts[0])]
        return _by_factors(parts, dim, axis, first)
    rows, columns = (len(parts) * axis.n, 2 * axis.kept)
    if axis.kind == "to real":
        rows, columns = len(parts) * axis.kept, axis.n
    if rows * columns > STORED:
        return _free(parts, dim, axis.kind, axis.n, axis.sign, 0.0, axis.scale)
    entries = _constant(parts[0], _matrix(axis))
    return _times(parts, dim, entries[:, :rows], axis.kind)


def _known_real(x: Tensor, dim: int, axis: Axis) -> Parts:
    """All frequencies of real samples: half of them computed, the others their conjugates."""
    half = Axis(axis.n, "of real", axis.sign, axis.scale)
    if first_factor(half) == 1 and axis.n * axis.n <= STORED:
        return _times([x], dim, _constant(x, _matrix(axis))[:, : axis.n], axis.kind)
    re, im = _known([x], dim, half)
    count = axis.n - half.kept
    if not count:
        return [re, im]
    back = torch.arange(count, 0, -1, device=x.device)
    return [torch.cat([re, re.index_select(dim, back)], dim), torch.cat([im, -im.index_select(dim, back)], dim)]


def _times(parts: Parts, dim: int, entries: Tensor, kind: Kind) -> Parts:
    """One product with a matrix [rows, columns] along an axis."""
    planar = parts[0] if len(parts) == 1 else torch.cat(parts, dim)
    last, columns = planar.dim() - 1, planar.shape[dim + 1 :]
    if dim == last:
        y = planar @ entries.mT
    elif _is_narrow(columns):
        y = (planar.movedim(dim, -1) @ entries.mT).movedim(-1, dim)
    elif dim == last - 1:
        y = entries @ planar
    else:
        y = (entries @ planar.flatten(dim + 1)).unflatten(-1, columns)
    return [y] if kind == "to real" else _halves(y, dim)


def _is_narrow(columns: Sequence[Size]) -> bool:
    return all(isinstance(size, int) for size in columns) and math.prod(columns) < NARROW


def _halves(y: Tensor, dim: int) -> Parts:
    half = y.shape[dim] // 2
    return [y.narrow(dim, 0, half), y.narrow(dim, half, half)]


def _by_factors(parts: Parts, dim: int, axis: Axis, first: int) -> Parts:
    """Two products. Their columns are what follows the axis; if that is little, all other axes."""
    planar = parts[0] if len(parts) == 1 else torch.cat(parts, dim)
    narrow = _is_narrow(planar.shape[dim + 1 :])
    if narrow and dim < planar.dim() - 1:
        planar = planar.movedim(dim, -1)
    at = planar.dim() - 1 if narrow else dim
    lead, columns = planar.shape[:at], planar.shape[at + 1 :]
    if narrow:
        x = planar.reshape(-1, planar.shape[-1]).t()
    else:
        x = planar.flatten(at + 1) if len(columns) > 1 else planar
        x = x.flatten(0, at - 1) if len(lead) > 1 else x
    level, second, order = _factored(axis, first)
    one, two = _constant(planar, level), _constant(planar, second)
    place = torch.tensor(order, device=planar.device)
    if axis.kind == "to real":
        x = _split(x.index_select(-2, place), two.shape[0], two.shape[2])
        y = one @ _split(_joined(two @ x), one.shape[1])
        y = _split(y, axis.n)
    else:
        y = one[:, : len(parts) * first] @ _split(x, len(parts) * first)
        y = _joined(two @ _split(y, two.shape[0], two.shape[2])).index_select(-2, place)
    if narrow:
        y = y.t().reshape(*lead, y.shape[0])
        y = y if at == dim else y.movedim(-1, dim)
    else:
        y = y.unflatten(-1, columns) if len(columns) > 1 else y
        y = y.unflatten(0, lead) if len(lead) > 1 else y
    return [y] if axis.kind == "to real" else _halves(y, dim)


def _split(x: Tensor, *rows: int) -> Tensor:
    """[(prefix,) a, b] as [(prefix,) *rows, rest]."""
    *prefix, a, b = x.shape
    rest = a * b // math.prod(rows) if isinstance(b, int) else -1
    if not prefix:
        return x.reshape(*rows, rest)
    return x.reshape(prefix[0] if rest == -1 else -1, *rows, rest)


def _joined(x: Tensor) -> Tensor:
    """[(prefix,) a, b, columns] as [(prefix,) a b, columns]."""
    return x.flatten(-3, -2)


def _by_chirp(parts: Parts, dim: int, axis: Axis, points: int) -> Parts:
    """c̄ ∘ (c * (c̄ ∘ x)) by two transforms of smooth length."""
    own, spectrum = _chirp(axis, points)
    after = parts[0].dim() - 1 - dim
    c, h = ([part.reshape(-1, *(1,) * after) for part in _constant(parts[0], v).unbind(0)] for v in (own, spectrum))
    z = [fitted(part, dim, points) for part in _product(parts, c)]
    z = _known(_product(_known(z, dim, Axis(points, "complex", -1)), h), dim, Axis(points, "complex", 1))
    return _product([part.narrow(dim, 0, axis.n) for part in z], c)


def _product(z: Parts, w: Parts) -> Parts:
    if len(z) == 1:
        return [z[0] * w[0], z[0] * w[1]]
    return [z[0] * w[0] - z[1] * w[1], z[0] * w[1] + z[1] * w[0]]


def _free(parts: Parts, dim: int, kind: Kind, n: Size, sign: int, power: float, scale: float = 1.0) -> Parts:
    """A product with a matrix that the program computes from n: cosines and sines of 2π j/n in float64, looked up at
    ki mod n."""
    like, inputs = parts[0], len(parts)
    every = torch.arange(n, device=like.device)
    every = at_load(every) if isinstance(n, int) else every
    count = every[-1:] + 1  # n as a tensor: the exporter does not divide by a symbol
    k = every if kind == "complex" else every.narrow(0, 0, n // 2 + 1)
    angle = every.to(torch.float64) * (2 * math.pi) / count
    cos, sin = torch.cos(angle), torch.sin(angle) * sign
    if power:
        cos, sin = (wave * count.to(torch.float64) ** -power for wave in (cos, sin))
    turns = (k[:, None] * every) % count
    cos, sin = (_looked_up(wave if scale == 1 else wave * scale, turns, like) for wave in (cos, sin))  # [k, i]
    if kind == "to real":
        single = ((k == 0) | (2 * k == count))[:, None]
        times = torch.where(single, 1.0, 2.0).to(like.dtype)
        rows = [times * cos]
        if inputs == 2:  # these bins have no imaginary part, and their sines are only nearly 0
            rows.append(torch.where(single, 0.0, -times * sin))
        return _times(parts, dim, torch.cat(rows).mT, kind)
    entries = torch.cat([cos, sin])
    if inputs == 2:
        entries = torch.cat([entries, torch.cat([-sin, cos])], 1)
    return _times(parts, dim, entries, kind)


def _looked_up(wave: Tensor, at: Tensor, like: Tensor) -> Tensor:
    """wave[at] in the dtype of `like`, as one gather of rows."""
    return F.embedding(at, wave.to(like.dtype)[:, None]).squeeze(-1)


def _by_torch(parts: Parts, dim: int, kind: Kind, n: Size, sign: int, power: float) -> Parts:
    """torch's own transform of a long axis."""
    norm = {0.0: "backward", 0.5: "ortho", 1.0: "forward"}[power]
    opposite = {"backward": "forward", "ortho": "ortho", "forward": "backward"}[norm]
    if kind == "to real":
        z = torch.complex(parts[0], parts[1] if len(parts) > 1 else torch.zeros_like(parts[0]))
        return [torch.fft.irfft(z if sign > 0 else z.conj(), n, dim, opposite)]
    if kind == "of real":
        z = torch.fft.rfft(parts[0], n, dim, norm)
        return [z.real, z.imag if sign < 0 else -z.imag]
    z = torch.complex(parts[0], parts[1] if len(parts) > 1 else torch.zeros_like(parts[0]))
    z = torch.fft.fft(z, n, dim, norm) if sign < 0 else torch.fft.ifft(z, n, dim, opposite)
    return [z.real, z.imag]


def _constant(like: Tensor, entries: Any) -> Tensor:
    return torch.tensor(entries, dtype=like.dtype, device=like.device)


@lru_cache(maxsize=64)
def _matrix(axis: Axis) -> Any:
    return matrix(axis).tolist()


@lru_cache(maxsize=64)
def _factored(axis: Axis, first: int) -> tuple[Any, Any, list[int]]:
    made = factored(axis, first)
    return made.first.tolist(), made.second.tolist(), list(made.order)


@lru_cache(maxsize=64)
def _chirp(axis: Axis, points: int) -> tuple[Any, Any]:
    own, spectrum = chirp(axis, points)
    return own.tolist(), spectrum.tolist()
