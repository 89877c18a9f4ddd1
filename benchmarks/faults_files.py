"""Damaged files through the command line: each is optimized into another file, or refused.

A file that is taken must give the function that an independent reader finds in it: torch's own for archives and state
dicts, a few lines of NumPy for safetensors, ONNX Runtime without optimizations for ONNX files. If that reader refuses
the file, the function must be that of the undamaged one.
"""

import contextlib
import io
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import numpy
import onnxruntime
import torch
from torch import Tensor

from benchmarks import faults_damage as damage
from benchmarks.faults_forked import Ended, command, forked, here
from tests.support.archive_room import Net as Program
from tests.support.onnx_files import drawn, model, node, norm

SECONDS, BYTES = 60, 1 << 30  # what no file may need
CLOSE = 1e-4  # of the norm: the rounding of float32
SIZES = (2, 3, 12, 16)
CODE = """
import torch
from torch import nn

class Net(nn.Sequential):
    def __init__(self):
        torch.manual_seed(0)
        super().__init__(nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 2, 1))
"""
RIGHT, REFUSED, ELSE = "loaded and right", "one line, exit code 2", "anything else"

_DTYPES = {"F32": "<f4", "F64": "<f8", "I64": "<i8", "F16": "<f2", "I32": "<i4", "U8": "u1", "I8": "i1", "BOOL": "?"}


@dataclass(frozen=True)
class Kind:
    """A kind of file: a good one, its suffix, the words before and after it in a command, the suffix of the result, the
    damages, and the independent reader: from the damaged file to outputs."""

    name: str
    content: bytes
    suffix: str
    words: Callable[[str, str], Sequence[str]]
    result: str
    damages: dict[str, damage.Damage]
    reader: Callable[[Path], list[Any]]


@dataclass(frozen=True)
class Row:
    """What one damaged file did."""

    kind: str
    damage: str
    seed: int
    outcome: str
    seconds: float
    grown: int
    why: str


def rows(count: int, seed: int, folder: Path) -> Iterator[Row]:
    """`count` damaged files, as many of each damage as of any other."""
    (folder / "nets_for_faults.py").write_text(CODE)
    known = kinds()
    for kind in known:
        _warm(kind, folder)
    for number in range(count):
        turn, place = divmod(number, len(known))
        kind = known[place]
        name = list(kind.damages)[turn % len(kind.damages)]
        yield tried(kind, name, seed + number, folder)


def table(found: Iterable[Row]) -> Iterator[str]:
    """The rows as lines of Markdown, by kind and damage."""
    columns = (RIGHT, REFUSED, ELSE)
    yield f"| file | damage | files | {' | '.join(columns)} | longest | most memory |"
    yield "|---|---|---" + "|---:" * 5 + "|"
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in found:
        groups.setdefault((row.kind, row.damage), []).append(row)
    for (kind, name), rows_of in sorted(groups.items(), key=lambda item: item[0][0]):
        yield f"| {kind} | {name} | {_cells(rows_of)} |"
    everything = [row for rows_of in groups.values() for row in rows_of]
    yield f"| **all** | | {_cells(everything)} |"


def _cells(found: Sequence[Row]) -> str:
    counts = Counter(row.outcome for row in found)
    told = [str(len(found)), *(str(counts[outcome]) for outcome in (RIGHT, REFUSED, ELSE))]
    longest, most = max(row.seconds for row in found), max(row.grown for row in found)
    return " | ".join([*told, f"{longest:.1f} s", f"{most >> 20} MiB"])


def _warm(kind: Kind, folder: Path) -> None:
    """Run the command on the good file in this process, so that the children need not import anything."""
    source, result = folder / f"good{kind.suffix}", folder / f"warm{kind.result}"
    source.write_bytes(kind.content)
    with contextlib.chdir(folder):
        here(kind.words(source.name, result.name))
    if not result.exists():
        raise SystemExit(f"the good {kind.name} was not taken")


