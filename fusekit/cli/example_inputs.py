"""Example inputs: read from files, or drawn at random, always the same for the same seed.

Random floats are standard normal, bytes are uniform over 0..255 (an image), other integers over 0..9 (an index that
even a small table has), truth values fair coins. What is not said is taken from the model: a missing dtype from its
first parameter, a missing name from the order of `forward`.
"""

import inspect
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy
import torch
from torch import nn

from fusekit.checkpoint.factory import brief
from fusekit.cli.sample_grammar import Sample
from fusekit.errors import FusekitError
from fusekit.runtimes.file import RunnableFile

Example = tuple[Any, ...] | dict[str, Any]


def draw(samples: Iterable[Sample], model: nn.Module, seed: int = 0) -> Example:
    """The inputs in the form that `optimize` takes: a tuple of positional ones, or, with any name, a dict.

    Raises FusekitError where a file cannot be read, or where the inputs are not what `forward` takes.
    """
    generator = torch.Generator().manual_seed(seed)
    usual = _dtype_of(model)
    positional: list[torch.Tensor] = []
    named: dict[str, torch.Tensor] = {}
    for sample in samples:
        if sample.path is None:
            values = [(sample.name, _random(sample.sizes, _named(sample.dtype) or usual, generator))]
        else:
            values = _read(sample, sample.path)
        for name, value in values:
            if not name:
                positional.append(value)
            elif name in named:
                raise FusekitError(f"the input {name!r} is given twice")
            else:
                named[name] = value
    return _bind(model, positional, named)


def draw_for_file(samples: Iterable[Sample], file: RunnableFile, seed: int = 0) -> dict[str, torch.Tensor]:
    """The same for an ONNX file: the inputs by name, those without one in the file's order, of the file's types."""
    generator = torch.Generator().manual_seed(seed)
    found: dict[str, torch.Tensor] = {}
    samples = list(samples)
    free = [port for port in file.inputs if port.name not in {sample.name for sample in samples}]
    for sample in samples:
        port = next((p for p in file.inputs if p.name == sample.name), free[0] if free and not sample.name else None)
        if port is None:
            told = f"no input {sample.name!r}" if sample.name else f"no place for a further input {sample.text!r}"
            raise FusekitError(f"the file has {told}; it takes ({', '.join(file.input_names)})")
        free = [each for each in free if each is not port]
        if sample.path is None:
            dtype = _named(sample.dtype) or port.dtype or torch.float32
            found[port.name] = _random(sample.sizes, dtype, generator)
        else:
            for name, value in _read(sample, sample.path):
                found[name or port.name] = value
    return found


def try_out(model: nn.Module, example: Example) -> None:
    """Run the model once, as it is: if it fails on these inputs, the failure is not of our making and says so."""
    try:
        with torch.no_grad():
            model(**example) if isinstance(example, dict) else model(*example)
    except Exception as error:
        given = example.items() if isinstance(example, dict) else enumerate(example)
        told = ", ".join(f"{name}: {_spell(value)}" for name, value in given)
        raise FusekitError(f"the model does not run on these inputs ({told}): {brief(error)}") from error


def _bind(model: nn.Module, positional: list[torch.Tensor], named: dict[str, torch.Tensor]) -> Example:
    signature = inspect.signature(model.forward)
    parameters = signature.parameters
    takes = ", ".join(parameters) or "nothing"
    open_ended = any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters.values())
    for name in named:
        if name not in parameters and not open_ended:
            raise FusekitError(f"the model has no input {name!r}; it takes ({takes})")
    try:
        bound = signature.bind(*positional, **named)
    except TypeError as error:
        count = len(positional) + len(named)
        raise FusekitError(f"the model takes ({takes}), but the number of inputs is {count}: {error}") from error
    if not named:
        return tuple(positional)
    kinds = {name: parameters[name].kind for name in bound.arguments}
    if positional and inspect.Parameter.VAR_POSITIONAL in kinds.values():
        raise FusekitError("this model takes inputs by position only beside those with a name; name them all or none")
    collected = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return {name: value for name, value in bound.arguments.items() if kinds[name] not in collected} | named


def _random(sizes: tuple[int, ...], dtype: torch.dtype, generator: torch.Generator) -> torch.Tensor:
    if dtype is torch.bool:
        return torch.rand(sizes, generator=generator) < 0.5
    if dtype.is_floating_point or dtype.is_complex:
        return torch.randn(
            sizes, generator=generator, dtype=torch.complex128 if dtype.is_complex else torch.float64
        ).to(dtype)
    return torch.randint(0, 256 if dtype is torch.uint8 else 10, sizes, generator=generator, dtype=dtype)


def _read(sample: Sample, path: Path) -> list[tuple[str, torch.Tensor]]:
    try:
        content = numpy.load(path, allow_pickle=False)
        single = isinstance(content, numpy.ndarray)
        arrays = {sample.name: content} if single else {name: content[name] for name in content.files}
        tensors = {name: torch.from_numpy(numpy.array(array, order="C")) for name, array in arrays.items()}
    except Exception as error:  # a damaged zip, pickled objects, strings, foreign byte orders
        raise FusekitError(f"the input {path} cannot be read as an array of numbers: {brief(error)}") from error
    if not single and sample.name:
        if len(tensors) != 1:
            raise FusekitError(f"{path} holds {len(tensors)} arrays ({', '.join(tensors)}); {sample.name!r} takes one")
        tensors = dict.fromkeys([sample.name], *tensors.values())
    dtype = _named(sample.dtype)
    unnamed = {f"arr_{position}" for position in range(len(tensors))}  # as numpy.savez calls what was given no name
    return [
        ("" if name in unnamed else name, tensor if dtype is None else tensor.to(dtype))
        for name, tensor in tensors.items()
    ]


def _named(dtype: str) -> torch.dtype | None:
    if not dtype:
        return None
    found = getattr(torch, dtype)
    assert isinstance(found, torch.dtype)
    return found


def _dtype_of(model: nn.Module) -> torch.dtype:
    kinds = (tensor.dtype for tensor in (*model.parameters(), *model.buffers()))
    return next((dtype for dtype in kinds if dtype.is_floating_point or dtype.is_complex), torch.float32)


def _spell(value: Any) -> str:
    return f"{'x'.join(map(str, value.shape))}:{value.dtype}".replace("torch.", "")
