"""Checks pickles inside an archive without running them: they may only build tensors."""

import io
import pickletools
from collections.abc import Mapping

import torch

from fusekit.checkpoint.archive.listing import Archive
from fusekit.checkpoint.archive.refused import Refused, shown

MOST_PICKLE = 16 << 20  # bytes of a pickle without the numbers of its tensors
_TENSORS = {
    "collections OrderedDict",
    *(f"torch._utils {name}" for name in ("_rebuild_tensor_v2", "_rebuild_parameter")),
    *(f"torch {name}" for name in ("Size", "Tensor", "device", "UntypedStorage")),
    "torch.storage UntypedStorage",
    *("torch._tensor _rebuild_from_type_v2", "torch.nn.parameter Parameter", "__builtin__ set"),  # marked free sizes
}
_REAL = ("Byte", "Char", "Short", "Int", "Long", "Half", "Float", "Double", "BFloat16")
_KINDS = (*_REAL, "ComplexFloat", "ComplexDouble", "Bool")
_STORAGES = {f"torch {kind}Storage" for kind in _KINDS}


def check_pickle(content: bytes, name: str) -> None:
    """Raises Refused unless the torch.save file `content` only calls functions that build tensors. Runs none of it."""
    if not content:
        return
    try:
        inner = Archive(io.BytesIO(content))
        pickle = next((entry for entry in inner if entry == "data.pkl"), None)
        if pickle is None or inner.length(pickle) > MOST_PICKLE:
            raise Refused(f"expected a torch.save file with a pickle of at most {MOST_PICKLE:,} bytes")
        for opcode, argument, _ in pickletools.genops(inner.read(pickle)):
            if opcode.name == "GLOBAL" and argument not in _TENSORS | _STORAGES:
                raise Refused(f"it calls {shown(argument)}")
            if opcode.name in ("STACK_GLOBAL", "INST", "OBJ", "NEWOBJ", "NEWOBJ_EX", "EXT1", "EXT2", "EXT4"):
                raise Refused(f"it makes objects by {opcode.name}")
    except (Refused, ValueError, IndexError, EOFError, UnicodeError) as error:
        raise Refused(f"{name} holds more than tensors ({error})") from error


def read_tensors(content: bytes, name: str) -> Mapping[str, torch.Tensor]:
    """The dict of tensors in a torch.save file, on the CPU. Raises Refused if it holds anything else."""
    check_pickle(content, name)
    if not content:
        return {}
    try:
        found = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as error:  # the zip reader, the unpickler and the storages raise errors of many types
        raise Refused(f"{name} is damaged, or holds more than tensors") from error
    if not isinstance(found, Mapping) or not all(_is_plain(value) for value in found.values()):
        raise Refused(f"{name} holds {type(found).__name__}; expected a dict from names to plain tensors")
    return found


def _is_plain(value: object) -> bool:
    return type(value) in (torch.Tensor, torch.nn.Parameter) and getattr(value, "layout", None) is torch.strided