def tried(kind: Kind, name: str, seed: int, folder: Path) -> Row:
    """Damage one file, run the command, and judge what came out."""
    source, result = folder / f"m{kind.suffix}", folder / f"r{kind.result}"
    result.unlink(missing_ok=True)
    source.write_bytes(kind.damages[name](kind.content, Random(seed)))
    ended = command(kind.words(source.name, result.name), folder, limit=SECONDS)
    outcome, why = _outcome(kind, ended, source, result, folder)
    if ended.seconds > SECONDS or ended.grown > BYTES:
        outcome, why = ELSE, f"{ended.seconds:.0f} s, {ended.grown >> 20} MiB: {why}"
    return Row(kind.name, name, seed, outcome, round(ended.seconds, 2), ended.grown, why)


def _outcome(kind: Kind, ended: Ended, source: Path, result: Path, folder: Path) -> tuple[str, str]:
    said = " ".join(ended.err.split())
    if ended.refused:
        return (REFUSED, said) if not result.exists() else (ELSE, f"refused, but wrote a file: {said}")
    if ended.code != 0:
        return ELSE, f"exit code {ended.code}: {said[-600:]}"
    verdict = folder / "verdict"
    judged = forked(lambda: verdict.write_text(_judged(kind, source, result, folder)), folder)
    if judged.code != 0:
        return ELSE, f"the judge ended with {judged.code}: {judged.err[-300:]}"
    why = verdict.read_text()
    return (RIGHT, why) if why in ("same", "as the undamaged one") else (ELSE, why)


def _judged(kind: Kind, source: Path, result: Path, folder: Path) -> str:
    got = _of_onnx(result) if result.suffix == ".onnx" else _of_program(result)
    try:
        expected, told = kind.reader(source), "same"
    except Exception as error:
        good = folder / f"good{kind.suffix}"
        good.write_bytes(kind.content)
        expected, told = kind.reader(good), "as the undamaged one"
        if not _alike(got, expected):
            return f"another function, and {type(error).__name__}: {str(error)[:200]}"
    return told if _alike(got, expected) else "another function"


def _alike(got: list[Any], expected: list[Any]) -> bool:
    return len(got) == len(expected) and all(map(_close, got, expected))


def _close(got: Any, expected: Any) -> bool:
    a, b = (numpy.asarray(each, dtype=numpy.complex128) for each in (got, expected))
    if a.shape != b.shape:
        return False
    finite = numpy.isfinite(b)
    if not numpy.array_equal(finite, numpy.isfinite(a)):
        return False
    return bool(numpy.linalg.norm((a - b)[finite]) <= CLOSE * numpy.linalg.norm(b[finite]))


# ---------------------------------------------------------------- independent readers
def _given() -> Tensor:
    return torch.randn(SIZES, generator=torch.Generator().manual_seed(1))


def _flat(outputs: Any) -> list[Any]:
    leaves = torch.utils._pytree.tree_leaves(outputs)
    return [each.detach().numpy() if isinstance(each, Tensor) else each for each in leaves]


def _of_program(path: Path) -> list[Any]:
    with torch.no_grad():
        return _flat(torch.export.load(path).module()(_given()))


def _of_state(path: Path) -> list[Any]:
    return _of_weights(torch.load(path, weights_only=True))


def _of_safetensors(path: Path) -> list[Any]:
    content = path.read_bytes()
    size = int.from_bytes(content[:8], "little")
    state = {}
    for name, entry in json.loads(content[8 : 8 + size]).items():
        if name != "__metadata__":
            start, end = entry["data_offsets"]
            data = numpy.frombuffer(content[8 + size + start : 8 + size + end], _DTYPES[entry["dtype"]])
            state[name] = torch.from_numpy(data.reshape(entry["shape"]).copy())
    return _of_weights(state)


def _of_weights(state: Any) -> list[Any]:
    names: dict[str, Any] = {}
    exec(CODE, names)
    net = names["Net"]()
    net.load_state_dict({**{k: v for k, v in net.state_dict().items() if k.endswith("tracked")}, **state})
    with torch.no_grad():
        return _flat(net.eval()(_given()))


def _of_onnx(path: Path) -> list[Any]:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    given = {}
    for each in session.get_inputs():
        sizes = [size if isinstance(size, int) else SIZES[axis % 4] for axis, size in enumerate(each.shape)]
        given[each.name] = _given().numpy() if tuple(sizes) == SIZES else drawn(*sizes)
    return list(session.run(None, given))


