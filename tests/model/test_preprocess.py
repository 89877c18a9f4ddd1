"""A front of a network: what is done to images is part of the network, exact, and folded where that is cheaper."""

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import fusekit
from fusekit import FusekitError, Preprocess

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 6, 3, 2, 1), nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, 2, 1)).eval()


def by_hand(images: np.ndarray[Any, Any], front: Preprocess) -> Tensor:
    """In numpy and float64, from the definition."""
    x = images.astype(np.float64)
    x = np.moveaxis(x, 3, 1) if front.layout == "NHWC" else x
    x = x[:, ::-1] if front.order == "BGR" else x
    mean, std = (np.reshape(np.asarray(v, dtype=np.float64), (-1, 1, 1)) for v in (front.mean, front.std))
    return torch.from_numpy(np.ascontiguousarray((x * front.scale - mean) / std))  # type: ignore[operator]


def photo(front: Preprocess, size: tuple[int, int] = (9, 12), batch: int = 2) -> Tensor:
    shape = (batch, *size, 3) if front.layout == "NHWC" else (batch, 3, *size)
    whole = torch.randint(0, 120, shape, generator=torch.Generator().manual_seed(1))
    return whole.to(getattr(torch, str(front.dtype)))


FRONTS = [
    Preprocess(MEAN, STD, 1 / 255, order, layout, dtype)
    for order, layout, dtype in itertools.product(("RGB", "BGR"), ("NCHW", "NHWC"), ("uint8", "float32", "int16"))
] + [
    Preprocess(),
    Preprocess(mean=127.5, std=127.5, dtype="uint8"),
    Preprocess(scale=2, mean=(1, 2, 3), dtype=torch.float64),
    Preprocess(std=(3, 2, 1), output_layout="NHWC"),
    Preprocess(scale=0, mean=(1, 2, 3)),
]


@pytest.mark.parametrize("front", FRONTS, ids=str)
def test_the_result_takes_images_and_computes_the_definition(front: Preprocess) -> None:
    net, images = network(), photo(front)
    wanted = fusekit.optimize(net, measure=False).double()(by_hand(images.numpy(), front))
    wanted = wanted.permute(0, 2, 3, 1) if front.output_layout == "NHWC" else wanted
    for example in (None, images):
        fast = fusekit.optimize(net, example, preprocess=front, measure=False)
        for size, batch in (((9, 12), 2), ((8, 7), 1), ((3, 3), 3)):
            other = photo(front, size, batch)
            assert torch.allclose(fast(other), front(net)(other), atol=1e-5, rtol=1e-5)
        assert torch.allclose(fast(images).double(), wanted, atol=1e-5)
        assert not any(isinstance(m, nn.BatchNorm2d) and m.num_features == 6 for m in fast.modules())


def test_the_file_takes_images(tmp_path: Path) -> None:
    front = Preprocess(MEAN, STD, 1 / 255, "BGR", "NHWC", "uint8")
    result = fusekit.export(network(), tmp_path / "m.onnx", photo(front), preprocess=front, measure=False)
    assert result.ok
    import onnx

    (given,) = onnx.load(tmp_path / "m.onnx").graph.input
    assert given.name == "image" and given.type.tensor_type.elem_type == onnx.TensorProto.UINT8
    assert [d.dim_value for d in given.type.tensor_type.shape.dim][3] == 3
    assert fusekit.validate(front(network()), tmp_path / "m.onnx", photo(front, (10, 5))).ok


def test_the_module_is_a_wrapper_of_the_same_weights_and_mode() -> None:
    net = network()
    behind = Preprocess(MEAN, STD)(net)
    assert behind.model is net and not behind.training and "mean" not in behind.state_dict()
    assert Preprocess()(net.train()).training
    half = Preprocess(mean=1.0)(network().to(torch.bfloat16))
    assert half(torch.rand(1, 3, 8, 8)).dtype == torch.bfloat16


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ({"order": "rbg"}, "order must be one of RGB, BGR, got 'rbg'"),
        ({"layout": "CHW"}, "layout must be one of NCHW, NHWC"),
        ({"output_layout": "HWC"}, "output_layout must be one of"),
        ({"dtype": "float"}, "dtype must be one of uint8"),
        ({"dtype": torch.complex64}, "got 'complex64'"),
        ({"std": 0}, "std must not be 0"),
        ({"std": (1, 0, 1)}, "std must not be 0"),
        ({"mean": (1, 2), "std": (1, 2, 3)}, "one for each channel, got 2 and 3"),
        ({"mean": ()}, "an empty one"),
        ({"mean": "0.5"}, None),
        ({"mean": "grey"}, "mean must be a number, got 'grey'"),
        ({"mean": float("nan")}, "mean must be finite"),
        ({"scale": None, "mean": MEAN, "std": STD, "dtype": "uint8"}, "give scale=1 / 255, or scale=1"),
        ({"scale": 1, "mean": MEAN, "std": STD, "dtype": "uint8"}, None),
        ({"mean": 127, "std": 1, "dtype": "uint8"}, None),
        ({"dtype": "uint8"}, None),
    ],
)
def test_words_that_mean_nothing_are_refused(words: dict[str, Any], told: str | None) -> None:
    if told is None:
        Preprocess(**words)
        return
    with pytest.raises(FusekitError, match=told):
        Preprocess(**words)


def test_networks_and_fronts_that_do_not_fit_are_refused() -> None:
    class Two(nn.Module):
        def forward(self, x: Tensor, y: Tensor) -> Tensor:
            return x + y

    with pytest.raises(FusekitError, match=r"networks of one input, but Two takes x, y"):
        Preprocess()(Two())
    with pytest.raises(FusekitError, match=r"must be a fusekit.Preprocess, got dict"):
        fusekit.optimize(network(), preprocess={"mean": 1})  # type: ignore[arg-type]
    with pytest.raises(FusekitError, match="Module"):
        Preprocess()(3)  # type: ignore[arg-type]
