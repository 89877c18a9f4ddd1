"""Reads safetensors: one file, or a folder as hubs of models have it, with the weights in one file or in several."""

import json
from pathlib import Path

import safetensors
import safetensors.torch
import torch

from fusekit.checkpoint.factory import brief
from fusekit.errors import CheckpointError

_INDEX = "model.safetensors.index.json"


def is_sharded(path: Path) -> bool:
    """Whether it is a folder of safetensors that says which of them belong together, or the index in such a folder."""
    return path.name == _INDEX or (path.is_dir() and ((path / _INDEX).is_file() or len(_held(path)) == 1))


def read_shards(path: Path) -> dict[str, torch.Tensor]:
    """The weights of a folder for which `is_sharded`. Raises CheckpointError if a part is missing, or is none of the
    folder, or does not hold what the index says."""
    folder = path if path.is_dir() else path.parent
    index = folder / _INDEX
    if not index.is_file():
        return read_safetensors(_held(folder)[0])
    try:
        places = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
        parts = sorted(set(places.values()))
    except (ValueError, LookupError, TypeError, AttributeError, OSError) as error:
        raise CheckpointError(f"{index} cannot be read as an index of safetensors ({brief(error)})") from error
    found: dict[str, torch.Tensor] = {}
    for part in parts:
        if not isinstance(part, str) or Path(part).name != part or not (folder / part).is_file():
            raise CheckpointError(f"{index} names {part!r}, which is not in its folder: copy or download it again")
        found |= read_safetensors(folder / part)
    if lost := [key for key in places if key not in found]:
        raise CheckpointError(f"{index} names {lost[0]!r}, which no part holds: copy or download them again")
    return found


def read_safetensors(path: Path) -> dict[str, torch.Tensor]:
    """The tensors of one file. Raises CheckpointError if it is damaged."""
    try:
        return safetensors.torch.load_file(path)
    except (safetensors.SafetensorError, OSError, ValueError, KeyError) as error:
        raise CheckpointError(f"{path} is a damaged or truncated safetensors file ({brief(error)})") from error


def _held(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.safetensors"))