# ---------------------------------------------------------------- the kinds
def kinds() -> tuple[Kind, ...]:
    """A good file of each kind, and what is done to it."""

    weights = ("--weights",)

    def filled(source: str, result: str) -> Sequence[str]:
        return ("optimize", "nets_for_faults:Net", result, *weights, source, *_ends())

    def whole(source: str, result: str) -> Sequence[str]:
        return ("optimize", source, result, *_ends())

    state = _state()
    saved, legacy = io.BytesIO(), io.BytesIO()
    torch.save(state, saved)
    torch.save(state, legacy, _use_new_zipfile_serialization=False)
    safetensors_of: Any = __import__("safetensors.torch").torch.save
    zips = {"zip headers": damage.zip_headers, "zip entries": damage.zip_entries, "zip sizes": damage.zip_sizes}
    blunt = {"bits flipped": damage.flipped, "truncated": damage.truncated, "bytes added": damage.lengthened}
    json_fields, json_numbers = damage.json_fields, damage.json_numbers
    program = {
        **blunt,
        **zips,
        "program fields": damage.in_entry("models/model.json", json_fields),
        "program numbers": damage.in_entry("models/model.json", json_numbers),
        "weights' layout": damage.in_entry("_config.json", json_fields),
        "weights' sizes": damage.in_entry("_config.json", json_numbers),
    }
    return (
        Kind(".pt2", _program(), ".pt2", whole, ".pt2", program, _of_program),
        Kind(
            "state dict",
            saved.getvalue(),
            ".pt",
            filled,
            ".pt2",
            {**blunt, **zips, "pickle": damage.in_entry("data.pkl", damage.pickled)},
            _of_state,
        ),
        Kind(
            "state dict before torch 1.6",
            legacy.getvalue(),
            ".pth",
            filled,
            ".pt2",
            {**blunt, "first bytes": damage.flipped_early, "pickle": damage.pickled},
            _of_state,
        ),
        Kind(
            "safetensors",
            safetensors_of({name: value.contiguous() for name, value in state.items()}, {"format": "pt"}),
            ".safetensors",
            filled,
            ".pt2",
            {
                **blunt,
                "first bytes": damage.flipped_early,
                "header fields": damage.header(json_fields),
                "header numbers": damage.header(json_numbers),
                "header length": damage.header_length,
                "header keys": damage.header_keys,
            },
            _of_safetensors,
        ),
        Kind(
            "ONNX",
            _onnx(),
            ".onnx",
            lambda source, result: ("optimize", source, result, "--no-measure", "--quiet"),
            ".onnx",
            {
                **blunt,
                "first bytes": damage.flipped_early,
                "protobuf fields": damage.protobuf_fields,
                "protobuf numbers": damage.protobuf_numbers,
                "weights elsewhere": damage.weight_elsewhere,
            },
            _of_onnx,
        ),
    )


def _ends() -> tuple[str, ...]:
    return ("--input", "x".join(map(str, SIZES)), "--no-measure", "--quiet")


def _state() -> dict[str, Tensor]:
    torch.manual_seed(0)
    names: dict[str, Any] = {}
    exec(CODE, names)
    state: dict[str, Tensor] = names["Net"]().state_dict()
    return {key: torch.rand_like(value) + 0.5 if value.is_floating_point() else value for key, value in state.items()}


def _program() -> bytes:
    torch.manual_seed(0)
    auto = torch.export.Dim.AUTO
    program = torch.export.export(Program().eval(), (_given(),), dynamic_shapes=({0: auto, 2: auto, 3: auto},))
    buffer = io.BytesIO()
    torch.export.save(program, buffer)
    return buffer.getvalue()


def _onnx() -> bytes:
    constants = {"w": drawn(4, 3, 3, 3), "v": drawn(2, 4, 1, 1), "b": drawn(2), **norm(4, "n")}
    nodes = [
        node("Conv", "x w", "a", pads=[1, 1, 1, 1], kernel_shape=[3, 3]),
        node("BatchNormalization", "a ns nt nm nv", "c"),
        node("Relu", "c", "d"),
        node("Conv", "d v b", "e"),
        node("Concat", "e e", "y", axis=1),
    ]
    made = model(nodes, constants, {"x": ["n", 3, "h", "w"]}, {"y": ["n", 4, "h", "w"]})
    return made.SerializeToString()
