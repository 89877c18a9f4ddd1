"""Inputs for a file: the given ones, or drawn from what it declares.

Floats are standard normal, bytes uniform over 0..255, other integers small, since they often are indices, truth values
fair coins. A batch that is free is 1; for other free sizes several are tried, for many networks take only multiples.
"""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from fusekit.errors import FusekitError
from fusekit.model import Inputs
from fusekit.runtimes.file import Port, RunnableFile

SIZES = (64, 224, 32, 16, 8, 128, 256, 1)  # what a free size may be, one after the other
HIGHEST = (10, 2, 1)  # below which integers are drawn, one after the other


def inputs_for(file: RunnableFile, example_inputs: object) -> tuple[Inputs, list[str]]:
    """Inputs that the file runs on, and the name of each of their tensors.

    FusekitError where the given ones do not fit it, or where it runs on none that can be drawn."""
    if example_inputs is not None:
        inputs, names = _given(file, Inputs.of(example_inputs))
        file.run_arrays(file.feed(inputs, names))
        return inputs, names
    names = file.input_names
    reason = ""
    for inputs in _drawn(file.inputs):
        try:
            file.run_arrays(file.feed(inputs, names))
            return inputs, names
        except FusekitError as error:
            reason = reason or str(error)
    raise FusekitError(f"the file runs on no inputs drawn from what it declares ({reason}): pass example inputs")


def sizes_of(inputs: Inputs, names: Sequence[str]) -> dict[str, tuple[int, ...]]:
    """The sizes of each tensor by its name."""
    return {name: tuple(tensor.shape) for name, tensor in zip(names, inputs.tensors(), strict=True)}


def _given(file: RunnableFile, inputs: Inputs) -> tuple[Inputs, list[str]]:
    """The tensors, by name or in the order of the file."""
    if inputs.kwargs:
        unknown = [name for name in inputs.kwargs if name not in file.input_names]
        if unknown:
            raise FusekitError(f"the file has no input {unknown[0]!r}; it takes ({', '.join(file.input_names)})")
    tensors = inputs.tensors()
    names = [name for name in file.input_names if name not in inputs.kwargs][: len(inputs.args)]
    names += list(inputs.kwargs)
    if len(tensors) != len(names) or set(names) != set(file.input_names):
        wanted = ", ".join(file.input_names) or "nothing"
        raise FusekitError(f"the file takes ({wanted}), the example inputs have {len(tensors)} tensors")
    return Inputs(tuple(tensors)), names


def _drawn(ports: Sequence[Port]) -> Iterator[Inputs]:
    for port in ports:
        if port.dtype is None or port.dtype is torch.bfloat16:
            raise FusekitError(f"the input {port.name!r} is of a type that no inputs can be made of here")
    free = any(not isinstance(size, int) for port in ports for size in port.shape)
    integers = any(not (p.dtype or torch.bool).is_floating_point and p.dtype is not torch.bool for p in ports)
    for size in SIZES if free else SIZES[:1]:
        for highest in HIGHEST if integers else HIGHEST[:1]:
            generator = torch.Generator().manual_seed(0)
            sizes: dict[str, int] = {}
            yield Inputs(tuple(_tensor(port, size, highest, sizes, generator) for port in ports))


def _tensor(port: Port, free: int, highest: int, known: dict[str, int], generator: torch.Generator) -> Tensor:
    shape = [
        size if isinstance(size, int) else _size(size or f"{port.name}.{axis}", axis, free, known)
        for axis, size in enumerate(port.shape)
    ]
    dtype = port.dtype or torch.float32
    if dtype is torch.bool:
        return torch.rand(shape, generator=generator) < 0.5
    if dtype.is_floating_point:
        return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)
    return torch.randint(0, 256 if dtype is torch.uint8 else highest, shape, generator=generator, dtype=dtype)


def _size(name: str, axis: int, free: int, known: dict[str, int]) -> int:
    """One size for each name; the first axis is a batch."""
    return known.setdefault(name, 1 if axis == 0 else free)
