"""Bugs to plant in the laws: rows, edges, borders, structure, branches, siblings."""

from tests.planted.bugs import Bug

ALGEBRA, ATTEMPT = "fusekit/algebra/", "fusekit/rewriting/attempt.py"
CHAIN, CUT, EDGE, ONES = ALGEBRA + "chain.py", "fusekit/rewriting/row_cut.py", ALGEBRA + "edge.py", ALGEBRA + "ones.py"
FACTOR, DEAD, STRUCTURE = ALGEBRA + "factor.py", ALGEBRA + "dead.py", ALGEBRA + "structure.py"
BORDERED, RING, COMBINATION = ALGEBRA + "bordered.py", ALGEBRA + "ring.py", ALGEBRA + "combination.py"

ROWS, EDGES, BORDERS = (
    ("test_row_cut",),
    ("test_edge", "test_pass_laws", "test_passes"),
    ("test_ring", "test_ones", "test_pass_laws", "test_passes"),
)
VALUES = ("test_structure", "test_pass_laws", "test_passes")
CONCATS, SIBLINGS, SUMS = (
    ("test_flattened", "test_pass_laws", "test_passes"),
    ("test_siblings",),
    ("test_flattened", "test_pass_laws", "test_passes"),
)

LAWS = (
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
        "folded.work(shapes[start], itemsize",
        "folded.work(shapes[0], itemsize",
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
    Bug("any window before repeated rows", "passes/fold_edge.py", "pad.before_pointwise(inner)", "pad", EDGES),
    Bug("outer circle forgotten", "passes/fold_edge.py", "pad.before_conv(inner, first)", "first", EDGES),
    Bug(
        "affine map lost at the edge",
        "passes/fold_edge.py",
        "Composition((c @ a, pad))",
        "Composition((c, pad))",
        EDGES,
    ),
    Bug("dearest of the choices", ATTEMPT, "prices.index(min(prices))", "prices.index(max(prices))", BORDERS),
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
        "fusekit/rewriting/pattern.py",
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
    Bug("alpha of a sum ignored", "fusekit/ir/joins.py", " or node.kwargs or len", " or len", SUMS),
    Bug(
        "sizes of siblings reversed",
        ALGEBRA + "fork.py",
        "for conv in self.convs))\n\n    def output",
        "for conv in self.convs[::-1]))\n\n    def output",
        SIBLINGS,
    ),
    Bug(
        "siblings of other strides",
        "fusekit/rewriting/pattern.py",
        "c.window, c.stride, c.padding",
        "c.window, c.padding",
        SIBLINGS,
    ),
)
