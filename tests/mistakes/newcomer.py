"""The folder of somebody new: a file with networks, and what they were trained, saved, exported and photographed as."""

import argparse
from collections import OrderedDict
from pathlib import Path

import numpy
import onnx
import torch
from safetensors.torch import save_file
from torch import nn

NETS = """
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self, width=4):
        super().__init__()
        self.conv = nn.Conv2d(3, width, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(width)
        self.head = nn.Linear(width, 5)

    def forward(self, x):
        return self.head(self.norm(self.conv(x)).relu().mean((2, 3)))


class Sized(Net):
    def __init__(self, classes, width=4):
        super().__init__(width)


class Other(nn.Module):
    def __init__(self):
        super().__init__()
        self.convs = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3))

    def forward(self, x):
        return self.convs(x)


class Embed(nn.Module):
    def __init__(self):
        super().__init__()
        self.words, self.conv = nn.Embedding(10, 4), nn.Conv1d(4, 4, 3)

    def forward(self, ids):
        return self.conv(self.words(ids).transpose(1, 2))


class Pair(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 1)

    def forward(self, image, mask):
        return self.conv(image) * mask


class Batch(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 1)

    def forward(self, batch):
        return self.conv(batch["image"])


def weights(): return Net().state_dict()
"""


def move_in(room: Path) -> None:
    """Write the files. The networks are importable as `nets` from then on, if `room` is the current folder."""
    (room / "nets.py").write_text(NETS)
    (room / "results").mkdir()
    scope: dict[str, type[nn.Module]] = {"__name__": "nets"}  # type: ignore[dict-item]
    exec(NETS, scope)
    torch.manual_seed(0)
    net, image = scope["Net"]().eval(), torch.randn(1, 3, 8, 8)
    state = net.state_dict()
    saved = {
        "weights.pt": state,
        "lightning.ckpt": {
            "epoch": 3,
            "pytorch-lightning_version": "2.4.0",
            "state_dict": OrderedDict((f"model.{key}", value) for key, value in state.items()),
            "hyper_parameters": argparse.Namespace(lr=0.1, data="imagenet"),
            "optimizer_states": [torch.optim.SGD(net.parameters(), 0.1).state_dict()],
        },
        "parallel.pt": {"state_dict": {f"module.{key}": value for key, value in state.items()}},
        "params.pth": {"params": state},
        "params_ema.pth": {"params_ema": state},
        "both.pth": {"params": state, "params_ema": state},
        "gan.pt": {"G": state, "D": state},
        "part.pt": {key: value for key, value in state.items() if not key.startswith("head")},
        "renamed.pt": {key.replace("norm", "bn"): value for key, value in state.items()},
        "other.pt": scope["Other"]().state_dict(),
        "wide.pt": scope["Net"](8).state_dict(),
        "epoch.pt": {"epoch": 3, "optimizer": {}},
        "int8.pt": {**state, "head.weight": torch.quantize_per_tensor(state["head.weight"], 0.1, 0, torch.qint8)},
        "whole.pt": nn.Sequential(nn.Conv2d(3, 4, 1)),
        "tensor.pt": image,
    }
    for name, content in saved.items():
        torch.save(content, room / name)
    save_file(state, room / "weights.safetensors")
    _repository(room / "single", {"model.safetensors": state})
    half = [dict(list(state.items())[:3]), dict(list(state.items())[3:])]
    parts = {f"model-0000{index + 1}-of-00002.safetensors": part for index, part in enumerate(half)}
    _repository(room / "sharded", parts)
    _repository(room / "unsaid", {"a.safetensors": half[0], "b.safetensors": half[1]}, indexed=False)
    free = ({0: torch.export.Dim.AUTO, 2: torch.export.Dim.AUTO},)
    torch.export.save(torch.export.export(net, (image,)), room / "fixed.pt2")
    torch.export.save(torch.export.export(net, (image.repeat(2, 1, 1, 1),), dynamic_shapes=free), room / "net.pt2")
    torch.jit.trace(net, image).save(str(room / "script.pt"))
    torch.onnx.export(net, (image,), room / "model.onnx", dynamo=True, verbose=False, external_data=False)
    (room / "empty.pt").touch()
    (room / "page.pt").write_text("<!DOCTYPE html><title>404</title>")
    numpy.save(room / "photo.npy", numpy.zeros((3, 8, 8), "float32"))
    numpy.save(room / "camera.npy", numpy.zeros((1, 8, 8, 3), "float32"))
    numpy.save(room / "bytes.npy", numpy.zeros((1, 3, 8, 8), "uint8"))
    numpy.save(room / "doubles.npy", numpy.zeros((1, 3, 8, 8)))
    numpy.save(room / "good.npy", numpy.zeros((1, 3, 8, 8), "float32"))
    (room / "photo.jpg").write_bytes(b"\xff\xd8\xff\xe0" + bytes(60))
    assert onnx.load(room / "model.onnx").graph.input


def _repository(folder: Path, files: dict[str, dict[str, torch.Tensor]], *, indexed: bool = True) -> None:
    """A folder as hubs of models have them: weights in one file or in parts, the index of the parts, notes."""
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    for name, part in files.items():
        save_file(part, folder / name)
    if indexed and len(files) > 1:
        places = ", ".join(f'"{key}": "{name}"' for name, part in files.items() for key in part)
        (folder / "model.safetensors.index.json").write_text(f'{{"metadata": {{}}, "weight_map": {{{places}}}}}')
