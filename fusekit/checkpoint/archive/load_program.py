"""Loads a torch.export archive as a module.

`torch.export.load` unpickles parts of an archive, evaluates its symbolic sizes and conditions as Python code, and looks
up functions by any path. So it must not get a file that is not trusted. Instead, the archive is parsed as data; what a
strict grammar allows is written into a new archive; and torch loads that one. Everything else is refused, and the
message names it. Only with `unsafe`, torch loads the file itself.
"""

import json
import re
from pathlib import Path
from typing import Any

import torch
from torch import fx, nn
from torch.export.pt2_archive._package import load_pt2

from fusekit.checkpoint.archive.listing import Archive
from fusekit.checkpoint.archive.program import MOST_NODES
from fusekit.checkpoint.archive.program import program as grammar
from fusekit.checkpoint.archive.refused import Refused, shown
from fusekit.checkpoint.archive.scan_pickle import check_pickle
from fusekit.checkpoint.archive.strict_json import parse_json
from fusekit.checkpoint.archive.weights import Tensors, read_records, records_of
from fusekit.checkpoint.archive.write import CONSTANTS, WEIGHTS, write_archive
from fusekit.checkpoint.factory import brief
from fusekit.errors import CheckpointError

_MODEL, _EXAMPLES = "models/model.json", "data/sample_inputs/model.pt"
_WORDS = {"archive_format": b"pt2", "archive_version": b"0", "byteorder": b"little"}
# The entries that torch writes. Those without information on the network are allowed but not read.
_MAY_STAND = re.compile(
    r"models/model\.json|data/sample_inputs/model\.pt|archive_format|archive_version|byteorder|\.data/\w+|extra/.+|"
    r"data/weights/(weight_\d+|model_weights_config\.json|model\.pt)|"
    r"data/constants/(tensor_\d+|model_constants_config\.json|model\.pt)"
)
_BEFORE_2_8 = "serialized_exported_program.json"
_MAY_STAND_BEFORE_2_8 = re.compile(
    r"serialized_(exported_program\.json|(state_dict|constants|example_inputs)\.pt)|version|extra_files/.+"
)


def load_program(path: Path, unsafe: bool = False) -> nn.Module:
    """The archive's program as a module in eval mode, with the checks of its inputs. `unsafe`: let torch load the file
    itself. Raises CheckpointError if the archive is refused or damaged, or was exported in training mode."""
    try:
        module = torch.export.load(path).module() if unsafe else _module_of(path)
    except Refused as error:
        raise CheckpointError(
            f"{path}: {error}. In a torch.export archive, only what torch writes for a network of tensors is allowed, "
            "because anything else can run any code; export the program again, or pass unsafe=True (--unsafe-pickle) "
            "if you trust its source"
        ) from error
    except Exception as error:  # torch does not document which errors a damaged file raises
        raise CheckpointError(f"{path} is a torch.export archive that cannot be read ({brief(error)})") from error
    _refuse_training(path, module)
    return _as_module(module)


def _module_of(path: Path) -> fx.GraphModule:
    with path.open("rb") as file:
        archive = Archive(file)
        content = _before_2_8(archive) if _BEFORE_2_8 in archive else _since_2_8(archive)
        ours = write_archive(*content)
    module: fx.GraphModule = load_pt2(ours).exported_programs["model"].module()
    return module


def _since_2_8(archive: Archive) -> tuple[dict[str, Any], Tensors, Tensors]:
    """(program, weights, constants) of an archive of torch 2.8 or later. Since 2.9 its tensors are raw bytes."""
    _check_names(archive, _MAY_STAND)
    for name, word in _WORDS.items():
        if name in archive and archive.read(name) != word:
            raise Refused(f"{name} says {shown(archive.read(name)[:20])}; expected {word!r}")
    if _EXAMPLES in archive:
        check_pickle(archive.read(_EXAMPLES), _EXAMPLES)
    weights = _tensors(archive, WEIGHTS, "weight", "model_weights_config.json")
    constants = _tensors(archive, CONSTANTS, "tensor", "model_constants_config.json")
    used = weights.records.keys() | constants.records.keys()
    for name in archive:
        if re.fullmatch(r"data/(weights|constants)/\w+", name) and name not in used:
            raise Refused(f"nothing refers to the entry {name}")
    return _program(archive, _MODEL), weights, constants


def _before_2_8(archive: Archive) -> tuple[dict[str, Any], Tensors, Tensors]:
    """(program, weights, constants) of an archive of torch 2.5 to 2.7, whose tensors are in torch.save files."""
    _check_names(archive, _MAY_STAND_BEFORE_2_8)
    check_pickle(archive.read("serialized_example_inputs.pt"), "serialized_example_inputs.pt")
    weights, constants = (
        records_of(archive.read(name), name, folder, prefix)
        for name, folder, prefix in (
            ("serialized_state_dict.pt", WEIGHTS, "weight"),
            ("serialized_constants.pt", CONSTANTS, "tensor"),
        )
    )
    return _program(archive, _BEFORE_2_8), weights, constants


def _check_names(archive: Archive, expected: re.Pattern[str]) -> None:
    for name in archive:
        if not expected.fullmatch(name):
            raise Refused(f"torch.export writes no entry {name} for a network of tensors")


def _tensors(archive: Archive, folder: str, prefix: str, config: str) -> Tensors:
    old = f"{folder}/model.pt"
    if old in archive:
        return records_of(archive.read(old), old, folder, prefix)
    return read_records(archive, folder, config)


def _program(archive: Archive, name: str) -> dict[str, Any]:
    """The program, parsed and ready to be written. Bounds of symbols that no size uses are left out, because torch
    would warn about them."""
    program: dict[str, Any] = grammar(parse_json(archive.read(name), name), name)
    text = json.dumps(program["graph_module"]["graph"])
    if (calls := text.count('"target": ')) > MOST_NODES:
        raise Refused(f"{name} has {calls:,} calls of operators; expected at most {MOST_NODES:,}")
    symbols = set(re.findall(r"Symbol\('(\w+)'", text))
    ranges = program["range_constraints"]
    used = {key: bounds for key, bounds in ranges.items() if symbols.issuperset(re.findall(r"[a-z]+\d+", key))}
    return program | {"range_constraints": used}


def _as_module(module: fx.GraphModule) -> nn.Module:
    """The exported module in eval mode, changed to be like any other module.

    torch sets `train` and `eval` methods on the instance that raise, and hooks that check the inputs a second time (the
    first check is `_guards_fn` in the graph). A copy of the module does not have them, so they are removed here too.
    """
    for name in ("train", "eval"):
        module.__dict__.pop(name, None)
    module._forward_pre_hooks.clear()
    module._forward_pre_hooks_with_kwargs.clear()
    module._forward_hooks.clear()
    return module.eval()


def _refuse_training(path: Path, module: fx.GraphModule) -> None:
    """Raise CheckpointError for a program exported in training mode. Its dropout and batch norm are fixed in that mode,
    and `eval()` does not change them."""
    for node in module.graph.nodes:
        overload = getattr(node.target, "_schema", None)
        if node.op != "call_function" or overload is None:
            continue
        values = dict(zip((argument.name for argument in overload.arguments), node.args, strict=False)) | node.kwargs
        dropped = overload.name == "aten::dropout" and values.get("train") is True and values.get("p") != 0
        trained = overload.name == "aten::batch_norm" and values.get("training") is True and values.get("running_mean")
        if dropped or trained:
            raise CheckpointError(
                f"{path} was exported in training mode (the {overload.name.removeprefix('aten::')} {node.name!r} is "
                "active); export it again after model.eval()"
            )
