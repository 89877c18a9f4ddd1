"""A model's example inputs as one value, and other inputs made from them.

What a user passes (a tensor, positional arguments, keyword arguments) is normalised once, here. Inputs of other sizes
are cut from the given data, so that a model that expects photographs is tested on photographs:

    resize(x, {axis: n})[i] = x[i mod size of the axis]
"""

import inspect
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from fusekit.errors import FusekitError

# A factor of 1e8 between background and spikes shows an implementation that loses small values beside large ones.
BACKGROUND = 1e-4
SPIKE = 1e4
SPIKES_PER_TENSOR = 4


@dataclass(frozen=True, eq=False)
class Inputs:
    """The arguments of one call. Tensors are numbered in the order in which pytree flattens (args, kwargs)."""

    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, example_inputs: object) -> "Inputs":
        """Inputs from a tensor, a tuple or list of positional arguments, or a dict of keyword arguments.

        Tensors made in inference mode are copied, because torch cannot trace with them. Raises FusekitError for
        anything else.
        """
        given = cls._given(example_inputs)
        if not any(tensor.is_inference() for tensor in given.tensors()):
            return given
        return given.map(lambda tensor: tensor.clone() if tensor.is_inference() else tensor)

    @classmethod
    def _given(cls, example_inputs: object) -> "Inputs":
        if isinstance(example_inputs, Inputs):
            return example_inputs
        if isinstance(example_inputs, Tensor):
            return cls((example_inputs,))
        if isinstance(example_inputs, tuple | list):
            return cls(tuple(example_inputs))
        if isinstance(example_inputs, Mapping):
            if strange := [key for key in example_inputs if not isinstance(key, str)]:
                raise FusekitError(f"example inputs given as a dict need argument names as keys, got {strange[0]!r}")
            return cls((), dict(example_inputs))
        kind, hint = type(example_inputs).__name__, "give for instance (torch.randn(1, 3, 224, 224),)"
        if kind == "ndarray":
            kind, hint = "a numpy array", "give torch.from_numpy(array)"
        raise FusekitError(
            "example inputs must be a tensor, a tuple of positional arguments or a dict of keyword arguments, "
            f"got {kind}: {hint}"
        )

    @classmethod
    def declared(cls, model: torch.nn.Module) -> "Inputs | None":
        """The inputs that a model of PyTorch Lightning declares as `example_input_array`; None if there are none."""
        declared = getattr(model, "example_input_array", None)
        return None if declared is None else cls.of(declared)

    def map(self, change: Callable[[Tensor], Tensor]) -> "Inputs":
        """The same arguments with `change` applied to every tensor, however deeply it is nested."""
        args, kwargs = pytree.tree_map_only(Tensor, change, (self.args, self.kwargs))
        return Inputs(args, kwargs)

    def replaced(self, tensors: list[Tensor]) -> "Inputs":
        """The same arguments with these tensors in place of `tensors()`."""
        remaining = iter(tensors)
        return self.map(lambda _: next(remaining))

    def tensors(self) -> list[Tensor]:
        """Every tensor, in flattened order."""
        return [leaf for leaf in pytree.tree_leaves((self.args, self.kwargs)) if isinstance(leaf, Tensor)]

    def cloned(self) -> "Inputs":
        """A copy that a forward may overwrite in place."""
        return self.map(torch.clone)

    def channels_last(self) -> "Inputs":
        """The same values; 4-dimensional tensors in torch's memory format channels_last."""

        def last(tensor: Tensor) -> Tensor:
            return tensor.contiguous(memory_format=torch.channels_last) if tensor.dim() == 4 else tensor

        return self.map(last)

    @property
    def are_channels_last(self) -> bool:
        """Whether any 4-dimensional tensor is in channels_last and not contiguous as well. A tensor with one channel is
        both, so it tells nothing."""
        return any(
            tensor.dim() == 4 and tensor.is_contiguous(memory_format=torch.channels_last) and not tensor.is_contiguous()
            for tensor in self.tensors()
        )

    def call(self, function: Callable[..., Any]) -> Any:
        return function(*self.args, **self.kwargs)

    def names(self, module: torch.nn.Module) -> list[str]:
        """One name per tensor: the forward parameter it is bound to, with the path inside a nested argument.

        The spelling is torch.export's (`x`, `pair_0`, `options_mask`), so that names match those of an exported file.
        """
        try:
            bound: dict[str, Any] = inspect.signature(module.forward).bind(*self.args, **self.kwargs).arguments
        except (TypeError, ValueError):
            bound = {}
        named: dict[int, list[str]] = defaultdict(list)  # one tensor may be passed twice
        for path, leaf in pytree.tree_leaves_with_path(bound):
            named[id(leaf)].append(spell(path))
        waiting = [named[id(tensor)] for tensor in self.tensors()]
        return [names.pop(0) if names else f"input_{index}" for index, names in enumerate(waiting)]


def resize(inputs: Inputs, sizes: Mapping[int, Mapping[int, int]]) -> Inputs:
    """The inputs with tensor number i brought to size `sizes[i][axis]` along each axis named: cropped, or repeated and
    then cropped."""
    tensors = inputs.tensors()
    for index, axes in sizes.items():
        for axis, size in axes.items():
            tensors[index] = _resize_axis(tensors[index], axis, size)
    return inputs.replaced(tensors)


def wide_range(inputs: Inputs, seed: int = 0) -> Inputs:
    """Every floating tensor becomes a background of 1e-4 with a few spikes of 1e4; integers and booleans stay.

    Uniform noise hides errors from cancellation and overflow; values that differ by a factor of 1e8 show them.
    Deterministic for a given `seed`.
    """
    generator = torch.Generator().manual_seed(seed)

    def spiky(tensor: Tensor) -> Tensor:
        if not tensor.is_floating_point() and not tensor.is_complex():
            return tensor
        if tensor.is_complex():
            parts = spiky(torch.view_as_real(tensor.resolve_conj()))
            return torch.view_as_complex(parts)
        values = torch.randn(tensor.shape, generator=generator, dtype=torch.float64) * BACKGROUND
        where = torch.randperm(max(tensor.numel(), 1), generator=generator)[: min(SPIKES_PER_TENSOR, tensor.numel())]
        values.view(-1)[where] = torch.sign(values.view(-1)[where]) * SPIKE
        return values.to(device=tensor.device, dtype=tensor.dtype)

    return inputs.map(spiky)


def batch_of_two(inputs: Inputs) -> tuple[Inputs, bool]:
    """The inputs with every batch of 1 (a first axis of size 1) repeated to 2, and whether there was one.

    torch.export treats the sizes 0 and 1 as constants of the model, so a batch of 1 can only vary if traced as 2.
    """
    alone = {index for index, tensor in enumerate(inputs.tensors()) if tensor.dim() > 0 and tensor.shape[0] == 1}
    return resize(inputs, {index: {0: 2} for index in alone}), bool(alone)


def spell(path: tuple[Any, ...]) -> str:
    """The path of a leaf in a nested container as a name, in torch.export's spelling: `pair_0`, `options_mask`."""
    keys = (getattr(key, "key", getattr(key, "idx", getattr(key, "name", key))) for key in path)
    return "_".join(str(key) for key in keys)


def _resize_axis(tensor: Tensor, axis: int, size: int) -> Tensor:
    wrapped = torch.arange(size, device=tensor.device) % max(tensor.shape[axis], 1)
    return tensor.index_select(axis, wrapped)
