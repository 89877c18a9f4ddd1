"""Example inputs, read from files or drawn at random. The same seed always gives the same inputs.

Random floats are standard normal; bytes (uint8) are uniform in 0..255, like an image; other integers are uniform in
0..9, which are valid indices even for a small embedding; booleans are true with probability 1/2. A missing dtype is
that of the model's first parameter, or of its images if it has preprocessing; inputs without a name are passed in the
order of `forward`.
"""

import inspect
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy
import torch
from torch import nn

from fusekit.checkpoint.factory import brief
from fusekit.errors import FusekitError, closest
from fusekit.model import Inputs
from fusekit.model.preprocess import Preprocessed
from fusekit.model.remedies import why_not
from fusekit.runtimes.file import RunnableFile
from fusekit.sampling.grammar import Sample

Example = tuple[Any, ...] | dict[str, Any]


def draw(samples: Iterable[Sample], model: nn.Module, seed: int = 0) -> Example:
    """The inputs in the form that `optimize` takes: a dict if any of them has a name, else a tuple.

    Raises FusekitError if a file cannot be read, or if the inputs do not fit the parameters of `forward`.
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
    """Run the original model once. If it fails on these inputs, a FusekitError says that the model itself fails."""
    try:
        with torch.no_grad():
            model(**example) if isinstance(example, dict) else model(*example)
    except Exception as error:
        given = example.items() if isinstance(example, dict) else enumerate(example)
        told = ", ".join(f"{name}: {_spell(value)}" for name, value in given)
        why = why_not(model, Inputs.of(example), error)
        raise FusekitError(f"the model does not run on these inputs ({told}): {why}") from error


def _bind(model: nn.Module, positional: list[torch.Tensor], named: dict[str, torch.Tensor]) -> Example:
    signature = inspect.signature(model.forward)
    parameters = signature.parameters
    takes = ", ".join(parameters) or "nothing"
    open_ended = any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters.values())
    for name in named:
        if name not in parameters and not open_ended:
            raise FusekitError(f"the model has no input {name!r}; it takes ({takes}){closest(name, parameters)}")
    try:
        bound = signature.bind(*positional, **named)
    except TypeError as error:
        count = len(positional) + len(named)
        told = f"the model takes ({takes}), but the number of inputs is {count}: {error}"
        raise FusekitError(f"{told}; give one --input for each") from error
    if not named:
        return tuple(positional)
    kinds = {name: parameters[name].kind for name in bound.arguments}
    if positional and inspect.Parameter.VAR_POSITIONAL in kinds.values():
        raise FusekitError("this model has *args, so inputs cannot be given partly by name: name all of them or none")
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
    unnamed = {f"arr_{position}" for position in range(len(tensors))}  # numpy.savez's names for arrays without a name
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
    if isinstance(model, Preprocessed):
        return model.image_dtype
    kinds = (tensor.dtype for tensor in (*model.parameters(), *model.buffers()))
    return next((dtype for dtype in kinds if dtype.is_floating_point or dtype.is_complex), torch.float32)


def _spell(value: Any) -> str:
    return f"{'x'.join(map(str, value.shape))}:{value.dtype}".replace("torch.", "")
