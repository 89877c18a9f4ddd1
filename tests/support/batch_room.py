"""Small models for batches, and pools that do tasks in this process."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from fusekit.batching.batch import Batch, carry_out
from fusekit.batching.fingerprint import digest
from fusekit.batching.item import Item
from fusekit.batching.result import Result
from fusekit.batching.work import Task, work

CODE = """
import os, signal
from pathlib import Path
import torch
from torch import nn

def net(width=4, seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(3, width, 3, bias=False), nn.BatchNorm2d(width), nn.ReLU()).eval()

def bad():
    raise ValueError("no such preset")

def deadly_once(mark):
    if not Path(mark).exists():
        Path(mark).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return net()
"""
SIZES = "1x3x6x6"


@pytest.fixture
def models(tmp_path: Path) -> Path:
    """A folder with `nets.py`."""
    (tmp_path / "nets.py").write_text(CODE)
    return tmp_path


def row(name: str, factory: str = "net", **more: object) -> dict[str, object]:
    """A row of a manifest."""
    return {"name": name, "source": f"nets.py:{factory}", "inputs": SIZES, **more}


def here(tasks: list[Task]) -> Iterator[Result]:
    """A pool that does the tasks in this process, one after the other."""
    yield from map(work, tasks)


def written(task: Task) -> Result:
    """The result of a worker that writes files, and computes nothing."""
    output, page = Path(task.item.output), task.folder / task.report
    for path in (output, page):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(task.item.name)
    ended = replace(Result.waiting(task.item), status="valid", report=task.report)
    return replace(ended, key=task.key, digest=digest(output))


def done(
    rows: list[dict[str, object]], root: Path, pool: Callable[[list[Task]], Iterator[Result]] = here, **words: object
) -> Batch:
    """A batch in `root/out`, done by this pool."""
    items = [Item.of(cells, number) for number, cells in enumerate(rows, 1)]
    template = Task(items[0], root, root / "out", None, measure=False)
    return carry_out(items, template, pool)
