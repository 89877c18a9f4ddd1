"""The files with weights in a folder, as `save_pretrained` of Hugging Face and `save_model` of Accelerate write them.

A folder holds one file of weights, or several (shards) and an index, which maps each tensor's name to its file. The
index comes with the weights and is not trusted: it may name files of its own folder only.
"""

import json
from collections.abc import Sequence
from pathlib import Path

from fusekit.errors import CheckpointError

# In order of preference: files that cannot contain code come first.
NAMES = (
    *("model.safetensors", "diffusion_pytorch_model.safetensors"),
    *("pytorch_model.bin", "diffusion_pytorch_model.bin"),
)
_INDEX = ".index.json"
_LARGEST_INDEX = 1 << 26  # bytes


def holds_weights(path: Path) -> bool:
    """Whether it is a folder of which it is clear where its weights are, or the index in such a folder."""
    return (path.is_file() and path.name in _indices()) or (path.is_dir() and _chosen(path) is not None)


def parts_of(path: Path) -> tuple[list[Path], Sequence[str]]:
    """The files with the weights of a folder for which `holds_weights`, and the names of the tensors in them as far as
    an index says so. Raises CheckpointError if the index is damaged, or names a file that is not there."""
    chosen = _chosen(path) if path.is_dir() else path
    assert chosen is not None
    return _of_index(chosen) if chosen.name in _indices() else ([chosen], ())


def _indices() -> list[str]:
    return [name + _INDEX for name in NAMES]


def _chosen(folder: Path) -> Path | None:
    """The file of weights, or the index."""
    for name in NAMES:
        for file in (folder / name, folder / f"{name}{_INDEX}"):
            if file.is_file():
                return file
    held = list(folder.glob("*.safetensors"))
    return held[0] if len(held) == 1 else None


def _of_index(index: Path) -> tuple[list[Path], Sequence[str]]:
    try:
        if index.stat().st_size > _LARGEST_INDEX:
            raise ValueError("it is too large")
        places = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
        names = sorted(set(places.values()))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise CheckpointError(
            f"{index} is no index of weights: expected a JSON object whose weight_map maps names to files "
            f"({type(error).__name__}: {error})"
        ) from error
    if not names:
        raise CheckpointError(f"{index} names no files; expected the shards of the weights")
    for name in names:
        if not isinstance(name, str) or not name or name != Path(name).name or "\\" in name:
            raise CheckpointError(f"{index} names the file {name!r}; expected the name of a file beside the index")
        if not (index.parent / name).is_file():
            raise CheckpointError(f"{index} names the file {name}, which is not there: copy or download it again")
    return [index.parent / name for name in names], list(places)
