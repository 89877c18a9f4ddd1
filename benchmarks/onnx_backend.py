"""onnx's own backend tests through fusekit: every model before and after, in ONNX Runtime, on the data that comes with
it.

    python benchmarks/onnx_backend.py [FILTER]

Each node test is taken twice: as it is, and with all inputs but the first stored in the file, which is how they stand
in networks. What ONNX Runtime has no kernel for is counted, and left.
"""

import sys
import tempfile
import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy
import onnx
import onnxruntime
from onnx import ModelProto, numpy_helper
from onnx.backend.test.case.model import collect_testcases as model_cases
from onnx.backend.test.case.node import collect_testcases as node_cases
from onnx.backend.test.loader import load_model_tests

from fusekit.grafting.importing import SPELLING
from fusekit.grafting.model_file import ModelFile
from fusekit.grafting.optimize_file import folded
from fusekit.grafting.yardstick import differences
from fusekit.ir.spellings import SPELLINGS
from fusekit.optimizing import Options
from fusekit.report import Outcome

CLOSE = 1e-4  # relative to the norm of an output: of float32 results whose operators came in another order


def cases() -> Iterator[tuple[str, ModelProto, list[Any]]]:
    """Each test's name, model and inputs."""
    warnings.simplefilter("ignore")
    for case in (*node_cases(""), *model_cases()):
        if case.model is not None and case.data_sets:
            yield case.name, case.model, list(case.data_sets[0][0])
    for kind in ("simple", "light", "pytorch-converted", "pytorch-operator"):
        for case in load_model_tests(kind=kind):
            folder = Path(case.model_dir or "")
            if (folder / "model.onnx").is_file():
                model = onnx.load(folder / "model.onnx")
                data = sorted((folder / "test_data_set_0").glob("input_*.pb"), key=lambda p: int(p.stem[6:]))
                yield case.name, model, [_tensor(path) for path in data]


def _tensor(path: Path) -> Any:
    tensor = onnx.TensorProto()
    tensor.ParseFromString(path.read_bytes())
    return numpy_helper.to_array(tensor)


def stored(model: ModelProto, data: list[Any]) -> tuple[ModelProto, list[Any]] | None:
    """The model with all inputs but the first as initializers; None if one is no array."""
    inputs = [v for v in model.graph.input if v.name not in {t.name for t in model.graph.initializer}]
    if len(inputs) < 2 or len(data) != len(inputs) or not all(isinstance(each, numpy.ndarray) for each in data):
        return None
    own = ModelProto()
    own.CopyFrom(model)
    own.ir_version = max(own.ir_version, 4)
    own.graph.initializer.extend(numpy_helper.from_array(a, v.name) for a, v in zip(data[1:], inputs[1:], strict=True))
    gone = {value.name for value in inputs[1:]}
    left = [value for value in own.graph.input if value.name not in gone]
    del own.graph.input[:]
    own.graph.input.extend(left)
    return own, data[:1]


def run(model: ModelProto, data: list[Any]) -> list[Any] | None:
    """What ONNX Runtime answers; None if it has no kernel, or refuses the data."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    try:
        session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        feed = {value.name: array for value, array in zip(session.get_inputs(), data, strict=False)}
        return list(session.run(None, feed))
    except Exception:
        return None


def tried(model: ModelProto, data: list[Any], folder: Path) -> tuple[str, set[str]]:
    """What became of one model: a word, and the rewrites applied."""
    before = run(model, data)
    if before is None:
        return "no kernel", set()
    path = folder / "model.onnx"
    onnx.save(model, str(path))
    file = ModelFile.read(path)
    inputs = [v.name for v in model.graph.input if v.name not in {t.name for t in model.graph.initializer}]
    sizes = {n: a.shape for n, a in zip(inputs, data, strict=False) if isinstance(a, numpy.ndarray)}
    with SPELLINGS.extended(SPELLING):
        found, events, _ = folded(file, Options.of("onnxruntime", None, False, None, None, False, 0.0), sizes)
    applied = [event for event in events if event.outcome is Outcome.APPLIED]
    result = found.proto
    if any(event.outcome is Outcome.REJECTED for event in events):
        return f"REJECTED {next(e.reason for e in events if e.outcome is Outcome.REJECTED)}", set()
    if found is file:
        return "as it was", set()
    if file.passes_checker:
        onnx.checker.check_model(result, full_check=True)
    after = run(result, data)
    if after is None:
        return "DOES NOT RUN", set()
    worst = differences(before, after)
    return ("changed, right" if worst <= CLOSE else f"WRONG by {worst:.1e}"), {event.rewrite for event in applied}


def main(words: str) -> int:
    """The tally, and what is wrong."""
    tally: Counter[str] = Counter()
    rewrites: Counter[str] = Counter()
    for name, model, data in cases():
        if words not in name:
            continue
        versions = [(name, (model, data)), (f"{name} stored", stored(model, data))]
        for label, version in versions:
            if version is None:
                continue
            with tempfile.TemporaryDirectory() as folder:
                try:
                    told, applied = tried(*version, Path(folder))
                except Exception as error:
                    told, applied = f"FAILED {type(error).__name__}: {error}", set()
            rewrites.update(applied)
            tally[told.split(" by ")[0].split(": ")[0]] += 1
            if told[0].isupper() or words:
                print(f"{label}: {told} {sorted(applied)}", flush=True)
    print(dict(tally), dict(rewrites))
    return int(any(word[0].isupper() for word in tally))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1] if len(sys.argv) > 1 else ""))
