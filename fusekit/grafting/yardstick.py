"""Whether a file computes what the original file computes.

    error = ‖g − f64‖ / ‖f64‖,   own = ‖f − f64‖ / ‖f64‖      g: the other file, f64: the original run in float64
    ok   ⇔  error ≤ max(16 · own, 32 · eps, eps √K)           everywhere; K: products in the longest sum

as modules are judged, where the file can be run in float64 (`in_float64.py`). Where it cannot, or where the original
itself is so far from that run that something else than rounding must be between them, what rounding does to the
original is measured by moving its last bits:

    error = ‖g − f‖ / ‖f‖,   own = ‖f' − f‖ / ‖f‖      f': each weight and input moved by one unit in its last place

That shows how much of its result a file owes to its last bits, at each output and probe: where numbers cancel much,
where they do not little. But then two float32 results are compared.
"""

import math
from collections.abc import Iterator, Mapping
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy
import torch
from onnx import NodeProto, TensorProto
from torch import Tensor

from fusekit.errors import FusekitError
from fusekit.grafting.constants import initializer
from fusekit.grafting.in_float64 import InFloat64, NoSuchRun
from fusekit.grafting.model_file import ModelFile, is_float, is_standard
from fusekit.model import Inputs
from fusekit.runtimes.file import RunnableFile
from fusekit.runtimes.protocol import Runtime
from fusekit.validation import Validation
from fusekit.validation.judge import free_sizes
from fusekit.validation.probes import GIVEN, WIDE_RANGE, Probe, plan_probes
from fusekit.validation.tolerance import OutputError, compare
from fusekit.validation.verdict import REFUSED, ProbeResult

IN_FLOAT64 = "judged by a float64 run of the original file, with a tolerance from the original's own error"
BY_LAST_BITS = (
    "judged by the original file as it is, with a tolerance from moving its weights and inputs by one unit in the last "
    "place"
)
NEAR = 1e4  # roundings by which a file may differ from its float64 run
FEW = 16  # entries of an output up to which its own error may be small by chance
DRAWS = 2  # times the last bits are moved
ROOM = 500_000_000  # bytes of a model from which on they are moved once

# operators that compute with a weight; elsewhere a float may be a size or a scale, and must not be moved
_WEIGHTED = {
    *("Conv", "ConvTranspose", "Gemm", "MatMul", "BatchNormalization", "Add", "Sub", "Mul", "Div", "PRelu"),
    *("InstanceNormalization", "LayerNormalization", "GroupNormalization", "LSTM", "GRU", "RNN", "Sum"),
}

Outputs = list[tuple[str, Any]]  # arrays by name


