"""What people pass in place of a model or a path, and what they should do instead."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import ExportedProgram

from fusekit.errors import FusekitError


def model_of(given: Any, purpose: str, *, scripts: bool = True) -> nn.Module:
    """The model, if it is one. Else raises FusekitError that says what came and how to get a model from it.

    Args:
        given: what was passed.
        purpose: what for, as the end of "expected an nn.Module ...", such as "to optimize".
        scripts: whether it may be TorchScript.
    """
    if isinstance(given, torch.jit.ScriptModule) and not scripts:
        raise FusekitError("the model is TorchScript; expected the Python module that it was made from")
    if isinstance(given, nn.Module):
        return given
    raise FusekitError(f"expected an nn.Module {purpose}, got {_told(given)}")


def path_of(given: Any, example: str) -> Path:
    """The path, if it is one. Else raises FusekitError that shows an `example` of the call."""
    if isinstance(given, str | os.PathLike):
        return Path(given)
    model = isinstance(given, nn.Module)
    hint = "fusekit.export(model, 'model.onnx', (x,)) makes a file of a model" if model else example
    if type(given).__name__ == "ModelProto":
        hint = "write it with onnx.save(proto, 'model.onnx') and give that path"
    raise FusekitError(f"expected the path of a file, got {_kind(given)}: {hint}")


def _told(given: Any) -> str:
    if isinstance(given, str | os.PathLike):
        if str(given).endswith(".onnx"):
            return f"the path {str(given)!r}: fusekit.optimize_onnx takes ONNX files"
        return f"the path {str(given)!r}: fusekit.load({str(given)!r}, factory=...) makes a model of a file"
    if isinstance(given, type):
        return f"the class {given.__name__}: make an instance, {given.__name__}(...)"
    if isinstance(owner := getattr(given, "__self__", None), nn.Module):
        return f"a method of {type(owner).__name__}: give the model itself"
    if isinstance(given, ExportedProgram):
        return "an ExportedProgram: give program.module()"
    if isinstance(given, Mapping):
        return f"{_kind(given)}: build the model, and load it with model.load_state_dict(...)"
    if type(given).__name__ == "ModelProto":
        return f"{_kind(given)}: write it with onnx.save, and give the file to fusekit.optimize_onnx"
    if given is None:
        return "None: does the function that builds the model return it?"
    if callable(given) and not isinstance(given, Tensor):
        return f"{_kind(given)}: call it in the forward of a torch.nn.Module"
    return f"{_kind(given)}: only models of PyTorch can be optimized"


def _kind(given: Any) -> str:
    name = type(given).__name__
    return f"{'an' if name[:1].lower() in 'aeiou' else 'a'} {name}"
