"""Weights that may be needed again, on disk instead of in memory.

A file of a large model is judged by loading it, which takes as much memory again as the weights that it was written
from, and for a moment half as much more. Those weights are read again only if the file is wrong.
"""

from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import torch
from torch import Tensor, nn

from fusekit.model.large import free_copies, is_large
from fusekit.model.lent import LARGE


def spill(weights: Iterable[Tensor], folder: Path) -> None:
    """Move the memory of large weights to files in `folder`, if together they are large. The weights must be ours
    alone, and all that lie over the same memory must be among them.

    They remain what they are: each file is mapped into memory, and only what is used of it is read. Memory for which
    the disk has no room stays where it is.
    """
    over: dict[int, list[Tensor]] = {}
    for weight in weights:
        if type(weight) in (Tensor, nn.Parameter) and weight.layout is torch.strided and weight.device.type == "cpu":
            over.setdefault(weight.untyped_storage().data_ptr(), []).append(weight)
    groups = [group for group in over.values() if group[0].untyped_storage().nbytes() >= LARGE]
    size = sum(group[0].untyped_storage().nbytes() for group in groups)
    if not is_large(size):
        return
    for number, group in enumerate(groups):
        with suppress(OSError, RuntimeError):
            mapped = _mapped(group[0].untyped_storage(), folder / f"weight-{number}")
            for weight in group:
                place = weight.storage_offset(), weight.size(), weight.stride()
                weight.data = torch.empty(0, dtype=weight.dtype).set_(mapped, *place)
    groups.clear()
    over.clear()
    free_copies(size)


def _mapped(storage: torch.UntypedStorage, file: Path) -> torch.UntypedStorage:
    """The same bytes as a private map of a new file. Raises OSError if it cannot be written."""
    try:
        torch.empty(0, dtype=torch.uint8).set_(storage).numpy().tofile(file)
        mapped = torch.from_file(str(file), shared=False, size=storage.nbytes(), dtype=torch.uint8)
        return mapped.untyped_storage()
    finally:
        with suppress(OSError):  # a mapped file lives on without its name, except on Windows
            file.unlink()
