"""speechbrain's quaternion operators by their own names: the module `speechbrain.nnet.quaternion_networks.q_ops`.

    from speechbrain.nnet.quaternion_networks.q_ops import quaternion_linear_op        as it was
    from fusekit.nn.speechbrain_quaternion import quaternion_linear_op                 the one line to change

Signatures, layouts and numbers are the library's, also where fusekit's own functions differ (docs/hypercomplex.md lists
the differences): weights are four tensors, those of linear layers [in, out]; a bias of a linear layer, and a scale, are
used only if they require a gradient; a rotation is only as exact as the library's norm; initial numbers are those that
the library draws from the same seed of torch. Everything is computed by `fusekit.nn.functional` and `fusekit.nn.init`.

Three things are better: a slice of zeros stays zero when it is renormed (the library divides by it), a shape is refused
with its own numbers in the message, and drawing does not set numpy's global seed.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from fusekit.nn.functional.quaternion.hamilton import check_quaternion_shape, hamilton_kernel
from fusekit.nn.functional.quaternion.product import component_sums, quaternion_conv, quaternion_linear
from fusekit.nn.functional.quaternion.renorm import quaternion_renorm
from fusekit.nn.functional.quaternion.rotation import quaternion_rotation_linear, rotation_kernel
from fusekit.nn.init.criterion import Criterion
from fusekit.nn.init.quaternion import polar_scale

__all__ = [
    "QuaternionLinearCustomBackward",
    "affect_conv_init",
    "affect_init",
    "check_quaternion_input",
    "quaternion_conv_op",
    "quaternion_conv_rotation_op",
    "quaternion_init",
    "quaternion_linear_op",
    "quaternion_linear_rotation_op",
    "renorm_quaternion_weights_inplace",
    "unitary_init",
]

Four = tuple[Tensor, Tensor, Tensor, Tensor]
_SHORT = 1e-4  # added to the norms of directions that are drawn


def quaternion_linear_op(
    input: Tensor, r_weight: Tensor, i_weight: Tensor, j_weight: Tensor, k_weight: Tensor, bias: Tensor
) -> Tensor:
    """y = w ⊗ x + b: `quaternion_linear` of weights [in, out].

    Shapes: `input` x [*, 4 in], `r_weight`, `i_weight`, `j_weight`, `k_weight` [in, out], `bias` b [4 out], which is
    used only if it requires a gradient.
    """
    return quaternion_linear(input, _linear(r_weight, i_weight, j_weight, k_weight), _learned(bias))


class QuaternionLinearCustomBackward(torch.autograd.Function):
    """`quaternion_linear_op` for x [N, 4 in] that keeps only the four components for the backward pass. Called by
    `apply`, with the same arguments."""

    @staticmethod
    def forward(
        ctx: Any,
        input: Tensor,
        r_weight: Tensor,
        i_weight: Tensor,
        j_weight: Tensor,
        k_weight: Tensor,
        bias: Tensor,
    ) -> Tensor:
        ctx.save_for_backward(input, r_weight, i_weight, j_weight, k_weight)
        return quaternion_linear_op(input, r_weight, i_weight, j_weight, k_weight, bias)

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        input, *components = ctx.saved_tensors
        needs_x, *needs_weights, needs_bias = ctx.needs_input_grad
        weights: list[Tensor | None] = [None] * 4
        if any(needs_weights):
            summed = component_sums(grad_output.mT @ input)
            weights = [part.mT if needed else None for part, needed in zip(summed, needs_weights, strict=True)]
        grad_input = grad_output @ hamilton_kernel(_linear(*components)) if needs_x else None
        return grad_input, *weights, grad_output.sum(0) if needs_bias else None


def quaternion_linear_rotation_op(
    input: Tensor,
    r_weight: Tensor,
    i_weight: Tensor,
    j_weight: Tensor,
    k_weight: Tensor,
    bias: Tensor,
    scale: Tensor,
    zero_kernel: Tensor,
) -> Tensor:
    """y_o = Σ_i s_oi q_oi* x_i q_oi + b_o with q = w / (|w| + 1e-4): `quaternion_rotation_linear` of weights [in, out].

    Shapes: `input` x [*, 4 in], `r_weight`, `i_weight`, `j_weight`, `k_weight` and `scale` s [in, out], `bias` b
    [4 out]; `scale` and `bias` are used only if they require a gradient. `zero_kernel` is not read.
    """
    factors = _learned(scale)
    return quaternion_rotation_linear(
        input,
        _linear(r_weight, i_weight, j_weight, k_weight),
        _learned(bias),
        None if factors is None else factors.mT,
        inverse=True,
        norm="shifted",
    )


def quaternion_conv_op(
    input: Tensor,
    r_weight: Tensor,
    i_weight: Tensor,
    j_weight: Tensor,
    k_weight: Tensor,
    bias: Tensor,
    stride: Any,
    padding: Any,
    groups: int,
    dilation: Any,
    conv1d: bool,
) -> Tensor:
    """y = w ⋆ x + b with the product w ⊗ x at each tap: `quaternion_conv` whose groups are those of real channels.

    Shapes: `input` x [(N,) 4 in, *S], `r_weight`, `i_weight`, `j_weight`, `k_weight` [out, in / groups, *window],
    `bias` b [4 out]. `stride`, `padding`, `groups` and `dilation` as torch's; `conv1d`: one axis, otherwise two.
    """
    weight = torch.stack([r_weight, i_weight, j_weight, k_weight])
    _check_axes(weight, conv1d)
    return quaternion_conv(input, weight, bias, stride, padding, dilation, groups, groups_of="channels")


def quaternion_conv_rotation_op(
    input: Tensor,
    r_weight: Tensor,
    i_weight: Tensor,
    j_weight: Tensor,
    k_weight: Tensor,
    bias: Tensor,
    scale: Tensor,
    zero_kernel: Tensor,
    stride: Any,
    padding: Any,
    groups: int,
    dilation: Any,
    conv1d: bool,
) -> Tensor:
    """s q x q* at each tap with q = w / √(|w|² + 1e-4), plus b: `rotation_kernel`; groups are those of real channels.

    Shapes: `input` x [(N,) 4 in, *S], `r_weight`, `i_weight`, `j_weight`, `k_weight` and `scale` s [out, in / groups,
    *window], `bias` b [4 out]; `scale` is used only if it requires a gradient. `zero_kernel` is not read. `stride`,
    `padding`, `groups` and `dilation` as torch's; `conv1d`: one axis, otherwise two.
    """
    weight = torch.stack([r_weight, i_weight, j_weight, k_weight])
    _check_axes(weight, conv1d)
    kernel = rotation_kernel(weight, _learned(scale), norm="softened")
    convolve = F.conv1d if conv1d else F.conv2d
    return convolve(input, kernel, bias, stride, padding, dilation, groups)


def quaternion_init(
    in_features: int,
    out_features: int,
    kernel_size: int | Sequence[int] | None = None,
    criterion: Criterion = "glorot",
) -> Four:
    """The components of a weight in polar form, each [in_features, out_features], or [out_features, in_features,
    *kernel_size]; the first and the products are float64. `criterion`: "glorot" or "he".

    As in the library, moduli are drawn by numpy from torch's initial seed, so they are the same for each weight of a
    shape; directions are drawn in a cube from torch's generator.
    """
    shape, taps = _shape(in_features, out_features, kernel_size)
    source = np.random.RandomState(torch.initial_seed() % (2**31 - 1))
    scale = polar_scale(in_features * taps, out_features * taps, criterion)
    modulus = scale * torch.from_numpy(np.sqrt(source.chisquare(4, shape)))
    axis = _directions(3, shape)
    torch.rand(shape)  # the library draws these numbers and replaces them
    phase = torch.empty(shape, dtype=torch.float32).uniform_(-math.pi, math.pi)
    i, j, k = (modulus * part * torch.sin(phase) for part in axis)
    return modulus * torch.cos(phase), i, j, k


def unitary_init(
    in_features: int,
    out_features: int,
    kernel_size: int | Sequence[int] | None = None,
    criterion: Criterion = "he",
) -> Four:
    """The components of quaternions of modulus 1 (less up to 5e-4, as in the library), in the shapes of
    `quaternion_init`. `in_features`, `out_features` and `kernel_size` as there; `criterion` is not read."""
    r, i, j, k = _directions(4, _shape(in_features, out_features, kernel_size)[0])
    return r, i, j, k


Init = Callable[..., Four]


def affect_init(
    r_weight: Tensor,
    i_weight: Tensor,
    j_weight: Tensor,
    k_weight: Tensor,
    init_func: Init,
    init_criterion: Criterion,
) -> None:
    """Draws the weights of a linear layer, in place. `r_weight`, `i_weight`, `j_weight`, `k_weight` are [in, out];
    `init_func` is `quaternion_init` or `unitary_init`, and `init_criterion` its criterion."""
    drawn = init_func(r_weight.size(0), r_weight.size(1), None, init_criterion)
    _assign((r_weight, i_weight, j_weight, k_weight), drawn)


def affect_conv_init(
    r_weight: Tensor,
    i_weight: Tensor,
    j_weight: Tensor,
    k_weight: Tensor,
    kernel_size: int | Sequence[int],
    init_func: Init,
    init_criterion: Criterion,
) -> None:
    """`affect_init` for a convolution: `r_weight`, `i_weight`, `j_weight`, `k_weight` are [out, in, *kernel_size];
    `init_func` and `init_criterion` as there."""
    into, out = r_weight.size(1), r_weight.size(0)
    drawn = init_func(into, out, kernel_size=kernel_size, criterion=init_criterion)
    _assign((r_weight, i_weight, j_weight, k_weight), drawn)


def check_quaternion_input(input_shape: Sequence[int]) -> None:
    """ValueError if `input_shape` [*, 4 C] is none of a linear layer: one to three axes, the last a multiple of 4."""
    if len(input_shape) not in (1, 2, 3):
        raise ValueError(f"expected a shape of 1 to 3 axes, got {list(input_shape)}")
    check_quaternion_shape(input_shape)


@torch.no_grad()
def renorm_quaternion_weights_inplace(
    r_weight: Tensor, i_weight: Tensor, j_weight: Tensor, k_weight: Tensor, max_norm: float
) -> None:
    """Limits the norm of every slice along the first axis to `max_norm`, in place: `quaternion_renorm` with dim 0.

    `r_weight`, `i_weight`, `j_weight` and `k_weight` are [in, out] or [out, in, *window]. So it limits the weights that
    read one input of a linear layer, but those of one output of a convolution.
    """
    weights = (r_weight, i_weight, j_weight, k_weight)
    _assign(weights, quaternion_renorm(torch.stack([weight.detach() for weight in weights]), max_norm).unbind(0))


def _linear(*components: Tensor) -> Tensor:
    """Four components [in, out] as a weight [4, out, in]."""
    return torch.stack(components).mT


def _learned(parameter: Tensor) -> Tensor | None:
    """The parameter if it requires a gradient: the library takes another one for absent."""
    return parameter if parameter.requires_grad else None


def _check_axes(weight: Tensor, conv1d: bool) -> None:
    axes = 1 if conv1d else 2
    if weight.ndim - 3 != axes:
        shape = list(weight.shape[1:])
        raise ValueError(f"expected weights [out, in, *window] with {axes} axes of window, got shape {shape}")


def _shape(into: int, out: int, kernel_size: int | Sequence[int] | None) -> tuple[tuple[int, ...], int]:
    """The shape of a component, and the number of taps."""
    if kernel_size is None:
        return (into, out), 1
    window = (kernel_size,) if isinstance(kernel_size, int) else tuple(kernel_size)
    return (out, into, *window), math.prod(window)


def _directions(count: int, shape: tuple[int, ...]) -> list[Tensor]:
    """`count` components in float32, drawn in a cube and divided by their norm plus 1e-4."""
    total = math.prod(shape)
    drawn = torch.stack([torch.empty(total, dtype=torch.float32).uniform_(-1, 1) for _ in range(count)])
    return list((drawn / (drawn.square().sum(0).sqrt() + _SHORT)).reshape(count, *shape))


def _assign(weights: Sequence[Tensor], values: Sequence[Tensor]) -> None:
    with torch.no_grad():
        for weight, value in zip(weights, values, strict=True):
            weight.copy_(value)
