"""Loads a model from a source: a torch.export archive, a factory with weights, or, only if asked for, a pickle.

Unpickling a file runs any code that its author put there. So tensors are read with a reader that builds only tensors,
the structure of the model comes from the user's own code, and a pickled module needs `unsafe=True`. Every error says
what was expected and what was found; exceptions of torch, pickle and zip are converted to CheckpointError.
"""

import importlib.util
import os
import pickle
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import nn

from fusekit.checkpoint.archive.load_program import load_program
from fusekit.checkpoint.factory import brief, build, importable, is_factory_name
from fusekit.checkpoint.file_kind import Kind, recognise
from fusekit.checkpoint.folder import holds_weights, parts_of
from fusekit.checkpoint.state_dict import describe, fill, unwrap
from fusekit.errors import CheckpointError
from fusekit.model.patches import unwarned

Factory = str | Callable[..., Any]


def load(
    source: str | os.PathLike[str] | Callable[..., Any],
    *,
    factory: Factory | None = None,
    weights: str | os.PathLike[str] | None = None,
    arguments: Mapping[str, Any] | None = None,
    unsafe: bool = False,
) -> nn.Module:
    """The model that `source` describes, on the CPU, in eval mode.

    Args:
        source: one of
            - a torch.export archive,
            - a factory (`package.module:name`, `file.py:name` or a callable),
            - a state dict (`.safetensors`, `.pt`, ...) for the model that `factory` builds, or a folder that
              `save_pretrained` has written, with the weights in one file or in shards,
            - a pickled module, if `unsafe`.
        factory: builds the model for a state dict.
        weights: a state dict to load into the model of a factory given as `source`.
        arguments: keyword arguments of the factory.
        unsafe: allow unpickling, which can run any code in the file.

    A state dict that is one of several entries of a file is written `FILE#entry`. Its keys and shapes must be exactly
    those of the model. Raises CheckpointError, with a reason in one line.
    """
    for what, given in (("source", source), ("weights", weights)):
        if not (isinstance(given, str | os.PathLike) or callable(given) or (what == "weights" and given is None)):
            told = f"{what}: expected the name of a file, got {type(given).__name__}"
            raise CheckpointError(f"{told}; what is loaded already goes into model.load_state_dict(...)")
    if callable(source) or _names_factory(source):
        if factory is not None:
            raise CheckpointError("two factories were given: the source itself and `factory`; expected one")
        maker = source if callable(source) else os.fspath(source)
        return _assemble(maker, weights, arguments, unsafe)
    if not os.fspath(source).strip():
        raise CheckpointError("the source is empty; expected a checkpoint file or package.module:factory")
    path, _ = split_entry(source)
    if is_factory_name(str(path).removesuffix("()")):
        raise CheckpointError(f"{path}: name what builds the model without brackets: {str(path).removesuffix('()')}")
    if not path.exists() and not path.suffix:
        told = "expected a file, or package.module:factory such as torchvision.models:resnet18 (mind the colon)"
        raise CheckpointError(f"{path}: no such file; {told}")
    module, name = path.stem, path.suffix[1:]
    if not path.exists() and _is_importable(module.partition(".")[0]) and name.isidentifier():
        raise CheckpointError(f"{path}: no such file; did you mean {module}:{name}? (mind the colon)")
    if path.suffix == ".py":
        raise CheckpointError(f"{path} is a Python file; name what builds the model after a colon: {path}:factory")
    kind = Kind.SAFETENSORS if holds_weights(path) else recognise(path).kind
    if weights is not None:
        raise CheckpointError(f"{path} has its own weights, but `weights` was given too; expected only one of them")
    if kind is Kind.PROGRAM:
        _refuse_factory(path, "a torch.export archive", factory, arguments)
        return load_program(path, unsafe)
    if factory is not None:
        return _assemble(factory, source, arguments, unsafe)
    content = _content(source, unsafe)
    if not isinstance(content, nn.Module):
        raise CheckpointError(
            f"{path} holds {describe(content)}, which is not a model; name the code that builds the model: "
            "factory='package.module:name' (--factory package.module:name)"
        )
    _refuse_factory(path, "a whole model", None, arguments)
    return _ready(content)


def split_entry(file: str | os.PathLike[str]) -> tuple[Path, str | None]:
    """The path and the entry of `FILE#entry`; the entry is None if there is none. If a file with the whole text as its
    name exists, it is that file."""
    text = os.fspath(file)
    if "#" in text and not Path(text).exists():
        text, _, entry = text.rpartition("#")
        return Path(text), entry
    return Path(text), None


def _is_importable(name: str) -> bool:
    with importable(Path.cwd()), suppress(ValueError, ImportError):
        return name.isidentifier() and importlib.util.find_spec(name) is not None
    return False


def _names_factory(source: str | os.PathLike[str]) -> bool:
    return is_factory_name(os.fspath(source)) and not Path(source).exists()


def _refuse_factory(path: Path, what: str, factory: Factory | None, arguments: Mapping[str, Any] | None) -> None:
    if factory is not None or arguments:
        raise CheckpointError(f"{path} is {what}: it needs no factory and takes no arguments")


