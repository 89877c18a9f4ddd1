"""Three ways from a complex module to an ONNX file: torch's exporter; the same after torch's own complex
decomposition; fusekit. Each file is checked, loaded and run, and compared with the module in complex128.

    plain        torch.onnx.export(module, dynamo=True)
    decomposed   torch.export, decompose_complex_in_graph (ComplexTensor), torch.onnx.export
    fusekit      fusekit.export

torch offers no command for the second way: torch 2.13 has the decomposition only for torch.compile, behind a flag. Here
it gets the graph with whole convolutions and linear layers. If that does not give a file, it gets torch's core
operators.
"""

import math
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

import fusekit
from benchmarks.lowering_case import Case
from fusekit.model import Inputs, quiet, run_float64
from fusekit.optimizing.lower_complex import NAME as LOWERING
from fusekit.runtimes.onnx_runtime import OnnxFile

try:
    from torch._functorch._aot_autograd.complex_decomposition import decompose_complex_in_graph
except ImportError:  # torch before 2.13
    decompose_complex_in_graph = None

PLAIN, DECOMPOSED, FUSEKIT = "plain exporter", "decomposed", "fusekit"
WRONG = 1e-3  # of the largest entry: beyond it an answer is not the module's, whatever the precision
Way = Callable[[nn.Module, tuple[Tensor, ...], Path], str]


@dataclass(frozen=True)
class Outcome:
    """The outcome for one module in one way. `problem` is empty if the file runs and is right."""

    nodes: int | None = None
    error: float | None = None  # of the file, relative to each output's largest entry, against complex128
    problem: str = ""
    note: str = ""

    @property
    def text(self) -> str:
        if self.problem:
            return self.problem
        return f"{self.nodes} nodes, {self.error:.0e}"


def plain(module: nn.Module, x: tuple[Tensor, ...], path: Path) -> str:
    torch.onnx.export(module, x, path, dynamo=True, verbose=False, external_data=False)
    return ""


def decomposed(module: nn.Module, x: tuple[Tensor, ...], path: Path) -> str:
    if decompose_complex_in_graph is None:
        raise NotImplementedError("this torch has no complex decomposition")
    problems: list[Exception] = []
    for table in ({}, None):
        try:
            program = torch.export.export(module, x, strict=False)
            graph: Any = program.run_decompositions(table).module(check_guards=False)
            real = decompose_complex_in_graph(graph, pytree.tree_leaves(x))
            torch.onnx.export(real, x, path, dynamo=True, verbose=False, external_data=False)
            OnnxFile(path)
            return ""
        except Exception as error:
            problems.append(error)
    raise problems[-1]


def through_fusekit(module: nn.Module, x: tuple[Tensor, ...], path: Path) -> str:
    """Export with fusekit, with fixed sizes as in the other ways, and without timing, so that the lowering is
    compared."""
    try:
        verdict = fusekit.export(module, path, x, dynamic=False, measure=False)
    except fusekit.ExportError:
        fast: Any = fusekit.optimize(module, x, target="onnxruntime", measure=False)
        told = refusals(fast.report)
        if not told:
            raise
        raise NotImplementedError(f"not lowered, {told}") from None
    if not verdict.ok:
        raise ArithmeticError(f"not valid: {verdict.failures[0]}")
    return refusals(verdict.report)


def refusals(report: fusekit.Report | None) -> str:
    """Why complex values were not lowered; empty if they were."""
    events = report.events if report is not None else ()
    reasons = [e.reason for e in events if e.rewrite == LOWERING and e.outcome is not fusekit.Outcome.APPLIED]
    return "; ".join(dict.fromkeys(_short(text) for text in reasons))


def _short(text: str) -> str:
    """The start of a text. Paths are reduced to file names, because folders of this machine help nobody."""
    text = re.sub(r"(?<![\w.])(?:/[\w.+-]+)+/([\w.+-]+)", r"\1", text)
    return text if len(text) <= 160 else f"{text[:157]}..."


WAYS: dict[str, Way] = {PLAIN: plain, DECOMPOSED: decomposed, FUSEKIT: through_fusekit}


def outcome(case: Case, way: str, path: Path) -> Outcome:
    """Export in one way to `path`, run the checker and ONNX Runtime, and compare."""
    path.unlink(missing_ok=True)
    try:
        with quiet(), torch.no_grad(), _default_state():
            note = WAYS[way](case.module(), case.given(), path)
    except Exception as error:
        return Outcome(problem=f"no file: {reason(error)}")
    try:
        onnx.checker.check_model(str(path), full_check=True)
    except Exception as error:
        return Outcome(problem=f"invalid file: {reason(error)}")
    count = nodes(path)
    try:
        error = error_of(case.module(), case.given(), path)
    except Exception as problem:
        return Outcome(count, problem=f"does not run: {reason(problem)}")
    if not error <= WRONG:
        return Outcome(count, error, f"wrong: error {error:.0e}")
    return Outcome(count, error, note=note)


def nodes(path: Path) -> int:
    """The number of operators in the file, including inner graphs (loops), without constants."""

    def count(graph: onnx.GraphProto) -> int:
        inner = (a.g for node in graph.node for a in node.attribute if a.HasField("g"))
        return sum(node.op_type != "Constant" for node in graph.node) + sum(map(count, inner))

    return count(onnx.load(str(path)).graph)


def error_of(module: nn.Module, inputs: tuple[Tensor, ...], path: Path) -> float:
    """The largest error of an output relative to the output's largest entry, against float64 and complex128."""
    x = Inputs(inputs)
    with torch.no_grad(), quiet():
        expected = [leaf for leaf in pytree.tree_leaves(run_float64(module, x)) if isinstance(leaf, Tensor)]
    results = [value for _, value in OnnxFile(path).run(x, x.names(module))]
    if len(results) != len(expected):
        return math.inf
    return max(_distance(a, b) for a, b in zip(results, expected, strict=True))


def _distance(found: Tensor, expected: Tensor) -> float:
    """The distance of two outputs. Infinite values and NaN must be the same in both."""
    expected = torch.view_as_real(expected.resolve_conj()) if expected.is_complex() else expected
    if found.shape != expected.shape:
        return math.inf
    found, expected = found.double(), expected.double()
    if not torch.equal(found.isfinite(), expected.isfinite()):
        return math.inf
    found, expected = (t.nan_to_num(0, 0, 0) for t in (found, expected))
    if not expected.numel():
        return 0.0
    return float((found - expected).abs().max() / expected.abs().max().clamp_min(1e-300))


def reason(error: BaseException) -> str:
    """The first line of the first cause that has a message. The exporter wraps it in errors with general advice."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = [re.sub(r"\x1b\[[0-9;]*m", "", line).strip() for line in str(error).splitlines()]
    said = [line for line in lines if line and not line.startswith(("Failed to", "⬆️", "<class"))]
    told = re.search(r"aten\.[\w.]+|prims\.[\w.]+", " ".join(said))
    missing = [line for line in said if line.startswith("No ONNX function found") or "No decompositions" in line]
    if missing and told:
        return f"no ONNX function for {told.group()} on complex numbers"
    text = f"{type(error).__name__}: {said[0]}" if said else type(error).__name__
    return _short(text)


@contextmanager
def _default_state() -> Iterator[None]:
    """Resets the state that a failed export may leave, so that it does not affect the next one."""
    default = torch.get_default_dtype()
    try:
        yield
    finally:
        torch.set_default_dtype(default)
