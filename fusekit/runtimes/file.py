"""An ONNX file that a runtime has loaded: its inputs, which of their sizes may vary, and how to run it."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
import torch
from onnx.helper import tensor_dtype_to_np_dtype
from torch import Tensor

from fusekit.errors import FusekitError
from fusekit.model import Inputs


@dataclass(frozen=True)
class Port:
    """An input of a file: its name, its element type as a torch dtype (None if torch has no such type), and its sizes.
    A size that may vary is given by its name, or None if it has no name."""

    name: str
    dtype: torch.dtype | None
    shape: tuple[int | str | None, ...]

    def fits(self, tensor: Tensor) -> bool:
        """Whether this tensor can be passed to the input: its element type and number of axes are right."""
        tensor = in_reals(tensor)
        return self.dtype in (None, tensor.dtype) and len(self.shape) == tensor.dim()


class RunnableFile(ABC):
    """A loaded file. The subclass of each runtime gives its inputs and outputs, and runs it on arrays."""

    def __init__(self, path: str | Path) -> None:
        """Raises FusekitError if there is no such file."""
        self.path = Path(path)
        if not self.path.is_file():
            raise FusekitError(f"no ONNX file at {self.path}")

    @property
    @abstractmethod
    def inputs(self) -> Sequence[Port]:
        """The inputs, in the order of the file."""

    @property
    @abstractmethod
    def output_names(self) -> list[str]:
        """The names of the outputs, in the order of the file."""

    @abstractmethod
    def run_arrays(self, feed: Mapping[str, Any]) -> list[Any]:
        """The outputs for `feed`, numpy arrays by input name. Raises FusekitError with the runtime's reason."""

    @property
    def input_names(self) -> list[str]:
        return [port.name for port in self.inputs]

    @property
    def takes(self) -> str:
        """The inputs in words, such as "x=batchx3x224x224:float32"."""
        sizes = (("x".join(str(size or "any") for size in port.shape), port) for port in self.inputs)
        return ", ".join(f"{port.name}={told}:{port.dtype}".replace("torch.", "") for told, port in sizes)

    def free_axes(self) -> dict[str, dict[int, str]]:
        """For each input, the axes whose size may vary, with the names of these sizes, for example
        `{"x": {0: "batch", 2: "height"}}`. A size without a name gets a unique one."""
        return {
            port.name: {
                axis: size or f"{port.name}_dim{axis}"
                for axis, size in enumerate(port.shape)
                if not isinstance(size, int)
            }
            for port in self.inputs
        }

    def assign(self, inputs: Inputs, names: Sequence[str]) -> dict[str, int]:
        """For each input of the file, the number of the tensor to pass to it.

        Tensors are matched by name; then each remaining input takes the first remaining tensor of its rank and element
        type. There may be more tensors than inputs, because exporters drop inputs that the model does not use. Raises
        FusekitError if no tensor fits an input.
        """
        tensors = inputs.tensors()
        places = {name: index for index, name in enumerate(names) if name in self.input_names}
        left = [index for index in range(len(tensors)) if index not in places.values()]
        for port in self.inputs:
            if port.name in places:
                continue
            fitting = [index for index in left if port.fits(tensors[index])]
            if not fitting:
                raise FusekitError(
                    f"{self.path.name} has an input {port.name!r} ({port.dtype}, shape {list(port.shape)}) "
                    "and the example inputs have no tensor for it"
                )
            places[port.name] = fitting[0]
            left.remove(fitting[0])
        return places

    def feed(self, inputs: Inputs, names: Sequence[str]) -> dict[str, Any]:
        """The inputs as numpy arrays, by the names of the file's inputs."""
        tensors = inputs.tensors()
        return {name: _array(tensors[index]) for name, index in self.assign(inputs, names).items()}

    def run(self, inputs: Inputs, names: Sequence[str]) -> list[tuple[str, Tensor]]:
        """The outputs as (name, tensor). Raises FusekitError with the runtime's reason."""
        arrays = self.bound(inputs, names)()
        return [(name, torch.as_tensor(array)) for name, array in zip(self.output_names, arrays, strict=True)]

    def bound(self, inputs: Inputs, names: Sequence[str]) -> Callable[[], list[Any]]:
        """A function without arguments that runs the file on these inputs and returns the outputs as arrays."""
        feed = self.feed(inputs, names)
        return lambda: self.run_arrays(feed)


def declared_inputs(path: str | Path) -> list[Port]:
    """The inputs as the file declares them. Weights stored outside the file are not read."""
    graph = onnx.load(str(path), load_external_data=False).graph
    weights = {initializer.name for initializer in graph.initializer}
    ports = []
    for value in graph.input:
        if value.name not in weights:
            kind = value.type.tensor_type
            sizes = (d.dim_value if d.HasField("dim_value") else d.dim_param or None for d in kind.shape.dim)
            dtype = getattr(torch, str(tensor_dtype_to_np_dtype(kind.elem_type)), None)
            ports.append(Port(value.name, dtype, tuple(sizes)))
    return ports


def in_reals(tensor: Tensor) -> Tensor:
    """A complex tensor [*] as a real one [*, 2], as torch's exporter represents it; ONNX runtimes have no complex
    numbers. A real tensor is returned unchanged."""
    return torch.view_as_real(tensor.resolve_conj()) if tensor.is_complex() else tensor


def first_line(error: BaseException) -> str:
    """The first non-empty line of an error's text, at most 300 characters; its class if it has no text."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[0] if lines else type(error).__name__)[:300]


def _array(tensor: Tensor) -> Any:
    """The tensor as a numpy array. Raises FusekitError for bfloat16, which numpy does not have."""
    if tensor.dtype == torch.bfloat16:
        raise FusekitError("ONNX files cannot take bfloat16 inputs on the CPU: export the model with .float()")
    return in_reals(tensor.detach()).cpu().contiguous().numpy()
