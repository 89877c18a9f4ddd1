"""Writes a new archive in memory, from the parsed and checked content of the original, in the layout of torch 2.13.

torch reads this archive and never the original file.
"""

import io
import json
import zipfile
from collections.abc import Mapping
from typing import Any

import torch

from fusekit.checkpoint.archive.treespec import example_of
from fusekit.checkpoint.archive.weights import Tensors

_ROOT = "archive"
WEIGHTS, CONSTANTS = "data/weights", "data/constants"


def write_archive(program: Mapping[str, Any], weights: Tensors, constants: Tensors) -> io.BytesIO:
    """The archive of the program and its tensors.

    The example inputs are zeros in the nesting of the arguments. torch only takes the names of the arguments from them,
    for its checks of sizes. So no pickle from the file is needed.
    """
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, text in _texts(program, weights, constants).items():
            archive.writestr(f"{_ROOT}/{name}", text)
        for tensors in (weights, constants):
            for name, pieces in tensors.records.items():
                with archive.open(f"{_ROOT}/{name}", "w", force_zip64=True) as entry:
                    for piece in pieces():
                        entry.write(piece)
    buffer.seek(0)
    return buffer


def _texts(program: Mapping[str, Any], weights: Tensors, constants: Tensors) -> dict[str, str | bytes]:
    return {
        "archive_format": "pt2",
        "archive_version": "0",
        "byteorder": "little",
        ".data/version": "6\n",  # the version of the zip layout
        "models/model.json": json.dumps(program),
        f"{WEIGHTS}/model_weights_config.json": json.dumps(weights.config),
        f"{CONSTANTS}/model_constants_config.json": json.dumps(constants.config),
        "data/sample_inputs/model.pt": _examples(program),
    }


def _examples(program: Mapping[str, Any]) -> bytes:
    calls = program["graph_module"]["module_call_graph"]
    signature = next((call.get("signature") for call in calls if call["fqn"] == ""), None)
    if signature is None:
        return b""
    buffer = io.BytesIO()
    torch.save(example_of(signature["in_spec"]), buffer)
    return buffer.getvalue()
