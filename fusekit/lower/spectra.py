"""Rules for the discrete Fourier transforms of torch.fft, for runtimes without complex numbers: layers on real tensors.

    fft(a + jb) = F a + j F b        F: `nn.fourier.Fourier`, whose form is chosen when the file is written

torch has eighteen functions for three kinds (complex, of real samples, to real ones), two signs of the exponent and
three scales; ATen has one operator for each kind. Definitions: torch.fft.
"""

from collections.abc import Callable, Sequence
from typing import Any

from torch import fx

from fusekit.algebra.transforms.fourier import Kind
from fusekit.lower.pair import Pair
from fusekit.lower.parts import floating, shape_of
from fusekit.nn.fourier import Fourier

Rule = Callable[..., Any]
Layer = Callable[..., Any]  # (module, *arguments) -> what the module returns, as a node of the graph

_POWERS = {"backward": 0.0, "ortho": 0.5, "forward": 1.0}
_SCALES = (0.0, 0.5, 1.0)  # of ATen: none, by the root, by the number of points


def _transformed(
    layer: Layer, input: Any, kind: Kind, dims: Sequence[int], sizes: Sequence[Any] | None, sign: int, power: float
) -> Any:
    z = Pair.of(input)
    if kind == "of real" and isinstance(input, Pair):
        raise TypeError("its input is complex")
    re, im = (z.full() if z.re is None else (z.re, z.im)) if isinstance(input, Pair) else (floating(input), None)
    given: tuple[Any, ...] = ()
    if sizes is not None:
        # by number, because the sizes of a tensor that is only traced have no length
        counts = (sizes[number] for number in range(len(dims)))
        given = tuple(None if isinstance(n, int) and n == -1 else n for n in counts)
    result = layer(Fourier(kind, dims, sign, power), re, im, *given)
    return result if kind == "to real" else Pair(result[0], result[1])


def _sign_and_power(inverse: bool, norm: str | None) -> tuple[int, float]:
    """ifft has the opposite exponent, and scales where fft does not."""
    power = _POWERS[norm or "backward"]
    return (1, 1 - power) if inverse else (-1, power)


def _line(kind: Kind, inverse: bool) -> Rule:
    def rule(layer: Layer, input: Any, n: Any = None, dim: int = -1, norm: str | None = None) -> Any:
        return _transformed(layer, input, kind, [dim], None if n is None else [n], *_sign_and_power(inverse, norm))

    return rule


def _several(kind: Kind, inverse: bool, default: tuple[int, ...] | None) -> Rule:
    def rule(layer: Layer, input: Any, s: Any = None, dim: Any = default, norm: str | None = None) -> Any:
        if dim is None and isinstance(s, fx.Proxy):
            raise TypeError("its sizes are those of another tensor, and its axes are not given")
        if dim is None:
            dim = range(-len(shape_of(input) if s is None else s), 0)
        dims = [dim] if isinstance(dim, int) else list(dim)
        return _transformed(layer, input, kind, dims, s, *_sign_and_power(inverse, norm))

    return rule


def _c2c(layer: Layer, input: Any, dim: Any, normalization: int, forward: bool) -> Any:
    return _transformed(layer, input, "complex", list(dim), None, -1 if forward else 1, _SCALES[normalization])


def _r2c(layer: Layer, input: Any, dim: Any, normalization: int, onesided: bool) -> Any:
    kind: Kind = "of real" if onesided else "complex"
    return _transformed(layer, input, kind, list(dim), None, -1, _SCALES[normalization])


def _c2r(layer: Layer, input: Any, dim: Any, normalization: int, last_dim_size: Any) -> Any:
    sizes = [-1] * (len(dim) - 1) + [last_dim_size]
    return _transformed(layer, input, "to real", list(dim), sizes, 1, _SCALES[normalization])


_FUNCTIONS: dict[str, tuple[Kind, bool]] = {
    "fft": ("complex", False),
    "ifft": ("complex", True),
    "rfft": ("of real", False),
    "irfft": ("to real", True),
    "hfft": ("to real", False),
    "ihfft": ("of real", True),
}
SPECTRA: dict[str, Rule] = {
    **{f"fft_{name}": _line(*what) for name, what in _FUNCTIONS.items()},
    **{f"fft_{name}2": _several(*what, (-2, -1)) for name, what in _FUNCTIONS.items()},
    **{f"fft_{name}n": _several(*what, None) for name, what in _FUNCTIONS.items()},
    "_fft_c2c": _c2c,
    "_fft_r2c": _r2c,
    "_fft_c2r": _c2r,
}
