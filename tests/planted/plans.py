"""Bugs to plant in plans: convolutions by transforms and by matrices, and the tables of algebras."""

from tests.planted.bugs import Bug

ROOM = "fusekit/algebra/transforms/"
SPECTRAL, PHASES, DFT = (ROOM + name for name in ("spectral.py", "phases.py", "dft.py"))
HYPER = "fusekit/algebra/products/hypercomplex.py"
SPECTRAL_CONV, TRANSFORM, MATRIX = (ROOM + name for name in ("spectral_conv.py", "transform.py", "matrix_plan.py"))

BY_FFT, BY_MATRICES, NUMBERS = ("test_spectral", "test_fft_conv"), ("test_matrix_fft",), ("test_hypercomplex",)

PLANS = (
    Bug("frame of the outputs' size", SPECTRAL, "line.reach - low + dense, dense, 1", "dense, 1", BY_FFT),
    Bug(
        "tile keeps one too many",
        SPECTRAL,
        "(points - line.reach - 1) // line.stride + 1\n    if",
        "(points - line.reach) // line.stride + 1\n    if",
        BY_FFT,
    ),
    Bug(
        "output padding forgotten", SPECTRAL, "reach - high + output_padding, stride)", "reach - high, stride)", BY_FFT
    ),
    Bug(
        "frames begin at the padding's end",
        SPECTRAL,
        "Frames(points, points, -line.low, keep",
        "Frames(points, points, line.low, keep",
        BY_FFT,
    ),
    Bug("phases of a transposed one start late", PHASES, "before = taps - 1 - first", "before = taps - first", BY_FFT),
    Bug(
        "transposed kernel not reversed",
        PHASES,
        "kernel.flip(tuple(range(3, 3 + n))) if transposed else kernel",
        "kernel",
        BY_FFT,
    ),
    Bug(
        "outputs' phases not interleaved",
        PHASES,
        "for place in (2 + n + i, phases[i])",
        "for place in (phases[i], 2 + n + i)",
        BY_FFT,
    ),
    Bug("crop of a transposed one in full", PHASES, "low - stride * first)", "low)", BY_FFT),
    Bug("bias by phase", SPECTRAL_CONV, "bias.repeat_interleave(phases)", "bias.repeat(phases)", BY_FFT),
    Bug(
        "spectrum of another origin",
        SPECTRAL_CONV,
        "(axis.points, axis.first) for axis in axes",
        "(axis.points,) for axis in axes",
        BY_FFT,
    ),
    Bug("kernel convolved, not correlated", TRANSFORM, "F.pad(kernel.flip(dims),", "F.pad(kernel,", BY_FFT),
    Bug(
        "spectrum of complex kernels conjugated",
        TRANSFORM,
        "torch.fft.fftn(placed, dim=dims) if kernel.is_complex()",
        "torch.fft.fftn(placed, dim=dims).conj() if kernel.is_complex()",
        BY_FFT,
    ),
    Bug(
        "matrices of channels transposed",
        TRANSFORM,
        "h.flatten(3).permute(3, 0, 2, 1)",
        "h.flatten(3).permute(3, 0, 1, 2)",
        BY_FFT,
    ),
    Bug(
        "tiles never counted",
        ROOM + "effort.py",
        "best = min((best, *candidates), key=time)",
        "best = max((best, *candidates), key=time)",
        BY_FFT,
    ),
    Bug(
        "effort of one image",
        ROOM + "effort.py",
        "factor * frames * channels * points, factor",
        "factor * tiles * channels * points, factor",
        BY_FFT,
    ),
    Bug("phases of one sign", DFT, "_RE = ((_COS, 1), (_SIN, -1))", "_RE = ((_COS, 1), (_SIN, 1))", BY_MATRICES),
    Bug("conjugate bins count once", DFT, "else 2.0) / self.points", "else 1.0) / self.points", BY_MATRICES),
    Bug("Karatsuba's third product", DFT, "(_MINUS, -1), (_SIN, -1))", "(_MINUS, -1), (_SIN, 1))", BY_MATRICES),
    Bug(
        "frames not turned",
        DFT,
        "matrix = self._entries(table, level.frequencies(y), at, rows",
        "matrix = self._entries(table, level.frequencies(y), _arange(level.samples, y), rows",
        BY_MATRICES,
    ),
    Bug(
        "products not rounded up to lanes",
        MATRIX,
        "flops * -(-columns // LANES) * LANES",
        "flops * (columns // LANES) * LANES",
        BY_MATRICES,
    ),
    Bug(
        "free sizes planned for the window",
        MATRIX,
        "tuple(max(NOMINAL[n], 4 * (line.reach + 1)) for line in lines)",
        "tuple(line.reach + 1 for line in lines)",
        BY_MATRICES,
    ),
    Bug("b c without the conjugate", HYPER, 'torch.einsum("xj,ixk->ijk", star, c)  # b c', "c  # b c", NUMBERS),
    Bug("a d in the wrong order", HYPER, "c.transpose(0, 1)  # a d", "c  # a d", NUMBERS),
    Bug("conjugation leaves the second half", HYPER, "block_diag(star, -torch", "block_diag(star, torch", NUMBERS),
    Bug("tensor product of the wrong axes", HYPER, '"ijk,xyz->ixjykz"', '"ijk,xyz->ixyjkz"', NUMBERS),
    Bug(
        "generators swap once too often",
        HYPER,
        "range(1, len(squares) + 1) if b >> (shift - 1)",
        "range(len(squares)) if b >> shift",
        NUMBERS,
    ),
    Bug("right for left", HYPER, '"...i,ijk->...kj"', '"...j,ijk->...ki"', NUMBERS),
    Bug("units of a transposed kernel", HYPER, "(2, 0, 3, 1) if transposed else (2, 1, 3, 0)", "(2, 1, 3, 0)", NUMBERS),
    Bug("groups inside units", HYPER, "unflatten(axis, (n, groups, -1))", "unflatten(axis, (groups, n, -1))", NUMBERS),
)
