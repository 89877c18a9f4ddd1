"""What is done to an image before a network sees it, as a part of the network, so that it can be folded into it.

A camera or a decoder gives bytes in the order height, width, channel, often blue first. A network wants floating-point
numbers, channels first, normalised. Preprocess is the map between the two:

    x = (scale * image - mean) / std          in the network's order of channels, and in its layout and dtype
"""

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from fusekit.errors import FusekitError, closest
from fusekit.model.given import model_of

LAYOUTS = ("NCHW", "NHWC")
ORDERS = ("RGB", "BGR")
DTYPES = ("uint8", "int8", "int16", "int32", "float16", "float32", "float64")

Numbers = float | Sequence[float]


@dataclass(frozen=True)
class Preprocess:
    """The preprocessing of a network's images: x = (scale * image - mean) / std.

    Calling it with a network returns a module that takes the images as they come:

        front = fusekit.Preprocess(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225), scale=1 / 255, dtype="uint8")
        fast = fusekit.optimize(model, images, preprocess=front)         the same as optimize(front(model), images)

    Args:
        mean, std: one number, or one for each channel, in the order in which the network takes its channels. No
            element of std may be 0.
        scale: the factor for the image, such as 1 / 255. None: 1. If the images are integers and no mean or std is
            above 1, it must be given: such statistics are usually those of images in [0, 1].
        order: "BGR" if the images have their three channels in the opposite order of what the network takes.
        layout: of the images: "NCHW" [N, C, H, W] or "NHWC" [N, H, W, C].
        dtype: of the images: uint8, int8, int16, int32, float16, float32 or float64, as a name or a torch.dtype.
        output_layout: "NHWC" if the network returns one tensor [N, C, H, W] and it shall be [N, H, W, C].

    Raises FusekitError if an argument is none of these.
    """

    mean: Numbers = 0.0
    std: Numbers = 1.0
    scale: float | None = None
    order: str = "RGB"
    layout: str = "NCHW"
    dtype: str | torch.dtype = "float32"
    output_layout: str = "NCHW"

    def __post_init__(self) -> None:
        object.__setattr__(self, "dtype", str(self.dtype).removeprefix("torch."))
        for name in ("order", "layout", "output_layout"):
            upper = str(getattr(self, name)).upper()
            object.__setattr__(self, name, upper if upper in (*LAYOUTS, *ORDERS) else getattr(self, name))
        for name, known in (("order", ORDERS), ("layout", LAYOUTS), ("output_layout", LAYOUTS), ("dtype", DTYPES)):
            if getattr(self, name) not in known:
                given = getattr(self, name)
                raise FusekitError(
                    f"{name} must be one of {', '.join(known)}, got {given!r}{closest(str(given), known)}"
                )
        for name in ("mean", "std"):
            object.__setattr__(self, name, _numbers(name, getattr(self, name)))
        mean, std = _tuple(self.mean), _tuple(self.std)
        if len({len(mean), len(std)} - {1}) > 1:
            raise FusekitError(
                f"mean and std must have one number, or one for each channel, got {len(mean)} and {len(std)}"
            )
        if 0 in std:
            raise FusekitError("std must not be 0: it is what the image is divided by")
        given = mean != (0.0,) or std != (1.0,)
        if self.scale is None and given and "int" in str(self.dtype) and max(map(abs, mean + std)) <= 1:
            raise FusekitError(
                f"the images are {self.dtype}, but mean and std look like those of images in [0, 1]: "
                "give scale=1 / 255, or scale=1 if they are meant for the integers"
            )
        object.__setattr__(self, "scale", _number("scale", 1.0 if self.scale is None else self.scale))

    def __call__(self, model: nn.Module) -> nn.Module:
        """A module that takes images and calls `model` with x. Its weights are those of `model`, and it is in training
        mode if `model` is. Raises FusekitError if `model` does not take exactly one input."""
        return Preprocessed(model, self)


class Preprocessed(nn.Module):
    """A network behind its preprocessing. `image`: as described by the Preprocess; returns what the network returns."""

    mean: Tensor
    std: Tensor

    def __init__(self, model: nn.Module, front: Preprocess) -> None:
        super().__init__()
        _check(model)
        weight = next((p for p in model.parameters() if p.is_floating_point()), torch.zeros(()))
        self.model, self.front = model, front
        self.scale = 1.0 if front.scale is None else front.scale
        self.image_dtype: torch.dtype = getattr(torch, str(front.dtype))
        self.dtype = weight.dtype
        for name in ("mean", "std"):
            numbers = torch.tensor(_tuple(getattr(front, name)), dtype=torch.float64)
            self.register_buffer(name, numbers.reshape(-1, 1, 1).to(weight.device, weight.dtype), persistent=False)
        self.train(model.training)

    def forward(self, image: Tensor) -> Any:
        """Args: image, [N, C, H, W] or [N, H, W, C] of the dtype that the Preprocess names."""
        front = self.front
        x = image.permute(0, 3, 1, 2) if front.layout == "NHWC" else image
        x = x.to(self.dtype)
        if front.order == "BGR":
            x = x.flip(1)
        if self.scale != 1:
            x = x * self.scale
        if front.mean != 0:
            x = x - self.mean
        if front.std != 1:
            x = x / self.std
        out = self.model(x)
        return out.permute(0, 2, 3, 1) if front.output_layout == "NHWC" else out


def _check(model: nn.Module) -> None:
    model_of(model, "to put preprocessing before")
    try:
        needed = [p for p in inspect.signature(model.forward).parameters.values() if p.default is p.empty]
    except (TypeError, ValueError):
        return
    if len([p for p in needed if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]) > 1:
        names = ", ".join(p.name for p in needed)
        raise FusekitError(f"preprocessing is for networks of one input, but {type(model).__name__} takes {names}")


def _numbers(name: str, value: Any) -> float | tuple[float, ...]:
    value = value.tolist() if hasattr(value, "tolist") else value  # an array or a tensor
    if isinstance(value, Sequence) and not isinstance(value, str):
        if not value:
            raise FusekitError(f"{name} must be a number or a sequence of numbers, got an empty one")
        return tuple(_number(name, v) for v in value)
    return _number(name, value)


def _number(name: str, value: Any) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise FusekitError(f"{name} must be a number, got {value!r}") from None
    if number != number or abs(number) == float("inf"):
        raise FusekitError(f"{name} must be finite, got {number}")
    return number


def _tuple(value: Any) -> tuple[float, ...]:
    return value if isinstance(value, tuple) else (value,)
