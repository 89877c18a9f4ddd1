"""Where a reference comes from, in words that can be sent to another process; and what it answers."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from fusekit.batching.item import in_folder
from fusekit.checkpoint.factory import importable
from fusekit.checkpoint.load import load
from fusekit.errors import FusekitError
from fusekit.grafting.model_file import ModelFile
from fusekit.grafting.yardstick import Yardstick
from fusekit.model import Inputs
from fusekit.model.preprocess import Preprocess
from fusekit.runtimes.file import RunnableFile
from fusekit.runtimes.protocol import Runtime
from fusekit.validation import Reference
from fusekit.validation.probes import Probe


@dataclass(frozen=True)
class Source:
    """A model that is right, in words.

    Args:
        source, factory, weights, arguments, unsafe: as for `fusekit.load`; or `source` is an ONNX file.
        preprocess: the arguments of `fusekit.Preprocess`, put before the model; None: nothing.
        root: the folder that paths start from, and in which modules are looked for; "": the current one.
    """

    source: str
    factory: str | None = None
    weights: str | None = None
    arguments: Mapping[str, Any] | None = None
    unsafe: bool = False
    preprocess: Mapping[str, Any] | None = None
    root: str = ""

    @property
    def is_file(self) -> bool:
        """Whether it is an ONNX file, by its name."""
        return self.source.endswith(".onnx")

    def placed(self) -> "Source":
        """The same with absolute paths, for a process that works in another folder."""
        root = Path(self.root or ".").resolve()
        factory = self.factory and in_folder(root, self.factory)
        weights = self.weights and in_folder(root, self.weights)
        return replace(self, source=in_folder(root, self.source), factory=factory, weights=weights, root=str(root))

    def module(self) -> nn.Module:
        """The model, loaded. Raises CheckpointError if it cannot be."""
        words = {"factory": self.factory, "weights": self.weights, "arguments": self.arguments, "unsafe": self.unsafe}
        with importable(Path(self.root or ".").resolve()):
            model = load(self.source, **words)  # type: ignore[arg-type]
        return Preprocess(**self.preprocess)(model) if self.preprocess else model


@dataclass(frozen=True)
class Answer:
    """What a reference answers: (name, in its dtype, in float64) of each output, and a lower bound on its own error
    where float64 says nothing."""

    outputs: tuple[tuple[str, Tensor, Tensor], ...]
    noise: tuple[float, ...]


class Right(Protocol):
    """A reference, ready to be asked."""

    names: list[str]
    longest: int

    def on(self, inputs: Inputs) -> Answer:
        """Raises FusekitError if it cannot run these inputs."""
        raise NotImplementedError

    def inputs(self, sample: Mapping[str, Tensor]) -> Inputs:
        """The inputs of a sample, whose tensors have the names of the candidate's ports."""
        raise NotImplementedError


class _Module:
    def __init__(self, model: nn.Module, candidate: RunnableFile, example: Mapping[str, Tensor]) -> None:
        # By position first: the ports of a file stand in the order of `forward`. Names may have been changed by a tool.
        reference = Reference(model, tuple(example[port.name] for port in candidate.inputs), room=0)
        by_name = [name for name in reference.names if name in example]
        self._named = len(by_name) == len(example)
        if self._named:
            reference = Reference(model, dict(example), room=0)
        self._reference, self._ports = reference, [port.name for port in candidate.inputs]
        self.names, self.longest = reference.names, reference.longest_sum

    def inputs(self, sample: Mapping[str, Tensor]) -> Inputs:
        return Inputs.of(dict(sample) if self._named else tuple(sample[name] for name in self._ports))

    def on(self, inputs: Inputs) -> Answer:
        answer = self._reference.on(Probe("sample", inputs))
        if answer.refusal:
            raise FusekitError(answer.refusal)
        pairs = zip(answer.own, answer.exact, strict=True)
        outputs = tuple((name, own, exact) for (name, own), (_, exact) in pairs)
        return Answer(outputs, (0.0,) * len(outputs))


class _File:
    def __init__(self, path: Path, runtime: Runtime, example: Mapping[str, Tensor], room: Path) -> None:
        original = runtime.load(path)
        missing = [name for name in original.input_names if name not in example]
        if missing or len(example) != len(original.input_names):
            takes, given = ", ".join(original.input_names), ", ".join(example)
            raise FusekitError(f"the files take different inputs: ({takes}) and ({given})")
        self.names = original.input_names
        inputs = self.inputs(example)
        self._yardstick = Yardstick(ModelFile.read(path), original, inputs, self.names, runtime, room)
        self.longest = self._yardstick.longest_sum

    def inputs(self, sample: Mapping[str, Tensor]) -> Inputs:
        return Inputs(tuple(sample[name] for name in self.names))

    def on(self, inputs: Inputs) -> Answer:
        outputs, exact, noise = self._yardstick.on(inputs)
        pairs = zip(outputs, exact, strict=True)
        return Answer(tuple((name, _tensor(own), _tensor(true)) for (name, own), true in pairs), tuple(noise))


def right(
    reference: nn.Module | Source,
    candidate: RunnableFile,
    runtime: Runtime,
    example: Mapping[str, Tensor],
    room: Path,
) -> Right:
    """The reference, loaded, for the samples of which `example` is one. `room`: for temporary files, as long as it is
    used. Raises FusekitError if it cannot be loaded."""
    if isinstance(reference, nn.Module):
        return _Module(reference, candidate, example)
    if reference.is_file:
        return _File(Path(reference.source), runtime, example, room)
    return _Module(reference.module(), candidate, example)


def _tensor(value: Any) -> Tensor:
    try:
        return torch.as_tensor(value)
    except (TypeError, ValueError, RuntimeError) as error:
        raise FusekitError(f"an output is no array of numbers, but {type(value).__name__}") from error
