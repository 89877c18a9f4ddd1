"""Random ONNX graphs against themselves, folded, in ONNX Runtime at several sizes; folded again they do not change.

    python -m tests.fuzz_onnx [GRAPHS [SEED]]

goes on after a failure, and prints a tally at the end.
"""

import sys
import tempfile
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy
import onnx
import onnxruntime
from onnx import ModelProto

from fusekit.grafting.graft import graft, is_the_same
from fusekit.grafting.importing import SPELLING, import_file
from fusekit.grafting.model_file import ModelFile
from fusekit.grafting.optimize_file import folded
from fusekit.grafting.yardstick import differences
from fusekit.ir.spellings import SPELLINGS
from fusekit.optimizing import Options
from fusekit.report import Event, Outcome
from fusekit.runtimes.onnx_runtime import ONNX_RUNTIME, OnnxRuntime
from fusekit.runtimes.protocol import Runtime
from tests.support.random_onnx import RandomGraph

CLOSE = 3e-5


def session(model: ModelProto) -> Any:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


class Cheap(OnnxRuntime):
    """ONNX Runtime at prices at which more pays, for small graphs: what is refused is not tested."""

    rates = replace(ONNX_RUNTIME.rates, sums_columns=False, scales_norms=False, ring_side=0)


def once(model: ModelProto, sizes: tuple[int, ...], folder: Path, runtime: Runtime) -> tuple[ModelProto, list[Event]]:
    """The model folded, and what was done; the same model if nothing was."""
    onnx.save(model, str(folder / "model.onnx"))
    file = ModelFile.read(folder / "model.onnx")
    with SPELLINGS.extended(SPELLING):
        same = import_file(file, {"x": sizes})
        assert is_the_same(graft(same, (), ""), without_dead(file.proto)), "what is not changed comes out changed"
        options = replace(Options.of("onnxruntime", None, False, None, None, False, 0.0), runtime=runtime)
        result, events, _ = folded(file, options, {"x": sizes})
    return result.proto, events


def without_dead(model: ModelProto) -> ModelProto:
    """Without nodes and weights that nothing depends on."""
    own = ModelProto()
    own.CopyFrom(model)
    wanted = {value.name for value in own.graph.output}
    nodes = []
    for node in reversed(own.graph.node):
        if wanted & set(node.output):
            nodes.append(node)
            wanted |= set(node.input)
            wanted |= {n for a in node.attribute if a.HasField("g") for inner in a.g.node for n in inner.input}
    own.graph.ClearField("node")
    own.graph.node.extend(reversed(nodes))
    inputs = {value.name for value in own.graph.input}
    stored = [tensor for tensor in own.graph.initializer if tensor.name in wanted | inputs]
    own.graph.ClearField("initializer")
    own.graph.initializer.extend(stored)
    return own


def failure_of(seed: int, folder: Path) -> tuple[str, list[Event]]:
    """What is wrong with the graph of this seed, and what was done to it; "skipped" if nobody runs it."""
    drawn = RandomGraph(seed)
    try:
        before = session(drawn.model)
    except Exception:
        return "skipped", []
    runtime = Cheap() if seed % 2 else ONNX_RUNTIME
    result, events = once(drawn.model, drawn.sizes, folder, runtime)
    if wrong := [e for e in events if e.outcome is Outcome.REJECTED]:
        return f"rejected: {wrong[0].rewrite} at {wrong[0].where}: {wrong[0].reason}", events
    try:
        after = session(result)
    except Exception as reason:
        return f"the result does not load: {reason}", events
    if [(v.name, v.type) for v in before.get_outputs()] != [(v.name, v.type) for v in after.get_outputs()]:
        return "other outputs", events
    generator = numpy.random.default_rng(seed)
    ran = 0
    for sizes in (drawn.sizes, drawn.sized(1), drawn.sized(7)):
        if sizes is None:
            continue
        x = generator.normal(size=sizes).astype(numpy.float32)
        try:
            expected = before.run(None, {"x": x})
        except Exception:
            continue
        ran += 1
        try:
            error = differences(expected, after.run(None, {"x": x}))
        except Exception as reason:
            return f"fails at {sizes}: {reason}", events
        if not error <= CLOSE:
            return f"off by {error:.1e} at {sizes}", events
    if not ran:
        return "skipped", events
    again, _ = once(result, drawn.sizes, folder, runtime)
    return "" if is_the_same(again, result) else "changes when folded again", events


def main(graphs: int, seed: int) -> int:
    tally: Counter[str] = Counter()
    failures = 0
    started = time.time()
    with tempfile.TemporaryDirectory() as folder:
        for number in range(seed, seed + graphs):
            try:
                failure, events = failure_of(number, Path(folder))
            except Exception as error:
                failure, events = f"{type(error).__name__}: {error}", []
            tally.update(event.rewrite for event in events if event.outcome is Outcome.APPLIED)
            tally["skipped"] += failure == "skipped"
            if failure not in ("", "skipped"):
                failures += 1
                print(f"{number}: {failure[:300]}", flush=True)
    print(f"{graphs} graphs, {failures} failures, {time.time() - started:.0f} s", dict(tally))
    return int(failures > 0)


if __name__ == "__main__":
    arguments = [int(word) for word in sys.argv[1:]]
    sys.exit(main(*(arguments + [1000, 0][len(arguments) :])))