def _assemble(
    factory: Factory, weights: str | os.PathLike[str] | None, arguments: Mapping[str, Any] | None, unsafe: bool
) -> nn.Module:
    # Read the file before the factory runs, because building a large model takes long and the path may be wrong.
    content = None if weights is None else _content(weights, unsafe)
    model = build(factory, arguments)
    if weights is not None:
        state = content.state_dict() if isinstance(content, nn.Module) else content
        assert isinstance(state, Mapping)
        fill(model, state, os.fspath(weights))
    return _ready(model)


def _ready(model: nn.Module) -> nn.Module:
    """The model in eval mode, without DataParallel wrappers."""
    while isinstance(model, (nn.DataParallel, nn.parallel.DistributedDataParallel)):
        model = model.module
    if isinstance(model, torch.jit.ScriptModule):
        raise CheckpointError("the model is TorchScript; expected the Python module it was compiled from")
    return model.eval()


def _content(file: str | os.PathLike[str], unsafe: bool) -> Mapping[str, torch.Tensor] | nn.Module:
    path, entry = split_entry(file)
    if holds_weights(path):
        return _content_of_parts(path, entry, unsafe)
    identity = recognise(path)
    if identity.kind is Kind.SAFETENSORS:
        try:
            return unwrap(safetensors.torch.load_file(path), str(path), entry)
        except (safetensors.SafetensorError, OSError, ValueError, KeyError) as error:
            raise CheckpointError(f"{path} is a damaged or truncated safetensors file ({brief(error)})") from error
    if identity.kind is Kind.TORCHSCRIPT:
        raise CheckpointError(
            f"{path} is a TorchScript archive; expected the state dict of the Python module behind it: "
            "torch.save(model.state_dict(), 'weights.pt')"
        )
    if identity.kind is Kind.ONNX:
        raise CheckpointError(
            f"{path} is an ONNX model; expected one of PyTorch, or its weights: an ONNX file is folded with "
            f"`fusekit optimize {path.name} small.onnx` (fusekit.optimize_onnx)"
        )
    if identity.kind is Kind.PROGRAM:
        raise CheckpointError(f"{path} is a torch.export archive, a whole model: give it as SOURCE, without a factory")
    if identity.kind not in (Kind.TORCH, Kind.LEGACY):
        raise CheckpointError(
            f"{path} is {identity.what}; expected a .pt2 program, or weights as .safetensors or a torch.save state dict"
        )
    return unwrap(_unpickle(path, unsafe), str(path), entry)


def _content_of_parts(path: Path, entry: str | None, unsafe: bool) -> Mapping[str, torch.Tensor] | nn.Module:
    files, names = parts_of(path)
    if len(files) == 1 and not names:
        return _content(files[0] if entry is None else f"{files[0]}#{entry}", unsafe)
    state: dict[str, torch.Tensor] = {}
    for file in files:
        part = _content(file, unsafe=False)  # a part of a pickled module would be no part
        assert isinstance(part, Mapping)
        if twice := next((name for name in part if name in state), None):
            raise CheckpointError(f"{file} holds {twice}, which another file of {file.parent} holds too")
        state.update(part)
    if lost := next((name for name in names if name not in state), None):
        raise CheckpointError(f"the index in {files[0].parent} names {lost}, which no part holds: copy them again")
    return state


def _unpickle(path: Path, unsafe: bool) -> object:
    with unwarned():  # torch warns about files that are refused below with a better message
        try:
            return torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:  # the zip reader, the unpickler and the storages raise errors of many types
            names = _foreign(path, error)
            if not names:
                raise CheckpointError(f"{path} is damaged or truncated: {brief(error)}") from error
            if not unsafe:
                raise CheckpointError(_risk(path, names)) from error
        try:
            with importable(Path.cwd()):
                return torch.load(path, map_location="cpu", weights_only=False)
        except (Exception, SystemExit) as error:
            hint = (
                " (its class must be importable from here)" if isinstance(error, (AttributeError, ImportError)) else ""
            )
            raise CheckpointError(f"{path} could not be unpickled: {brief(error)}{hint}") from error


def _foreign(path: Path, error: Exception) -> list[str]:
    """The names of classes and functions, other than those of tensors, that unpickling would call. Calls none of
    them."""
    with suppress(RuntimeError, ValueError, LookupError, OSError, EOFError, pickle.UnpicklingError):
        if found := torch.serialization.get_unsafe_globals_in_checkpoint(path):
            return sorted(found)
    # torch lists these names for zip archives only. For the older format, torch's error contains the first one.
    return re.findall(r"GLOBAL ([\w.]+) was not an allowed", str(error))[:1]


def _risk(path: Path, names: list[str]) -> str:
    kind = "a pickled model" if any(name.startswith("torch.nn.modules.") for name in names) else "a pickle"
    listing = ", ".join(names[:3]) + (" ..." if len(names) > 3 else "")
    return (
        f"{path} is {kind} with more than tensors in it ({listing}), and unpickling can run any code its author "
        "chose; save model.state_dict() and give it with a factory, or pass unsafe=True (--unsafe-pickle) "
        "if you trust the file"
    )
