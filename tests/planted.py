"""The bugs that are planted: realistic slips of the hand, one replacement each."""

from dataclasses import dataclass

NETS = ("test_laws", "test_readings", "test_passes", "test_driver", "test_miscompiles")


@dataclass(frozen=True)
class Bug:
    """One wrong replacement in one file, and the nets that should catch it, in the order in which they are asked."""

    name: str
    file: str
    right: str
    wrong: str
    nets: tuple[str, ...] = NETS


ALGEBRA, PASSES = "fusekit/algebra/", "passes/"
CONV, VIEW, VERIFY, REWRITE = "fusekit/algebra/conv.py", "fusekit/view.py", "fusekit/verify.py", "fusekit/rewrite.py"
BORDER = "fusekit/algebra/border.py"
CHAIN, CUT, EDGE, ONES = ALGEBRA + "chain.py", "fusekit/cut.py", ALGEBRA + "edge.py", ALGEBRA + "ones.py"
FACTOR, DEAD, STRUCTURE = ALGEBRA + "factor.py", ALGEBRA + "dead.py", ALGEBRA + "structure.py"
BORDERED, RING, COMBINATION = ALGEBRA + "bordered.py", ALGEBRA + "ring.py", ALGEBRA + "combination.py"
SPECTRAL, PHASES, DFT, HYPER = (ALGEBRA + name for name in ("spectral.py", "phases.py", "dft.py", "hypercomplex.py"))
SPECTRAL_CONV, TRANSFORM, MATRIX = (ALGEBRA + name for name in ("spectral_conv.py", "transform.py", "matrix_plan.py"))

ROWS, EDGES, BORDERS = ("test_cut",), ("test_edge", "test_passes"), ("test_ones", "test_families", "test_passes")
VALUES = ("test_structure", "test_passes")
CONCATS, SIBLINGS, SUMS = ("test_flattened", "test_passes"), ("test_siblings",), ("test_passes", "test_families")
BY_FFT, BY_MATRICES, NUMBERS = ("test_spectral", "test_fft_conv"), ("test_matrix_fft",), ("test_hypercomplex",)