class Yardstick:
    """The original file on inputs: what it answers, and how far rounding moves that."""

    def __init__(
        self, file: ModelFile, original: RunnableFile, inputs: Inputs, names: list[str], runtime: Runtime, room: Path
    ) -> None:
        self.file, self.original, self.runtime = file, original, runtime
        self.inputs, self.names = inputs, names
        self._room = room
        self._answers: dict[object, tuple[Outputs, list[float], str]] = {}
        self._in_float64 = InFloat64(file)
        self._exact: dict[object, list[Any] | None] = {}  # by probe; None where there is no such run

    def judge(self, path: Path, tolerance: float | None = None, *, sizes: bool = True) -> Validation:
        """The verdict on another file; `sizes`: at other sizes too, where the original leaves them free."""
        candidate = self.runtime.load(path)
        free = free_sizes(self.original, self.inputs, self.names) if sizes else ([], [])
        worked: dict[str, set[int]] = {name: set() for name in self.names}
        results: list[ProbeResult] = []
        for probe in plan_probes(self.inputs, *free):
            for tried, result in self._results(probe, candidate, tolerance):
                results.append(result)
                if result.outputs and not result.failure:
                    for index, axis in tried.varied:
                        worked[self.names[index]].add(axis)
        return Validation(tuple(results), {name: tuple(sorted(axes)) for name, axes in worked.items()})

    def given(self) -> tuple[Outputs, list[Any], list[float]]:
        """On the given inputs: the outputs of the original; the same in float64, or as they are where there is no such
        run; and the noise of each."""
        probe = Probe(GIVEN, self.inputs)
        outputs, noise, _ = self._answer(probe)
        return outputs, self._exact[probe.key] or [value for _, value in outputs], noise

    def on(self, inputs: Inputs) -> tuple[Outputs, list[Any], list[float]]:
        """The same on other inputs, and nothing of it is kept. Raises FusekitError if the original cannot run them."""
        outputs = self._run(self.original, inputs)
        exact = self._run_in_float64(outputs, inputs)
        noise = self._noise(outputs, inputs) if exact is None else [0.0] * len(outputs)
        return outputs, exact or [value for _, value in outputs], noise

    @property
    def longest_sum(self) -> int:
        """The number of products in the longest sum of a convolution or a product of matrices."""
        return self._longest

    def _results(
        self, probe: Probe, candidate: RunnableFile, tolerance: float | None
    ) -> Iterator[tuple[Probe, ProbeResult]]:
        expected, noise, refusal = self._answer(probe)
        if refusal:
            yield probe, ProbeResult(probe.name, skipped=f"{REFUSED} ({refusal})")
            for smaller in probe.instead:
                yield from self._results(smaller, candidate, tolerance)
            return
        finite = all(numpy.isfinite(a).all() for _, a in expected if isinstance(a, numpy.ndarray) and is_float(a))
        if probe.name == WIDE_RANGE and not (finite and any(t.is_floating_point() for t in probe.inputs.tensors())):
            yield probe, ProbeResult(probe.name, skipped="no floating input, or an overflow in the reference itself")
            return
        try:
            given = self._run(candidate, probe.inputs)
        except FusekitError as error:
            yield probe, ProbeResult(probe.name, failure=f"the candidate fails where the reference runs: {error}")
            return
        if [name for name, _ in given] != [name for name, _ in expected]:
            yield probe, ProbeResult(probe.name, failure="its outputs are others than the reference's")
            return
        exact = self._exact[probe.key] or [value for _, value in expected]
        errors = (
            _compared(name, theirs, ours, own, tolerance, self._longest, true)
            for (name, theirs), (_, ours), own, true in zip(expected, given, noise, exact, strict=True)
        )
        yield probe, ProbeResult(probe.name, tuple(errors))

    def _answer(self, probe: Probe) -> tuple[Outputs, list[float], str]:
        """The outputs of the original, the noise of each, or why there are none."""
        if probe.key not in self._answers:
            try:
                outputs = self._run(self.original, probe.inputs)
                exact = self._exact[probe.key] = self._run_in_float64(outputs, probe.inputs)
                small = exact is None or any(getattr(value, "size", 0) <= FEW for _, value in outputs)
                noise = self._noise(outputs, probe.inputs) if small else [0.0] * len(outputs)
                if exact is not None:
                    sizes = (getattr(value, "size", 0) for _, value in outputs)
                    noise = [own if size <= FEW else 0.0 for own, size in zip(noise, sizes, strict=True)]
                self._answers[probe.key] = outputs, noise, ""
            except FusekitError as error:
                if probe.name == GIVEN:
                    raise
                self._answers[probe.key] = [], [], str(error)
        return self._answers[probe.key]

    @property
    def how(self) -> tuple[str, ...]:
        """In one line or two, how what has been judged was."""
        found = {exact is not None for exact in self._exact.values()}
        return (*((IN_FLOAT64,) if True in found else ()), *((BY_LAST_BITS,) if found != {True} else ()))

    def _run_in_float64(self, outputs: Outputs, inputs: Inputs) -> list[Any] | None:
        """What the outputs are in float64; None where nobody can say, or says something else."""
        try:
            found = self._in_float64.outputs(self.original.feed(inputs, self.names))
        except NoSuchRun:
            return None
        exact = [found.get(name, value) for name, value in outputs]
        pairs = [(value, true) for (_, value), true in zip(outputs, exact, strict=True)]
        return exact if all(_is_near(value, true) for value, true in pairs) else None

    def _noise(self, outputs: Outputs, inputs: Inputs) -> list[float]:
        worst = [0.0] * len(outputs)
        for number, moved in enumerate(self._moved):
            generator = numpy.random.default_rng(number)
            try:
                others = self._run(moved, inputs.map(partial(_moved_tensor, generator=generator)))
            except FusekitError:
                continue
            if len(others) == len(outputs):
                pairs = zip(outputs, others, strict=True)
                noise = (_compared(n, theirs, ours, 0.0, None, 1).error for (n, theirs), (_, ours) in pairs)
                worst = [max(w, n if math.isfinite(n) else 0.0) for w, n in zip(worst, noise, strict=True)]
        return worst

    @cached_property
    def _moved(self) -> list[RunnableFile]:
        """The original with its weights moved in the last place, some times over."""
        size = sum(len(t.raw_data) for t in self.file.graph.initializer)
        found = []
        for number in range(1 if size > ROOM or self.file.external() else DRAWS):
            path = self._room / f"moved{number}" / "model.onnx"
            path.parent.mkdir()
            try:
                write_moved(self.file, path, numpy.random.default_rng(number))
                found.append(self.runtime.load(path))
            except FusekitError:
                continue
        return found

    @cached_property
    def _longest(self) -> int:
        """Products in the longest sum of a convolution or a product of matrices."""
        sizes = {tensor.name: list(tensor.dims) for tensor in self.file.graph.initializer}
        longest = 1
        for node in self.file.graph.node:
            dims = sizes.get(node.input[1], []) if len(node.input) > 1 else []
            if node.op_type in ("Conv", "ConvTranspose", "Gemm", "MatMul") and dims and dims[0]:
                longest = max(longest, math.prod(dims) // dims[0], dims[0] if len(dims) == 2 else 1)
        return longest

    def _run(self, file: RunnableFile, inputs: Inputs) -> Outputs:
        values = file.run_arrays(self.original.feed(inputs, self.names))
        return [each for name, value in zip(file.output_names, values, strict=True) for each in _flat(name, value)]


def write_moved(file: ModelFile, path: Path, generator: Any) -> None:
    """The model with every float weight moved by one unit in the last place, up or down."""
    proto = file.copy()
    weights = {n for node in proto.graph.node if _is_weighted(node) for n in (*node.input[1:], *node.input[:1])}
    for tensor in proto.graph.initializer:
        if tensor.name in weights:
            _move(file, tensor, generator)
    for node in proto.graph.node:
        if node.op_type == "Constant" and is_standard(node.domain) and node.output[0] in weights:
            for attribute in node.attribute:
                if attribute.name == "value":
                    _move(file, attribute.t, generator)
    file.write(proto, path)


def _is_weighted(node: NodeProto) -> bool:
    return is_standard(node.domain) and node.op_type in _WEIGHTED


def _move(file: ModelFile, tensor: TensorProto, generator: Any) -> None:
    array = file.array(tensor)
    if is_float(array) and array.size > 1:
        moved = initializer(tensor.name, torch.from_numpy(_moved_array(array, generator)))
        tensor.CopyFrom(moved)


def _moved_array(array: Any, generator: Any) -> Any:
    """Zeros stay: they are seldom the result of rounding."""
    target = numpy.where(generator.random(array.shape) < 0.5, numpy.inf, -numpy.inf).astype(array.dtype)
    with numpy.errstate(all="ignore"):
        moved = numpy.nextafter(array, target)
    return numpy.where((array == 0) | ~numpy.isfinite(array) | ~numpy.isfinite(moved), array, moved)


def _moved_tensor(tensor: Tensor, generator: Any) -> Tensor:
    if tensor.dtype not in (torch.float16, torch.float32, torch.float64):
        return tensor
    return torch.from_numpy(numpy.ascontiguousarray(_moved_array(tensor.numpy(), generator)).reshape(tensor.shape))


def _flat(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    """Sequences and maps entry by entry; an optional value that is absent is None."""
    if isinstance(value, list):
        for index, each in enumerate(value):
            yield from _flat(f"{name}[{index}]", each)
    elif isinstance(value, Mapping):
        for key, each in value.items():
            yield from _flat(f"{name}[{key}]", each)
    else:
        yield name, value


def _is_near(value: Any, true: Any) -> bool:
    """Whether an output differs from its float64 value by no more than rounding may explain."""
    if not _are_numbers(value) or not _are_numbers(true) or value.shape != true.shape:
        return value is true
    reference, exact = torch.as_tensor(value), torch.as_tensor(true)
    bound = min(0.1, NEAR * torch.finfo(reference.dtype).eps) if reference.is_floating_point() else 0.01
    return compare("", reference, reference, exact).reference_error <= bound


def _compared(
    name: str, expected: Any, given: Any, noise: float, tolerance: float | None, longest: int, true: Any = None
) -> OutputError:
    """`true`: the expected value in float64, where it is known."""
    if not _are_numbers(expected) or not _are_numbers(given):
        alike = numpy.array_equal(expected, given) if isinstance(expected, numpy.ndarray) else expected == given
        reason = "" if type(expected) is type(given) and alike else "another value"
        return OutputError(name, (), 0.0 if not reason else math.inf, 0.0, 0.0, reason)
    candidate, reference = torch.as_tensor(given), torch.as_tensor(expected)
    exact = reference if true is None else torch.as_tensor(true)
    return compare(name, candidate, reference, exact, tolerance, noise, longest)


def _are_numbers(value: Any) -> bool:
    return isinstance(value, numpy.ndarray) and value.dtype.kind in "biufc"


def differences(before: Any, after: Any) -> float:
    """The largest relative difference of two lists of outputs of any kind; infinite for others, and NaN elsewhere."""
    first, second = (list(_flat("", value)) for value in (before, after))
    if len(first) != len(second):
        return math.inf
    pairs = zip(first, second, strict=True)
    return max((_compared("", a, b, 0.0, None, 1).error for (_, a), (_, b) in pairs), default=0.0)
