"""An ONNX file that some runtime has loaded: its inputs, which of their sizes are free, and how it is fed."""

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
    """An input of a file: its name, its element type as torch has it (None if torch has none), and its sizes, a free
    one by its name or None."""

    name: str
    dtype: torch.dtype | None
    shape: tuple[int | str | None, ...]

    def fits(self, tensor: Tensor) -> bool:
        """Whether it could be fed with this tensor: element type and number of axes."""
        tensor = in_reals(tensor)
        return self.dtype in (None, tensor.dtype) and len(self.shape) == tensor.dim()


class RunnableFile(ABC):
    """A loaded file. A runtime says what its ports are and runs it on arrays."""

    def __init__(self, path: str | Path) -> None:
        """FusekitError if there is no such file."""
        self.path = Path(path)
        if not self.path.is_file():
            raise FusekitError(f"no ONNX file at {self.path}")

    @property
    @abstractmethod
    def inputs(self) -> Sequence[Port]:
        """What it must be fed with, in the order of the file."""

    @property
    @abstractmethod
    def output_names(self) -> list[str]:
        """In the order of the file."""

    @abstractmethod
    def run_arrays(self, feed: Mapping[str, Any]) -> list[Any]:
        """The outputs for numpy arrays by input name. FusekitError with the runtime's reason."""

    @property
    def input_names(self) -> list[str]:
        return [port.name for port in self.inputs]

    def free_axes(self) -> dict[str, dict[int, str]]:
        """Per input, the axes whose size is free and the name each has: `{"x": {0: "batch", 2: "height"}}`. A size
        without a name gets one of its own."""
        return {
            port.name: {
                axis: size or f"{port.name}_dim{axis}"
                for axis, size in enumerate(port.shape)
                if not isinstance(size, int)
            }
            for port in self.inputs
        }

    def assign(self, inputs: Inputs, names: Sequence[str]) -> dict[str, int]:
        """Which tensor feeds which graph input: by name, then the first one left that has its rank and element type.

        An exporter drops inputs that the model does not use, so there may be more tensors than graph inputs.
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
        """The arrays by the names of the graph inputs they go to."""
        tensors = inputs.tensors()
        return {name: _array(tensors[index]) for name, index in self.assign(inputs, names).items()}

    def run(self, inputs: Inputs, names: Sequence[str]) -> list[tuple[str, Tensor]]:
        """The named outputs. FusekitError with the runtime's reason."""
        arrays = self.bound(inputs, names)()
        return [(name, torch.as_tensor(array)) for name, array in zip(self.output_names, arrays, strict=True)]

    def bound(self, inputs: Inputs, names: Sequence[str]) -> Callable[[], list[Any]]:
        """A run with these inputs, to be called as often as one likes: the outputs as arrays."""
        feed = self.feed(inputs, names)
        return lambda: self.run_arrays(feed)


def declared_inputs(path: str | Path) -> list[Port]:
    """What the file itself says of its inputs, without its weights being read."""
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
    """torch's exporter turns a complex [*] into a real [*, 2]: ONNX runtimes have no complex numbers."""
    return torch.view_as_real(tensor.resolve_conj()) if tensor.is_complex() else tensor


def first_line(error: BaseException) -> str:
    """The first line of an error that says something."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[0] if lines else type(error).__name__)[:300]


def _array(tensor: Tensor) -> Any:
    """As numpy, which has no bfloat16."""
    if tensor.dtype == torch.bfloat16:
        raise FusekitError("files take no bfloat16 input on the CPU: export the model with .float()")
    return in_reals(tensor.detach()).cpu().contiguous().numpy()