BUGS = (
    Bug(
        "scale on the input axis",
        CONV,
        "scale.reshape((self.groups, -1, 1, *(1,)",
        "scale.reshape((self.groups, 1, -1, *(1,)",
    ),
    Bug("forgotten eps", "fusekit/algebra/affine.py", "torch.rsqrt(wide(var) + eps)", "torch.rsqrt(wide(var))"),
    Bug("dropped bias", CONV, "else scale * wide(self.bias) + shift", "else shift"),
    Bug("padding p1 + p2", CONV, "(low1 + s * low2, high1 + s * high2)", "(low1 + low2, high1 + high2)"),
    Bug("dilation without the inner stride", CONV, "outer_step = tuple(s * d for", "outer_step = tuple(d for"),
    Bug(
        "coarsen misplaces blocks",
        "fusekit/algebra/kernel.py",
        "= kernel[block::merged]",
        "= kernel[block * groups : (block + 1) * groups]",
    ),
    Bug(
        "border relaxed, low side",
        BORDER,
        "reach - stride - inner_padding[0] >= 0",
        "reach - stride - inner_padding[0] > 0",
    ),
    Bug("border relaxed, high side", BORDER, "inner_padding[1] < reach", "inner_padding[1] < reach - 1"),
    Bug(
        "parameter changed in place",
        CONV,
        "kernel = wide(self.kernel) * scale.reshape((self.groups, -1, 1, *(1,) * self.n))",
        "kernel = self.kernel.mul_(scale.to(self.kernel).reshape((self.groups, -1, 1, *(1,) * self.n)))",
    ),
    Bug("pad sides swapped", VIEW, "(amounts[i], amounts[i + 1])", "(amounts[i + 1], amounts[i])"),
    Bug(
        "odd one of 'same' on the low side",
        VIEW,
        "(total // 2, total - total // 2)",
        "(total - total // 2, total // 2)",
    ),
    Bug("transposed kernel not transposed", CONV, "kernel.transpose(1, 2) if transposed else kernel", "kernel"),
    Bug("shift before padding allowed", CONV, "if any(low > 0 or high > 0 for low, high in self.padding)", "if False"),
    Bug("alpha ignored", VIEW, "(1.0, alpha * right)", "(1.0, right)"),
    Bug("batch norm on the last axis", VIEW, 'a["eps"], 1 - rank)', 'a["eps"], -1)'),
    Bug(
        "axis of a constant not compared",
        VIEW,
        "if axes and source.size(axes[0]) !=",
        "if False and source.size(axes[0]) !=",
    ),
    Bug(
        "constant on the wrong axis",
        VIEW,
        "return (flat.flatten(), axes[0])",
        "return (flat.flatten(), 1 - (source.rank or 2))",
    ),
    Bug("dividing by the reciprocal", VIEW, "(1.0 / right, 0.0)", "(right, 0.0)"),
    Bug("training batch norm read", VIEW, 'if a["training"] or computed', "if computed"),
    Bug("pad value ignored", VIEW, 'if mode == "constant" and a.get("value"):', 'if mode == "constant" and False:'),
    Bug("tolerance ignored", REWRITE, "if not self.error <= TOLERANCE:", "if self.error == 17:"),
    Bug("NaN accepted", VERIFY, "return error if math.isfinite(error) else math.inf", "return error"),
    Bug("shape not compared", VERIFY, 'return float("inf")\n    scale', "return 0.0\n    scale"),
    Bug("shared value not paid for", REWRITE, "self.after = sum(kept, ", "self.after = sum([], "),
    Bug("rejected nodes left behind", REWRITE, "self.graph.erase_dead(new)\n", "pass\n"),
    Bug("dtype not restored", REWRITE, "value.to(dtype or value.dtype)", "value"),
    Bug(
        "random expressions folded",
        "fusekit/pattern.py",
        " and torch.Tag.nondeterministic_seeded not in node.target.tags",
        "",
    ),
    Bug("law swapped", "passes/fold_affine.py", "return c @ a", "return a @ c"),
    Bug(
        "rows folded inside out",
        CHAIN,
        "self.folded(middle, stop) @ self.folded(start, middle)",
        "self.folded(start, middle) @ self.folded(middle, stop)",
        ROWS,
    ),
    Bug(
        "cut composed inside out", CHAIN, "for start, stop in reversed(stretches)", "for start, stop in stretches", ROWS
    ),
    Bug(
        "one place to fold a stretch missing",
        CHAIN,
        "range(stop - 1, start, -1)",
        "range(stop - 1, start + 1, -1)",
        ROWS,
    ),
    Bug(
        "stretches of two not looked at",
        CUT,
        "range(max(0, stop - LONGEST), stop - 1)",
        "range(max(0, stop - LONGEST), stop - 2)",
        ROWS,
    ),
    Bug(
        "a stretch priced at the input",
        CUT,
        "work(folded, shapes[start], itemsize",
        "work(folded, shapes[0], itemsize",
        ROWS,
    ),
    Bug("gain of the whole row", CUT, "gain * sum(self.parts[start:stop])", "gain * sum(self.parts)", ROWS),
    Bug("kept inner value for nothing", CUT, "(self.parts[0] if kept and start == 0 else 0)", "0", ROWS),
    Bug(
        "circle forgets what is there",
        EDGE,
        "x.narrow(dim, -(known + amounts[0]), amounts[0])",
        "x.narrow(dim, -amounts[0], amounts[0])",
        EDGES,
    ),
    Bug(
        "circle starts its high side at the low one",
        EDGE,
        "x.narrow(dim, known, amounts[1])",
        "x.narrow(dim, 0, amounts[1])",
        EDGES,
    ),
    Bug("strided circle", EDGE, " or any(s != 1 for s in inner.stride)", "", EDGES),
    Bug("circle of another size", EDGE, "if not whole or not bare", "if not bare", EDGES),
    Bug(
        "low and high of earlier stages swapped",
        EDGE,
        "sum(low for low, _ in done), sum(high for _, high in done)",
        "sum(high for _, high in done), sum(low for low, _ in done)",
        EDGES,
    ),
    Bug("any window before repeated rows", PASSES + "fold_edge.py", "pad.before_pointwise(inner)", "pad", EDGES),
    Bug("outer circle forgotten", PASSES + "fold_edge.py", "pad.before_conv(inner, first)", "first", EDGES),
    Bug(
        "affine map lost at the edge",
        PASSES + "fold_edge.py",
        "Composition((c @ a, pad))",
        "Composition((c, pad))",
        EDGES,
    ),
    Bug("dearest of the choices", REWRITE, "prices.index(min(prices))", "prices.index(max(prices))", BORDERS),
    Bug("ones on the low side", ONES, "[*(0, 0) * self.n, 0, 1]", "[*(0, 0) * self.n, 1, 0]", BORDERS),
    Bug("weight of the ones in front", ONES, "torch.cat([dense, ones], 2)", "torch.cat([ones, dense], 2)", BORDERS),
    Bug("bias kept beside its channel", ONES, "2), bias=None)", "2))", BORDERS),
    Bug(
        "padded pointwise convolution with ones",
        ONES,
        " or any(low or high for low, high in conv.padding)",
        "",
        BORDERS,
    ),
    Bug(
        "outer bias twice at the border",
        BORDERED,
        "cls(folded, replace(outer, bias=None), inner)",
        "cls(folded, outer, inner)",
        BORDERS,
    ),
    Bug("ring without the inner bias", BORDERED, "self.inner.bias is not None", "False", BORDERS),
    Bug(
        "bordered kernel reads its weights swapped",
        BORDERED,
        "_conv(outer_weight, None, outer), _conv(inner_weight, inner_bias, inner)",
        "_conv(outer_weight, None, outer), _conv(inner_weight, None, inner)",
        BORDERS,
    ),
    Bug(
        "ring rounded down",
        RING,
        "-(-max(0, self.padding2[high]) // self.stride2)",
        "max(0, self.padding2[high]) // self.stride2",
        BORDERS,
    ),
    Bug("inner stride forgotten in a strip", RING, " - (0 if high else self.stride1 - 1))", ")", BORDERS),
    Bug(
        "corners corrected twice",
        RING,
        "axis.padding2 if of_outer else axis.padding1 for",
        "axis.cropped2 if of_outer else axis.extended1 for",
        BORDERS,
    ),
    Bug(
        "ring of a small map at its wrong end",
        RING,
        "touched - error.narrow(dim, 0, touched.shape[dim])",
        "touched - error.narrow(dim, ring - touched.shape[dim], touched.shape[dim])",
        BORDERS,
    ),
    Bug(
        "high side alone needs no ring",
        BORDERED,
        "any(low > 0 or high > 0 for low, high in outer.padding)",
        "any(low > 0 for low, high in outer.padding)",
        BORDERS,
    ),
    Bug("dilation on both factors", FACTOR, "d if yes else 1 for d, yes", "d for d, yes", VALUES),
    Bug("padding on both factors", FACTOR, "p if yes else (0, 0) for p, yes", "p for p, yes", VALUES),
    Bug("bias of a product forgotten", FACTOR, "Conv(kernel, conv.bias, stride", "Conv(kernel, None, stride", VALUES),
    Bug("rank of the first group", FACTOR, ".sum(1).max())", ".sum(1)[0])", VALUES),
    Bug("singular values squared", FACTOR, "s[:, :rank].sqrt()", "s[:, :rank]", VALUES),
    Bug(
        "constant channel forgotten",
        DEAD,
        "torch.where(read & constant & ~needed, values, 0)",
        "torch.zeros_like(values)",
        VALUES,
    ),
    Bug("constant before a border", DEAD, "((values == 0) | (not reaches_border))", "(values == values)", VALUES),
    Bug(
        "function of a constant forgotten", DEAD, "between(values) if between is not None else values", "values", VALUES
    ),
    Bug("constant before a transposed one", DEAD, "outer.transposed or any(", "any(", VALUES),
    Bug(
        "arguments of a function dropped",
        ALGEBRA + "elementwise.py",
        "self.function(x, *self.arguments, ",
        "self.function(x, ",
        VALUES,
    ),
    Bug(
        "options of a function dropped",
        ALGEBRA + "elementwise.py",
        "*self.arguments, **self.options)",
        "*self.arguments)",
        VALUES,
    ),
    Bug(
        "trimmed sides swapped",
        STRUCTURE,
        "(low - first * conv.dilation[i], high - cut * conv.dilation[i])",
        "(low - cut * conv.dilation[i], high - first * conv.dilation[i])",
        VALUES,
    ),
    Bug("trimmed without dilation", STRUCTURE, "(low - first * conv.dilation[i],", "(low - first,", VALUES),
    Bug("block of the first group", STRUCTURE, "kernel[g, :, g] for", "kernel[g, :, 0] for", VALUES),
    Bug("interleaved groups", STRUCTURE, ".any(3).any(1)", ".any(2).any(0)", VALUES),
    Bug("bias of a concatenation in every part", COMBINATION, "with_bias=start == 0", "with_bias=True", CONCATS),
    Bug(
        "parts of a concatenation read from the start",
        COMBINATION,
        "            start += width\n",
        "            start += width if start else 0\n",
        CONCATS,
    ),
    Bug(
        "affine map of the first part",
        COMBINATION,
        "outer.narrowed(start, conv.out_channels)",
        "outer.narrowed(0, conv.out_channels)",
        CONCATS,
    ),
    Bug(
        "branches of two inputs stacked",
        COMBINATION,
        "if merged and merged[-1].source == term.source",
        "if merged",
        CONCATS,
    ),
    Bug(
        "sizes of a second source guessed",
        COMBINATION,
        "first if yielded is None else preimage(term.map, first, yielded[len(yielded) - n :])",
        "first",
        CONCATS,
    ),
    Bug(
        "nearest size taken for the right one",
        COMBINATION,
        "(tuple(sizes))[axis] == spatial[axis]",
        "(tuple(sizes))[axis] >= spatial[axis]",
        CONCATS,
    ),
    Bug(
        "axis of a concatenation not compared",
        "fusekit/pattern.py",
        "if found is None or self._axis(reading.map) not in (None, found[1]):",
        "if found is None:",
        CONCATS,
    ),
    Bug("first branch twice", COMBINATION, "(*convs[1:], *(v", "(*convs, *(v", SUMS),
    Bug(
        "other sources lost",
        COMBINATION,
        "rest = tuple(term for term in self.terms if term.source != 0)",
        "rest: tuple[Term, ...] = ()",
        SUMS,
    ),
    Bug("alpha of a sum ignored", "fusekit/branches.py", " or node.kwargs or len", " or len", SUMS),
    Bug(
        "sizes of siblings reversed",
        ALGEBRA + "fork.py",
        "for conv in self.convs))\n\n    def output",
        "for conv in self.convs[::-1]))\n\n    def output",
        SIBLINGS,
    ),
    Bug(
        "siblings of other strides",
        "fusekit/pattern.py",
        "c.window, c.stride, c.padding",
        "c.window, c.padding",
        SIBLINGS,
    ),
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
    Bug("spectrum of another dilation", SPECTRAL_CONV, "a.outputs, a.stuffing)", "a.outputs)", BY_FFT),
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
        ALGEBRA + "effort.py",
        "best = min((best, *candidates), key=time)",
        "best = max((best, *candidates), key=time)",
        BY_FFT,
    ),
    Bug(
        "effort of one image",
        ALGEBRA + "effort.py",
        "factor * frames * channels * points, factor",
        "factor * tiles * channels * points, factor",
        BY_FFT,
    ),
    Bug("phases of one sign", DFT, "_RE = ((_COS, 1), (_SIN, -1))", "_RE = ((_COS, 1), (_SIN, 1))", BY_MATRICES),
    Bug("conjugate bins count once", DFT, "else 2.0) / self.points", "else 1.0) / self.points", BY_MATRICES),
    Bug("Karatsuba's third product", DFT, "(_MINUS, 1), (_COS, 1))", "(_MINUS, 1), (_COS, -1))", BY_MATRICES),
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
