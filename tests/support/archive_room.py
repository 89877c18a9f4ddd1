"""A valid torch.export archive, and changed copies of it: entries edited, added or removed, or a zip written by
hand."""

import io
import json
import zipfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

PROGRAM = "models/model.json"
WEIGHTS = "data/weights/model_weights_config.json"
CONSTANTS = "data/constants/model_constants_config.json"
EXAMPLES = "data/sample_inputs/model.pt"
Edit = Callable[[bytes], bytes]


class Net(nn.Module):
    """A convolution with a constant, a list and a dict in its results, and computed sizes."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, stride=2, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.register_buffer("scale", torch.arange(1.0, 5.0).view(4, 1, 1))

    def forward(self, x: torch.Tensor) -> dict[str, Any]:
        y = self.norm(self.conv(x)) * self.scale + torch.tensor(0.5)
        return {"y": y, "rows": [y[:, :, : x.shape[2] // 4 + 1], x.shape[2] * 2 + 1]}


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The archive of `Net`, with free batch, height and width."""
    torch.manual_seed(0)
    file = tmp_path_factory.mktemp("archives") / "good.pt2"
    shapes = ({0: torch.export.Dim.AUTO, 2: torch.export.Dim.AUTO, 3: torch.export.Dim.AUTO},)
    torch.export.save(torch.export.export(Net().eval(), (torch.randn(2, 3, 12, 16),), dynamic_shapes=shapes), file)
    return file


def entries(file: Path) -> dict[str, bytes]:
    """The entries, by their names inside the archive's folder."""
    with zipfile.ZipFile(file) as archive:
        return {name.partition("/")[2]: archive.read(name) for name in archive.namelist()}


def write(
    target: Path,
    content: Mapping[str, bytes],
    extra: Iterable[tuple[str | zipfile.ZipInfo, bytes]] = (),
    packed: int = zipfile.ZIP_STORED,
) -> Path:
    """Write an archive with the entries of `content`, and with entries under full names, which may occur twice."""
    with zipfile.ZipFile(target, "w", packed) as archive:
        for name, data in content.items():
            archive.writestr(f"good/{name}", data)
        for full, data in extra:
            archive.writestr(full, data)
    return target


def edited(source: Path, target: Path, edits: Mapping[str, Edit]) -> Path:
    """A copy with some entries changed. Fails if an edit changes nothing."""
    content = entries(source)
    for name, edit in edits.items():
        changed = edit(content[name])
        assert changed != content[name], name
        content[name] = changed
    return write(target, content)


def with_json(change: Callable[[Any], None]) -> Edit:
    """An edit of the data in a JSON entry."""

    def edit(content: bytes) -> bytes:
        data = json.loads(content)
        change(data)
        return json.dumps(data).encode()

    return edit


def saved(value: object) -> bytes:
    """A file written by torch.save."""
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()
