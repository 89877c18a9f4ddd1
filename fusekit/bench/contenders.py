"""Prepares all versions of one network for measuring: the original, those of other tools, and those of fusekit.

A version that cannot be built, or that computes other values than the original, is kept with the reason of the failure.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import cache, partial
from pathlib import Path
from types import MappingProxyType

import torch
from torch import Tensor, nn

from fusekit.bench import competitors
from fusekit.errors import FusekitError, reason_of
from fusekit.model import Inputs, quiet
from fusekit.model.own_copy import own_copy
from fusekit.model.patches import unprinted
from fusekit.onnx_export.plain_export import plain_export
from fusekit.runtimes import available
from fusekit.runtimes.onnx_runtime import ONNX_RUNTIME
from fusekit.runtimes.protocol import Runtime
from fusekit.runtimes.pytorch import PyTorch
from fusekit.runtimes.timing import Call
from fusekit.validation import outputs_of

PYTORCH, ONNXRUNTIME = PyTorch.title, ONNX_RUNTIME.title
WRONG = 1e-2  # difference from the original, relative to the largest entry; rounding errors are smaller

Notify = Callable[[str], None]


class Side(str, Enum):
    """Who made a version: nobody (the original), another tool, or fusekit."""

    ORIGINAL = "original"
    OTHER = "other"
    FUSEKIT = "fusekit"


@dataclass(frozen=True)
class Version:
    """One version of the network: a function that runs it and the `bytes` of its weights, or the reason why there is
    none (`failure`)."""

    runtime: str
    name: str
    side: Side
    call: Call | None = None
    bytes: int | None = None
    failure: str = ""


def versions(
    original: nn.Module,
    fast: nn.Module,
    file: Path,
    inputs: Inputs,
    room: Path,
    *,
    fast_last: nn.Module | None = None,
    ways: Mapping[str, competitors.ModuleWay] = MappingProxyType({}),
    compiled: Mapping[str, competitors.ModuleWay] = MappingProxyType({}),
    dynamic: bool = True,
    opset: int | None = None,
    notify: Notify = lambda what: None,
) -> list[Version]:
    """All versions of the network, ready to run with the number of threads that torch has now.

    Args:
        original: the model.
        fast, file: fusekit's results for PyTorch and for ONNX Runtime.
        inputs: the example inputs.
        room: a folder for the files of other tools.
        fast_last: fusekit's result for the model in channels_last.
        ways: other tools for PyTorch, besides torch.fx's fusion.
        compiled: tools that are applied to fusekit's result as well as to the original.
        dynamic, opset: as for `fusekit.export`.
        notify: called with the name of each version before it is built.
    """
    build = _Builder(inputs, inputs.names(original), _outputs(original, inputs), notify)
    found = build.eager("original", Side.ORIGINAL, lambda: own_copy(original))
    for name, way in competitors.FUSED.items():
        once = cache(partial(way, original))
        found += build.eager(name, Side.OTHER, partial(_copied, once))
    for name, way in {**ways, **compiled}.items():
        found.append(build.lowered(name, Side.OTHER, partial(way, original)))
    found += build.eager("fusekit", Side.FUSEKIT, lambda: own_copy(fast), fast_last and (lambda: own_copy(fast_last)))
    for name, way in compiled.items():
        found.append(build.lowered(f"fusekit, {name}", Side.FUSEKIT, partial(way, fast)))

    plain = room / "plain.onnx"
    made = partial(plain_export, original, plain, inputs, dynamic=dynamic, opset=opset)
    return [*found, *_of_files(build, "plain export", plain, made, file, room)]


def file_versions(
    original: Path, file: Path, inputs: Inputs, names: list[str], room: Path, *, notify: Notify = lambda what: None
) -> list[Version]:
    """The same of an ONNX file, `original`, of which fusekit made `file`: in each runtime that reads files and is
    installed, beside what others make of it; the inputs are those of these `names`."""
    expected = [torch.as_tensor(each) for each in ONNX_RUNTIME.load(original).bound(inputs, names)()]
    build = _Builder(inputs, names, expected, notify)
    return list(_of_files(build, "original", original, lambda: original, file, room))


def file_pair(
    old: Path, new: Path, inputs: Inputs, names: list[str], *, notify: Notify = lambda what: None
) -> list[Version]:
    """Two files in each runtime that reads files and is installed. They may compute different values, as two states of
    a network do. `names`: of the inputs, as they are called in both files."""
    build = _Builder(inputs, names, None, notify)
    readers = [runtime for runtime in available() if runtime.reads_files]
    pair = (("old", Side.ORIGINAL, old), ("new", Side.OTHER, new))
    return [build.file(each, name, side, partial(Path, file)) for each in readers for name, side, file in pair]


def _of_files(
    build: "_Builder", name: str, original: Path, make: Callable[[], Path], ours: Path, room: Path
) -> Iterator[Version]:
    """The file `original`, which `make` writes, and fusekit's file `ours` in every runtime, and in ONNX Runtime also
    what other tools make of the original."""
    yield build.file(ONNX_RUNTIME, name, Side.ORIGINAL, make)
    for tool, rewrite in competitors.FILES.items():
        if competitors.installed(tool):
            made = partial(_rewritten, rewrite, original, room / f"{tool}.onnx")
            yield build.file(ONNX_RUNTIME, tool, Side.OTHER, made)
    yield build.file(ONNX_RUNTIME, "fusekit", Side.FUSEKIT, lambda: ours)
    for runtime in available():
        if runtime.reads_files and runtime.name != ONNX_RUNTIME.name:
            yield build.file(runtime, name, Side.ORIGINAL, lambda: original)
            yield build.file(runtime, "fusekit", Side.FUSEKIT, lambda: ours)


@dataclass(frozen=True)
class _Builder:
    """Builds versions of one network. Each is called once, and its outputs are compared with the original's, if these
    are `expected`."""

    inputs: Inputs
    names: list[str]
    expected: list[Tensor] | None
    notify: Notify

    def eager(
        self, name: str, side: Side, make: Callable[[], nn.Module], last: Callable[[], nn.Module] | None = None
    ) -> list[Version]:
        """The module as it is and, if an input has four axes, in channels_last. `last` makes the module for that; by
        default it is the same one."""
        found = [self._ready(PYTORCH, name, side, lambda: _in_torch(make(), self.inputs))]
        if any(tensor.dim() == 4 for tensor in self.inputs.tensors()):
            make_last = partial(_channels_last, last or make, self.inputs)
            found.append(self._ready(PYTORCH, f"{name}, channels_last", side, make_last))
        return found

    def lowered(self, name: str, side: Side, make: Callable[[], nn.Module]) -> Version:
        """A module whose parameters cannot be counted, because its tool hides them."""
        return self._ready(PYTORCH, name, side, lambda: (_in_torch(make(), self.inputs)[0], None))

    def file(self, runtime: Runtime, name: str, side: Side, make: Callable[[], Path]) -> Version:
        return self._ready(runtime.title, name, side, lambda: _on_file(runtime, make(), self.inputs, self.names))

    def _ready(self, runtime: str, name: str, side: Side, make: Callable[[], tuple[Call, int | None]]) -> Version:
        self.notify(f"{runtime}: {name}")
        try:
            call, size = make()
            with quiet():
                result = call()
        except Exception as error:
            told = str(error) if isinstance(error, FusekitError) else reason_of(error)
            return Version(runtime, name, side, failure=told)
        if self.expected is not None and _differs(result, self.expected):
            return Version(runtime, name, side, failure="computes other values")
        return Version(runtime, name, side, call, size)


def _copied(make: Callable[[], nn.Module]) -> nn.Module:
    return own_copy(make())


def _outputs(model: nn.Module, inputs: Inputs) -> list[Tensor]:
    with torch.no_grad():
        return [tensor for _, tensor in outputs_of(inputs.cloned().call(own_copy(model)))]


def _in_torch(module: nn.Module, inputs: Inputs) -> tuple[Call, int]:
    own = inputs.cloned()
    tensors = {id(tensor): tensor for tensor in (*module.parameters(), *module.buffers())}
    size = sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
    return torch.inference_mode()(lambda: own.call(module)), size


def _channels_last(make: Callable[[], nn.Module], inputs: Inputs) -> tuple[Call, int]:
    module = make().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return _in_torch(module, inputs.channels_last())


def _on_file(runtime: Runtime, path: Path, inputs: Inputs, names: Sequence[str]) -> tuple[Call, int]:
    call = runtime.load(path, spinning=False).bound(inputs, names)
    beside = path.with_name(f"{path.name}.data")
    return call, path.stat().st_size + (beside.stat().st_size if beside.exists() else 0)


def _rewritten(rewrite: competitors.FileWay, source: Path, out: Path) -> Path:
    with quiet(), unprinted():
        rewrite(source, out)
    return out


def _differs(result: object, expected: Sequence[Tensor]) -> bool:
    """Whether the result differs by more than `WRONG` times the largest entry. Complex tensors may be given as real
    ones [*, 2]."""
    if isinstance(result, list):
        result = [torch.as_tensor(each) for each in result]
    given = [_reals(tensor) for _, tensor in outputs_of(result)]
    if [tensor.shape for tensor in given] != [_reals(tensor).shape for tensor in expected]:
        return True
    pairs = ((a, _reals(b)) for a, b in zip(given, expected, strict=True) if b.numel())
    return any(not torch.allclose(a, b, rtol=0.0, atol=WRONG * _largest(b), equal_nan=True) for a, b in pairs)


def _largest(tensor: Tensor) -> float:
    return float(tensor.nan_to_num(0.0, 0.0, 0.0).abs().max())


def _reals(tensor: Tensor) -> Tensor:
    return (torch.view_as_real(tensor.resolve_conj()) if tensor.is_complex() else tensor).double()
