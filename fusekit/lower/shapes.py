"""Rules for operators that only move numbers: shape changes, selections, writes. They act on each part in the same way.

f(a + jb) = f(a) + j f(b)                           for `SHAPES`
f(a + jb, c + jd) = f(a, c) + j f(b, d)             for `JOINTLY`
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F

from fusekit.lower.arithmetic import conj
from fusekit.lower.pair import Pair
from fusekit.lower.parts import facts_of, real_of, shape_of

Rule = Callable[..., Any]

# With one complex argument: applied to each part, the other arguments unchanged.
SHAPES = frozenset(
    (
        *("neg", "negative", "pos", "positive", "unsqueeze", "squeeze", "select", "slice", "index", "gather", "take"),
        *("expand", "repeat", "flatten", "reshape", "permute", "transpose", "t", "movedim", "moveaxis", "flip"),
        *("fliplr", "flipud", "roll", "rot90", "unflatten", "swapaxes", "swapdims", "clone", "contiguous", "getitem"),
        *("alias", "dropout", "index_select", "detach", "diagonal", "narrow"),
        *("ravel", "tril", "triu", "diag", "diag_embed", "trace", "tile", "broadcast_to", "repeat_interleave"),
        *("unfold", "fold", "im2col", "col2im", "resolve_conj", "resolve_neg", "lift_fresh_copy"),
        *(
            "_unsafe_view",
            "nan_to_num",
            "numpy_T",
            "mT",
            "T",
            "masked_select",
            "pixel_shuffle",
            "fft_fftshift",
            "fft_ifftshift",
        ),
        *("diff", "cumulative_trapezoid", "trapezoid", "avg_pool1d", "avg_pool2d", "avg_pool3d", "upsample_nearest1d"),
        *(f"{private}adaptive_avg_pool{n}d" for private in ("", "_") for n in (1, 2, 3)),
    )
)

# Sums, which may be given a dtype.
SUMS = frozenset(("sum", "mean", "cumsum", "nansum"))

# With several results: applied to each part; each result is the pair of the results of the parts.
SEVERAL = frozenset(("split", "chunk", "unbind", "split_with_sizes", "tensor_split", "unsafe_split", "unsafe_chunk"))

# With several complex arguments, at these positions or with the names `_NAMED`: applied to all real parts, then to all
# imaginary parts.
JOINTLY: dict[str, tuple[int, ...]] = {
    "where": (1, 2),
    "masked_fill": (0, 2),
    "masked_scatter": (0, 2),
    "index_fill": (0, 3),
    "index_add": (0, 3),
    "index_copy": (0, 3),
    "index_put": (0, 2),
    "scatter": (0, 3),
    "scatter_add": (0, 3),
    "select_scatter": (0, 1),
    "slice_scatter": (0, 1),
    "diagonal_scatter": (0, 1),
    "copy": (0, 1),
    "with_items": (0, 2),
}
_NAMED = ("value", "src", "source", "values", "other")


def jointly(call: Rule, positions: tuple[int, ...], args: Any, kwargs: Any) -> Pair:
    """Apply an operator to all real parts and to all imaginary parts of the arguments at `positions`. A real argument
    has the imaginary part 0. Other arguments (masks, indices) are the same for both."""

    def part(which: int) -> Any:
        taken = [Pair.of(a).full()[which] if i in positions else a for i, a in enumerate(args)]
        named = {name: Pair.of(a).full()[which] if name in _NAMED else a for name, a in kwargs.items()}
        return call(*taken, **named)

    return Pair(part(0), part(1))


def _joined(function: Rule) -> Rule:
    """Rule for a function that joins a list of tensors: real and imaginary parts are joined separately. If all parts of
    one kind are absent, so is that part of the result."""

    def rule(tensors: Any, dim: int = 0) -> Pair:
        pairs = [Pair.of(tensor) for tensor in tensors]
        full = [z.full() for z in pairs]
        re = None if all(z.re is None for z in pairs) else function([z[0] for z in full], dim)
        im = None if all(z.im is None for z in pairs) else function([z[1] for z in full], dim)
        return Pair(re, im)

    return rule


def _side_by_side(dim: int) -> Rule:
    def rule(tensors: Any) -> Pair:
        at = 0 if dim == 1 and len(shape_of(tensors[0])) == 1 else dim
        joined: Pair = _joined(torch.cat)(tensors, at)
        return joined

    return rule


def _together(function: Rule) -> Rule:
    """Rule for a function from several tensors to as many tensors: meshgrid, broadcast_tensors."""

    def rule(*tensors: Any, **options: Any) -> dict[int, Pair]:
        flat = tensors[0] if len(tensors) == 1 and isinstance(tensors[0], tuple | list) else tensors
        full = [Pair.of(tensor).full() for tensor in flat]
        re, im = (function(*(z[which] for z in full), **options) for which in (0, 1))
        return {i: Pair(re[i], im[i]) for i in range(len(full))}

    return rule


def _pad(input: Any, pad: Any, mode: str = "constant", value: Any = None) -> Pair:
    """Pads each part. In the mode "constant", the real part is padded with the real part of the value, the imaginary
    part with the imaginary part."""
    if mode != "constant":
        padded: Pair = input.map(lambda part: F.pad(part, pad, mode))
        return padded
    number = complex(value or 0)
    re = input.re if input.re is not None or not number.real else input.full()[0]
    im = input.im if input.im is not None or not number.imag else input.full()[1]
    return Pair(
        None if re is None else F.pad(re, pad, "constant", number.real),
        None if im is None else F.pad(im, pad, "constant", number.imag),
    )


def _constant_pad(input: Any, pad: Any, value: Any = 0) -> Pair:
    return _pad(input, pad, "constant", value)


def _adjoint(input: Any) -> Pair:
    return conj(input).map(lambda part: part.transpose(-2, -1))


def _take_along_dim(input: Any, indices: Any, dim: int | None = None) -> Any:
    """A gather where no broadcasting is needed. (For take_along_dim, torch's exporter would fix the sizes.)"""
    if dim is None:
        return input.map(lambda part: torch.take(part, indices))
    mine, theirs = (facts_of(part).shape for part in (input.re if input.re is not None else input.im, indices))
    if mine is None or theirs is None or len(mine) != len(theirs) or _beside(mine, dim) != _beside(theirs, dim):
        return input.map(lambda part: torch.take_along_dim(part, indices, dim))
    return input.map(lambda part: torch.gather(part, dim, indices))


def _beside(shape: tuple[int | None, ...], dim: int) -> list[int | None]:
    return [size for axis, size in enumerate(shape) if axis != dim % len(shape)]


def _view(call: Rule, input: Any, *args: Any, dtype: Any = None, **options: Any) -> Any:
    """A view with another shape, or of the same bytes as another dtype: one complex number is two real ones."""
    dtype = args[0] if args and isinstance(args[0], torch.dtype) else dtype
    if dtype is None:  # reshape, not view: a part may have another memory layout than the complex tensor
        return input.map(lambda part: part.reshape(*args, **options))
    if isinstance(input, Pair) and not dtype.is_complex:
        return torch.stack(list(input.full()), -1).flatten(-2)
    if not isinstance(input, Pair) and dtype.is_complex:
        numbers = input.unflatten(-1, (-1, 2))
        return Pair(numbers.select(-1, 0), numbers.select(-1, 1))
    if isinstance(input, Pair) and dtype.is_complex:
        return input.map(lambda part: part.to(real_of(dtype)))
    raise TypeError(f"it is viewed as {dtype}")


def _as_other(method: str) -> Rule:
    """Rule for a method that takes the shape of another tensor; either tensor may be complex."""

    def rule(input: Any, other: Any) -> Any:
        model = other if not isinstance(other, Pair) else other.re if other.re is not None else other.im
        if isinstance(input, Pair):
            return input.map(lambda part: getattr(part, method)(model))
        return getattr(input, method)(model)

    return rule


ARRANGEMENT: dict[str, Rule] = {
    **dict.fromkeys(("cat", "concat", "concatenate"), _joined(torch.cat)),
    "stack": _joined(torch.stack),
    "hstack": _side_by_side(1),
    "meshgrid": _together(torch.meshgrid),
    "broadcast_tensors": _together(torch.broadcast_tensors),
    "take_along_dim": _take_along_dim,
    "pad": _pad,
    "constant_pad_nd": _constant_pad,
    **dict.fromkeys(("adjoint", "mH", "H", "matrix_H"), _adjoint),
    **dict.fromkeys(("reshape_as", "view_as"), _as_other("reshape_as")),
    "expand_as": _as_other("expand_as"),
}

# Rules that call the original operator on a part.
THROUGH: dict[str, Rule] = {"view": _view}
