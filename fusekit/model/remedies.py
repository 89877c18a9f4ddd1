"""What would make a model run on the inputs on which it fails: common changes are tried, and the first that works is
named."""

import inspect
from collections.abc import Callable, Iterator
from contextlib import suppress

import numpy
import torch
from torch import Tensor, nn

from fusekit.errors import reason_of
from fusekit.model.evaluation import on_copy
from fusekit.model.inputs import Inputs

_GUARD = "Guard failed: "


def why_not(model: nn.Module, inputs: Inputs, error: BaseException) -> str:
    """Why `model` failed on the `inputs`, from the `error` that it raised, and what to do. Copies of it are called."""
    condition = str(error)
    if condition.startswith(_GUARD):
        fixed = condition.removeprefix(_GUARD)
        return f"the archive was exported only for {fixed}: give such inputs, or export it again with dynamic_shapes"
    return f"{reason_of(error)}{_wrong_call(model, inputs) or _wrong_tensors(model, inputs)}"


def _wrong_tensors(model: nn.Module, inputs: Inputs) -> str:
    devices = {str(tensor.device) for tensor in (*model.parameters(), *model.buffers())}
    others = {str(tensor.device) for tensor in inputs.tensors()}
    if devices and others - devices:
        return f"; the model is on {', '.join(devices)}, the inputs are on {', '.join(others)}: put both on one device"
    for changed, how in _changes(model, inputs):
        with suppress(Exception), torch.no_grad():
            on_copy(model, changed.cloned().call)
            return f"; it does run {how}: {sizes(changed)}"
    return ""


def sizes(inputs: Inputs) -> str:
    """The tensors as they are written on the command line: 1x3x8x8:float32."""
    return ", ".join(
        f"{'x'.join(map(str, each.shape)) or 'a number'}:{each.dtype}".replace("torch.", "")
        for each in inputs.tensors()
    )


def _wrong_call(model: nn.Module, inputs: Inputs) -> str:
    """What is wrong with the number or the names or the types of the arguments."""
    if any(isinstance(value, numpy.ndarray) for value in (*inputs.args, *inputs.kwargs.values())):
        return "; the inputs hold a numpy array: give torch.from_numpy(array)"
    if len(inputs.args) > 1 and all(isinstance(value, int) for value in inputs.args):
        return f"; these are sizes: give a tensor such as torch.randn{inputs.args}"
    try:
        signature = inspect.signature(model.forward)
    except (TypeError, ValueError):
        return ""
    try:
        signature.bind(*inputs.args, **inputs.kwargs)
    except TypeError:
        takes = [name for name, each in signature.parameters.items() if each.default is each.empty]
        dicts = "; a dict that is one argument goes into a tuple: ({...},)" if inputs.kwargs and len(takes) == 1 else ""
        return f"; its forward takes ({', '.join(takes)}){dicts}"
    return ""


def _changes(model: nn.Module, inputs: Inputs) -> Iterator[tuple[Inputs, str]]:
    """The inputs with one change or two, and what was changed."""
    usual = next((p.dtype for p in model.parameters() if p.is_floating_point() or p.is_complex()), torch.float32)
    casts: list[tuple[Callable[[Tensor], Tensor], str]] = [(lambda x: x, "")]
    for dtype in (usual, torch.int64):
        casts.append((_to(dtype), "in another dtype"))
    layouts: list[tuple[Callable[[Tensor], Tensor], str]] = [
        (lambda x: x, ""),
        (lambda x: x[None], "with a batch axis in front"),
        (_channels_first, "with the channels first (for such images: layout NHWC, --layout NHWC)"),
        (lambda x: _channels_first(x[None]), "with a batch axis in front and the channels first"),
    ]
    seen = {sizes(inputs)}
    for cast, kind in casts:
        for laid, how in layouts:
            changed = inputs.map(laid).map(cast)
            if sizes(changed) not in seen or _channels_last(inputs):
                seen.add(sizes(changed))
                yield changed, " and ".join(filter(None, (how, kind)))


def _to(dtype: torch.dtype) -> Callable[[Tensor], Tensor]:
    if dtype is torch.int64:  # most likely indices, of which 0 is always one
        return lambda x: torch.zeros_like(x, dtype=dtype)
    return lambda x: x.to(dtype)


def _channels_first(x: Tensor) -> Tensor:
    return x.movedim(-1, 1) if x.dim() > 2 else x


def _channels_last(inputs: Inputs) -> bool:
    """Whether moving an axis may change no size, as in 3x3x3x3."""
    return any(len(set(x.shape[1:])) == 1 for x in inputs.tensors())
