"""Random ONNX graphs: what fusekit reads, next to what it does not, in the odd forms that files have.

Each operator draws its attributes, defaults, paddings and versions; weights are stored, or constant nodes, or computed
from others, shared, or outputs too; inner values are outputs, or read by a branch of an If.
"""

import random
from collections.abc import Callable
from typing import Any

import numpy
import onnx
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

OPSETS = (7, 8, 9, 10, 11, 12, 13, 15, 17, 18, 20, 21, 23)
Shape = tuple[int, ...]


class RandomGraph:
    """One graph, drawn node by node. `model` is the result; `sizes` are those of its input."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.numbers = numpy.random.default_rng(seed)
        self.opset = self.random.choice(OPSETS)
        self.nodes: list[NodeProto] = []
        self.stored: dict[str, Any] = {}
        self.shapes: dict[str, Shape] = {}
        self.outputs: list[str] = []
        self.free = self.random.random() < 0.5
        self.fixed = (1,)
        self.last: Drawer | None = None  # what was drawn last, if it held
        self._count = 0
        axes = self.random.choice((1, 2, 2, 2, 2, 2, 3))
        sizes = tuple(self.random.randint(5, 12) for _ in range(axes))
        self.shapes["x"] = (self.random.choice((1, 1, 2)), self.random.choice((1, 2, 3, 4, 6)), *sizes)
        self.sizes = self.shapes["x"]
        for _ in range(self.random.randint(2, 9)):
            self._draw()
        self.model = self._finish()

    def sized(self, change: int) -> Shape | None:
        """Another shape of the input, if it is free."""
        n, c, *spatial = self.sizes
        return (n + 1, c, *(size + change for size in spatial)) if self.free else None

    def _draw(self) -> None:
        names = list(self.shapes)
        recent = names[-3:] if self.random.random() < 0.7 else names
        source = self.random.choice(recent)
        kinds = _BY_RANK.get(min(len(self.shapes[source]), 3), []) + _ANY
        drawer = self.random.choice(kinds)
        if self.last in _BEFORE and len(self.shapes[names[-1]]) > 2 and self.random.random() < 0.6:
            source, drawer = names[-1], self.random.choice((_conv, _conv, _conv, _linear, _norm))
        before = (len(self.nodes), dict(self.stored))
        made = drawer(self, source)
        self.last = drawer
        if made is None or not self._infer(made):
            self.last = None
            del self.nodes[before[0] :]
            self.stored = before[1]

    def _infer(self, made: list[str]) -> bool:
        """Whether the new values have known, not too large shapes."""
        try:
            proto = onnx.shape_inference.infer_shapes(self._proto([], free=False), strict_mode=True, data_prop=True)
        except Exception:
            return False
        kinds = {value.name: value.type.tensor_type for value in proto.graph.value_info}
        for name in made:
            shape = tuple(dim.dim_value for dim in kinds[name].shape.dim) if name in kinds else ()
            if not shape or min(shape) < 1 or numpy.prod(shape) > 20_000 or kinds[name].elem_type != TensorProto.FLOAT:
                return False
        self.shapes.update({n: tuple(d.dim_value for d in kinds[n].shape.dim) for n in made})
        return True

    def _proto(self, outputs: list[str], *, free: bool) -> ModelProto:
        _, c, *spatial = self.sizes
        shape: list[Any] = ["n", c, *(f"s{i}" for i in range(len(spatial)))] if free else list(self.sizes)
        inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)]
        found = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs]
        stored = [numpy_helper.from_array(numpy.asarray(array), name) for name, array in self.stored.items()]
        graph = helper.make_graph(self.nodes, "g", inputs, found, stored)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", self.opset)], ir_version=8)

    def _finish(self) -> ModelProto:
        read = {name for node in self.nodes for name in node.input}
        ends = [name for name in self.shapes if name not in read and name != "x"]
        inner = [name for name in self.shapes if name in read and name != "x" and self.random.random() < 0.08]
        self.outputs = [*ends, *inner]
        if self.outputs and self.random.random() < 0.1:
            self._branch()
        if self.stored and self.random.random() < 0.1:
            floats = [name for name, array in self.stored.items() if array.dtype == numpy.float32]
            self.outputs += floats[:1]
        self.outputs = list(dict.fromkeys(self.outputs)) or ["x"]
        model = self._proto(self.outputs, free=self.free)
        kinds = {n: a.dtype for n, a in self.stored.items()}
        if self.stored and self.random.random() < 0.1:
            name = self.random.choice(list(self.stored))
            kind = helper.np_dtype_to_tensor_dtype(kinds[name])
            model.graph.input.append(helper.make_tensor_value_info(name, kind, self.stored[name].shape))
        return model

    def _branch(self) -> None:
        """An If whose branches read a value from outside."""
        name = self.random.choice(list(self.shapes))
        self.stored["yes"] = numpy.array(self.random.random() < 0.5)
        branches = {}
        for which, operator in (("then_branch", "Neg"), ("else_branch", "Identity")):
            out = helper.make_tensor_value_info(f"{which}_out", TensorProto.FLOAT, None)
            inner = helper.make_node(operator, [name], [f"{which}_out"])
            branches[which] = helper.make_graph([inner], which, [], [out])
        self.nodes.append(helper.make_node("If", ["yes"], ["branched"], **branches))
        self.outputs.append("branched")

    # what operators are made of

    def name(self, prefix: str = "v") -> str:
        self._count += 1
        return f"{prefix}{self._count}"

    def add(self, operator: str, inputs: list[str], outputs: int = 1, **attributes: Any) -> list[str]:
        made = [self.name() for _ in range(outputs)]
        self.nodes.append(helper.make_node(operator, inputs, made, name=self.name("n"), **attributes))
        return made

    def integers(self, *values: int) -> str:
        return self._kept(numpy.array(values, dtype=numpy.int64))

    def weight(self, *shape: int, positive: bool = False) -> str:
        """A weight, which now and then is shared, a constant node, or computed."""
        alike = [n for n, a in self.stored.items() if a.shape == shape and a.dtype == numpy.float32 and not positive]
        if alike and self.random.random() < 0.2:
            return self.random.choice(alike)
        values = self.numbers.uniform(0.5, 2, shape) if positive else self.numbers.normal(size=shape) * 0.5
        if not positive and self.random.random() < 0.1:
            values = values * (self.numbers.random(shape) < 0.5)
        array = values.astype(numpy.float32)
        way = self.random.random()
        if way < 0.1:
            made = self.name("c")
            self.nodes.append(helper.make_node("Constant", [], [made], value=numpy_helper.from_array(array)))
            return made
        if way < 0.2 and array.ndim:
            first, made = self._kept(numpy.ascontiguousarray(array.T)), self.name("c")
            self.nodes.append(helper.make_node("Transpose", [first], [made]))
            return made
        if way < 0.25:
            first, made = self._kept(array), self.name("c")
            self.nodes.append(helper.make_node("Identity", [first], [made]))
            return made
        return self._kept(array)

    def _kept(self, array: Any) -> str:
        name = self.name("w")
        self.stored[name] = array
        return name

    def pick(self, *options: Any) -> Any:
        return self.random.choice(options)


Drawer = Callable[[RandomGraph, str], list[str] | None]


def _window(g: RandomGraph, n: int, transposed: bool = False) -> dict[str, Any]:
    attributes: dict[str, Any] = {}
    if g.pick(0, 0, 1):
        attributes["strides"] = [g.pick(1, 2, 3) for _ in range(n)]
    if g.pick(0, 0, 0, 1):
        attributes["dilations"] = [g.pick(1, 2) for _ in range(n)]
    way = g.pick("none", "pads", "pads", "uneven", "auto")
    if way == "pads":
        attributes["pads"] = [g.pick(0, 1, 2)] * 2 * n
    if way == "uneven":
        attributes["pads"] = [g.pick(0, 1, 2) for _ in range(2 * n)]
    if way == "auto":
        attributes["auto_pad"] = g.pick("SAME_UPPER", "SAME_LOWER", "VALID", "NOTSET")
    return attributes


def _conv(g: RandomGraph, x: str) -> list[str]:
    c, n = g.shapes[x][1], len(g.shapes[x]) - 2
    groups = g.pick(1, 1, 1, *(k for k in (2, 3, c) if c % k == 0))
    out = groups * g.pick(1, 2, 3, 4)
    window = [g.pick(1, 1, 2, 3) for _ in range(n)]
    attributes = _window(g, n)
    if groups > 1:
        attributes["group"] = groups
    if g.pick(0, 1):
        attributes["kernel_shape"] = window
    inputs = [x, g.weight(out, c // groups, *window)]
    if g.pick(0, 1):
        inputs.append(g.weight(out))
    return g.add("Conv", inputs, **attributes)


def _conv_transpose(g: RandomGraph, x: str) -> list[str]:
    c, n = g.shapes[x][1], len(g.shapes[x]) - 2
    groups = g.pick(1, 1, *(k for k in (2, c) if c % k == 0))
    window = [g.pick(1, 2, 3) for _ in range(n)]
    attributes = _window(g, n)
    if groups > 1:
        attributes["group"] = groups
    if g.pick(0, 0, 1) and "strides" in attributes:
        attributes["output_padding"] = [g.random.randrange(s) for s in attributes["strides"]]
    if g.pick(0, 0, 0, 0, 1):
        attributes["output_shape"] = [2 * size for size in g.shapes[x][2:]]
    out = g.pick(1, 2, 3)
    inputs = [x, g.weight(c, out, *window)]
    if g.pick(0, 1):
        inputs.append(g.weight(out * groups))
    return g.add("ConvTranspose", inputs, **attributes)


def _norm(g: RandomGraph, x: str) -> list[str]:
    c = g.shapes[x][1]
    inputs = [x, g.weight(c), g.weight(c), g.weight(c), g.weight(c, positive=True)]
    attributes: dict[str, Any] = {"epsilon": g.pick(1e-5, 1e-3, 0.1)} if g.pick(0, 1) else {}
    return g.add("BatchNormalization", inputs, **attributes)


def _with_constant(g: RandomGraph, x: str) -> list[str]:
    shape = g.shapes[x]
    axis = g.pick(1, 1, 1, -1, 0) % len(shape)
    width = g.pick(shape[axis], shape[axis], shape[axis], 1, 2)
    forms = [
        (width, *(1,) * (len(shape) - axis - 1)),
        (*(1,) * axis, width, *(1,) * (len(shape) - axis - 1)),
        (),
        (1,),
        (width,),
        shape,
        (1, *shape),
    ]
    constant = g.weight(*g.random.choice(forms[:4] + forms), positive=True)
    operator = g.pick("Add", "Sub", "Mul", "Div")
    swapped = operator != "Div" and g.pick(0, 0, 1)  # c / 0 hangs on the sign of the zero
    return g.add(operator, [constant, x] if swapped else [x, constant])


def _of_two(g: RandomGraph, x: str) -> list[str]:
    alike = [name for name, shape in g.shapes.items() if shape == g.shapes[x]]
    others = [name for name in g.shapes if len(g.shapes[name]) == len(g.shapes[x])]
    other = g.random.choice(alike if g.pick(0, 1, 1, 1) else others)
    return g.add(g.pick("Add", "Add", "Add", "Sub", "Mul"), [x, other] if g.pick(0, 1) else [other, x])


def _activation(g: RandomGraph, x: str) -> list[str]:
    operator = g.pick("Relu", "Sigmoid", "Tanh", "LeakyRelu", "Abs", "Elu", "Neg", "Softplus")
    alpha: dict[str, Any] = {"alpha": 0.2} if operator == "LeakyRelu" and g.pick(0, 1) else {}
    return g.add(operator, [x], **alpha)


def _nothing(g: RandomGraph, x: str) -> list[str]:
    operator = g.pick("Identity", "Dropout", "Cast")
    return g.add(operator, [x], **({"to": TensorProto.FLOAT} if operator == "Cast" else {}))


def _pad(g: RandomGraph, x: str) -> list[str]:
    rank = len(g.shapes[x])
    amounts = [0] * 2 * rank
    for axis in range(g.pick(2, 2, 2, 0, 1), rank):
        amounts[axis], amounts[axis + rank] = g.pick(0, 1, 2), g.pick(0, 1, 1, 2, -1)
    if g.pick(0, 0, 0, 0, 0, 1):
        amounts = [0] * (rank + 1) + [1] + [0] * (rank - 2)
    mode = g.pick("constant", "constant", "constant", "reflect", "edge", *(("wrap",) if g.opset >= 19 else ()))
    value = g.pick(0.0, 0.0, 0.0, 1.0, -0.5)
    if g.opset < 11:
        return g.add("Pad", [x], mode=mode, pads=amounts, value=value)
    inputs = [x]
    if g.opset >= 18 and g.pick(0, 0, 1):
        kept = [axis for axis in range(rank) if amounts[axis] or amounts[axis + rank]] or [rank - 1]
        inputs += [g.integers(*(amounts[a] for a in kept), *(amounts[a + rank] for a in kept))]
        inputs += ["", g.integers(*(a - g.pick(0, rank) for a in kept))]
    else:
        inputs += [g.integers(*amounts)]
        if value or g.pick(0, 1):
            inputs.append(g._kept(numpy.array(value, dtype=numpy.float32)))
    return g.add("Pad", inputs, mode=mode)


def _pool(g: RandomGraph, x: str) -> list[str]:
    n = len(g.shapes[x]) - 2
    attributes = {k: v for k, v in _window(g, n).items() if k != "dilations"}
    attributes["kernel_shape"] = [g.pick(1, 2, 3) for _ in range(n)]
    operator = g.pick("AveragePool", "AveragePool", "AveragePool", "MaxPool")
    if operator == "AveragePool" and g.pick(0, 1):
        attributes["count_include_pad"] = g.pick(0, 1)
    if g.opset >= 10 and g.pick(0, 0, 0, 1):
        attributes["ceil_mode"] = 1
    return g.add(operator, [x], **attributes)


def _mean(g: RandomGraph, x: str) -> list[str]:
    rank = len(g.shapes[x])
    if g.pick(0, 1):
        return g.add("GlobalAveragePool", [x])
    axes = list(range(2, rank)) if g.pick(0, 1, 1) else [g.random.randrange(rank)]
    axes = [a - g.pick(0, rank) for a in axes]
    kept = {} if g.pick(0, 1) else {"keepdims": g.pick(0, 1)}
    if g.opset < 18:
        return g.add("ReduceMean", [x], axes=axes, **kept)
    return g.add("ReduceMean", [x, g.integers(*axes)], **kept)


def _concat(g: RandomGraph, x: str) -> list[str]:
    axis = g.pick(1, 1, 1, 0, -1)
    rest = [s for a, s in enumerate(g.shapes[x]) if a != axis % len(g.shapes[x])]
    fitting = [
        name
        for name, shape in g.shapes.items()
        if len(shape) == len(g.shapes[x]) and [s for a, s in enumerate(shape) if a != axis % len(shape)] == rest
    ]
    return g.add("Concat", [g.random.choice(fitting) for _ in range(g.pick(1, 2, 2, 3))], axis=axis)


def _split(g: RandomGraph, x: str) -> list[str] | None:
    axis = g.pick(1, 1, 1, -1)
    total = g.shapes[x][axis]
    if total < 2:
        return None
    first = g.random.randint(1, total - 1)
    axis = axis - g.pick(0, len(g.shapes[x])) if axis > 0 else axis
    if total % 2 == 0 and g.pick(0, 1):
        extra = {"num_outputs": 2} if g.opset >= 18 else {}
        return g.add("Split", [x], 2, axis=axis, **extra)
    if g.opset < 13:
        return g.add("Split", [x], 2, axis=axis, split=[first, total - first])
    return g.add("Split", [x, g.integers(first, total - first)], 2, axis=axis)


def _crop(g: RandomGraph, x: str) -> list[str]:
    """Several axes at once, counted from either end, with steps."""
    axes = [axis for axis in range(g.pick(1, 2, 2, 2), len(g.shapes[x])) if g.pick(0, 1, 1)] or [len(g.shapes[x]) - 1]
    sizes = [g.shapes[x][axis] for axis in axes]
    starts = [g.pick(0, 1, 1, -size, -2) for size in sizes]
    ends = [g.pick(size, size - 1, -1, 1000, 2**31 - 1, 2**63 - 1) for size in sizes]
    axes = [axis - g.pick(0, len(g.shapes[x])) for axis in axes] if g.opset >= 10 else axes
    if g.opset < 10:
        return g.add("Slice", [x], axes=axes, starts=starts, ends=ends)
    inputs = [x, g.integers(*starts), g.integers(*ends), g.integers(*axes)]
    return g.add("Slice", [*inputs, g.integers(*(g.pick(1, 1, 2) for _ in axes))] if g.pick(0, 1) else inputs)


def _slice(g: RandomGraph, x: str) -> list[str]:
    axis = g.pick(1, 1, 1, 2) % len(g.shapes[x])
    start = g.random.randrange(g.shapes[x][axis])
    end = g.pick(start + 1, start + 2, -1, 2**31 - 1, 1000)
    if g.opset < 10:
        return g.add("Slice", [x], axes=[axis], starts=[start], ends=[end])
    inputs = [x, g.integers(start), g.integers(end), g.integers(axis)]
    return g.add("Slice", [*inputs, g.integers(g.pick(1, 1, 1, 2))] if g.pick(0, 1) else inputs)


def _flat(g: RandomGraph, x: str) -> list[str]:
    shape = g.shapes[x]
    if g.pick(0, 1):
        return g.add("Flatten", [x], **({"axis": g.pick(1, 1, 2)} if g.pick(0, 1) else {}))
    rest = int(numpy.prod(shape[1:]))
    return g.add("Reshape", [x, g.integers(*g.pick((0, -1), (-1, rest), (shape[0], -1), (shape[0], rest), (-1, 1)))])


def _linear(g: RandomGraph, x: str) -> list[str] | None:
    shape = g.shapes[x]
    width, out = shape[-1], g.pick(1, 2, 5)
    if len(shape) == 2 and g.pick(0, 1, 1):
        attributes: dict[str, Any] = {}
        if g.pick(0, 0, 1):
            attributes = {"alpha": g.pick(1.0, 0.5), "beta": g.pick(1.0, 2.0)}
        turned = g.pick(0, 1)
        inputs = [x, g.weight(out, width) if turned else g.weight(width, out)]
        if turned:
            attributes["transB"] = 1
        if g.opset < 11 or g.pick(0, 1):
            inputs.append(g.weight(*g.pick((out,), (1, out), (1,), (), (shape[0], 1), (shape[0], out))))
        return g.add("Gemm", inputs, **attributes)
    return g.add("MatMul", [x, g.weight(width, out)] if g.pick(0, 1, 1, 1) else [g.weight(2, shape[-2]), x])


def _turned(g: RandomGraph, x: str) -> list[str]:
    rank = len(g.shapes[x])
    order = list(range(rank))
    g.random.shuffle(order)
    order = g.pick(order, [0, rank - 1, *range(1, rank - 1)], [0, *range(2, rank), 1])
    return g.add("Transpose", [x], **({"perm": order} if g.pick(0, 1, 1, 1) else {}))


def _resized(g: RandomGraph, x: str) -> list[str]:
    """Mostly by whole factors; which position of x an output shows is said in many ways."""
    rank, mode = len(g.shapes[x]), g.pick("nearest", "nearest", "nearest", "linear")
    factors = [1.0, g.pick(1.0, 1.0, 1.0, 1.0, 2.0)] + [g.pick(1.0, 2.0, 2.0, 3.0, 1.5, 0.5) for _ in range(rank - 2)]
    factors = [1.0, 1.0] + [2.0] * (rank - 2) if g.pick(0, 1) else factors
    if g.opset < 9:
        return g.add("Upsample", [x], mode=mode, scales=factors)
    scales = g._kept(numpy.array(factors, dtype=numpy.float32))
    if g.opset < 11:
        return g.add("Upsample" if g.opset < 10 else "Resize", [x, scales], mode=mode)
    words: dict[str, Any] = {"mode": mode}
    if g.pick(0, 1):
        position = g.pick("asymmetric", "asymmetric", "half_pixel", "pytorch_half_pixel", "align_corners")
        words["coordinate_transformation_mode"] = position
    if g.pick(0, 1):
        words["nearest_mode"] = g.pick("floor", "floor", "round_prefer_floor", "round_prefer_ceil", "ceil")
    region = "" if g.opset >= 13 else g._kept(numpy.zeros(0, dtype=numpy.float32))
    if g.opset >= 18 and g.pick(0, 0, 1):
        words["axes"] = [axis - g.pick(0, rank) for axis in range(2, rank)]
        scales = g._kept(numpy.array(factors[2:], dtype=numpy.float32))
    elif not g.free and g.pick(0, 0, 1):
        sizes = [int(size * factor) for size, factor in zip(g.shapes[x], factors, strict=True)]
        return g.add("Resize", [x, region, "", g.integers(*sizes)], **words)
    return g.add("Resize", [x, region, scales], **words)


def _standardized(g: RandomGraph, x: str) -> list[str] | None:
    """Norms by the statistics of what comes in."""
    shape = g.shapes[x]
    kinds = [("InstanceNormalization", 7, 3), ("LayerNormalization", 17, 2), ("RMSNormalization", 23, 2)]
    kinds.append(("GroupNormalization", 18, 3))
    operator, _, _ = g.random.choice([kind for kind in kinds if g.opset >= kind[1] and len(shape) >= kind[2]] or kinds)
    options: dict[str, Any] = {"epsilon": g.pick(1e-5, 0.1)} if g.pick(0, 1) else {}
    width = shape[1]
    if operator in ("LayerNormalization", "RMSNormalization"):
        axis = g.pick(-1, -1, len(shape) - 1, -2)
        options, width = {**options, "axis": axis}, shape[-1]
        if axis == -2:
            return g.add(operator, [x, g.weight(*shape[-2:])], **options)
    elif operator == "GroupNormalization":
        groups = g.random.choice([k for k in (1, 2, 3, shape[1]) if shape[1] % k == 0])
        options, width = {**options, "num_groups": groups}, groups if g.opset < 21 else shape[1]
    scales = [g.weight(width)] if operator == "RMSNormalization" else [g.weight(width), g.weight(width)]
    return g.add(operator, [x, *(scales[:1] if operator[0] == "L" and g.pick(0, 1) else scales)], **options)


def _shuffled(g: RandomGraph, x: str) -> list[str] | None:
    if len(g.shapes[x]) != 4:
        return None
    if g.pick(0, 1):
        return g.add("SpaceToDepth", [x], blocksize=2)
    mode = {"mode": g.pick("DCR", "CRD")} if g.opset >= 11 else {}
    return g.add("DepthToSpace", [x], blocksize=2, **mode)


def _picked(g: RandomGraph, x: str) -> list[str]:
    order = [g.random.randrange(g.shapes[x][1]) for _ in range(g.shapes[x][1])]
    g.random.shuffle(order)
    return g.add("Gather", [x, g.integers(*order)], axis=1)


def _other(g: RandomGraph, x: str) -> list[str]:
    return g.add(g.pick("Softmax", "Sign", "Ceil"), [x])


# what laws look for before a convolution, a linear layer or a norm
_BEFORE: set[Drawer | None] = {_resized, _crop, _turned, _shuffled, _standardized, _pad, _picked, _pool}
_ANY: list[Drawer] = [_with_constant, _with_constant, _of_two, _of_two, _activation, _nothing, _other]
_BY_RANK: dict[int, list[Drawer]] = {
    2: [_linear, _linear, _norm, _concat, _flat, _split, _turned, _standardized],
    3: [
        *(_conv, _conv, _conv, _conv, _norm, _norm, _conv_transpose, _pool, _pad, _mean, _concat, _concat, _split),
        *(_slice, _crop, _flat, _linear, _turned, _shuffled, _picked, _resized, _resized, _standardized),
    ],
}
