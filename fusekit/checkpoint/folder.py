"""The files with weights in a folder, as `save_pretrained` of Hugging Face and `save_model` of Accelerate write them.

A folder holds one file of weights, or several (shards) and an index, which maps each tensor's name to its file. The
index comes with the weights and is not trusted: it may name files of its own folder only.
"""

import json
from pathlib import Path

from fusekit.errors import CheckpointError

# In order of preference: files that cannot contain code come first.
NAMES = (
    *("model.safetensors", "diffusion_pytorch_model.safetensors"),
    *("pytorch_model.bin", "diffusion_pytorch_model.bin"),
)
_LARGEST_INDEX = 1 << 26  # bytes


def weight_files(folder: Path) -> list[Path]:
    """The files that hold the weights of a folder. Raises CheckpointError if there are none."""
    for name in NAMES:
        if (folder / name).is_file():
            return [folder / name]
        if (index := folder / f"{name}.index.json").is_file():
            return _shards(index)
    held = sorted(path.name for path in folder.iterdir())
    listing = ", ".join(held[:3]) + (" ..." if len(held) > 3 else "")
    raise CheckpointError(
        f"{folder} is a folder that holds {listing or 'nothing'}; expected {NAMES[0]}, {NAMES[2]} or one of their "
        "indices in it, as save_pretrained writes them, or name the file itself"
    )


def _shards(index: Path) -> list[Path]:
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
    return [index.parent / name for name in names]
