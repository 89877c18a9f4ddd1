"""Reads the tensors of an archive: records of raw bytes, and sizes and strides that are checked to stay within them.

Nothing is unpickled here. Archives of torch before 2.9 have their tensors in torch.save files; from these, only tensors
are read (`scan_pickle.py`), and they are stored as records like the others.
"""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch

from fusekit.checkpoint.archive.grammar import boolean, integer, map_of, matching, record, union
from fusekit.checkpoint.archive.listing import MOST_UNPACKED, Archive
from fusekit.checkpoint.archive.program import STRIDED, path, tensor_meta
from fusekit.checkpoint.archive.refused import Refused, shown
from fusekit.checkpoint.archive.scan_pickle import read_tensors
from fusekit.checkpoint.archive.strict_json import parse_json

# torch's numbers for dtypes in archives.
SCALARS: dict[int, torch.dtype] = {
    1: torch.uint8,
    2: torch.int8,
    3: torch.int16,
    4: torch.int32,
    5: torch.int64,
    6: torch.float16,
    7: torch.float32,
    8: torch.float64,
    13: torch.bfloat16,
    9: torch.complex32,
    10: torch.complex64,
    11: torch.complex128,
    12: torch.bool,
    28: torch.uint16,
    34: torch.uint32,
    35: torch.uint64,
    29: torch.float8_e4m3fn,
    30: torch.float8_e5m2,
    31: torch.float8_e4m3fnuz,
    32: torch.float8_e5m2fnuz,
    33: torch.float8_e8m0fnu,
}
_NUMBERS = {dtype: scalar for scalar, dtype in SCALARS.items()}


def _raw(value: Any, where: str) -> bool:
    """False, and nothing else: torch unpickles a record for any other value, even "no"."""
    if value is not False:
        raise Refused(f"{where} is {shown(value)}: it names pickled tensors; expected false")
    return False


_size = union({"as_int": integer(0)})
_payload = record(
    {
        "path_name": matching(r"(weight|tensor)_\d{1,9}", "weight_0, tensor_0 and so on"),
        "is_param": boolean,
        "use_pickle": _raw,
        "tensor_meta": tensor_meta(_size),
    }
)
_config = record({"config": map_of(path, _payload)})

Pieces = Callable[[], Iterable[bytes]]


@dataclass(frozen=True)
class Tensors:
    """`config`: the names of the tensors and their layouts in the records, as an archive stores them. `records`: the
    content of each record, in pieces."""

    config: Mapping[str, Any]
    records: dict[str, Pieces] = field(default_factory=dict)


def read_records(archive: Archive, folder: str, config: str) -> Tensors:
    """The tensors that the entry `config` describes. Raises Refused if one of them does not lie within its record."""
    name = f"{folder}/{config}"
    content = _config(parse_json(archive.read(name), name), name)
    kinds: dict[str, int] = {}
    spread = 0
    for key, payload in content["config"].items():
        record_name, meta = f"{folder}/{payload['path_name']}", payload["tensor_meta"]
        spread += _check_layout(meta, archive.length(record_name), f"{name}: {key}")
        if kinds.setdefault(record_name, meta["dtype"]) != meta["dtype"]:
            raise Refused(f"{name}: {key} reads {record_name} with a second dtype")
    if spread > (most := max(2 * archive.size, MOST_UNPACKED)):
        raise Refused(f"{name}: the tensors have {spread:,} bytes in total; expected at most {most:,}")
    return Tensors(content, {record_name: partial(archive.chunks, record_name) for record_name in kinds})


def records_of(content: bytes, name: str, folder: str, prefix: str) -> Tensors:
    """The tensors of a torch.save file as records. Tensors that share a storage share a record."""
    records: dict[str, Pieces] = {}
    names: dict[int, str] = {}
    config: dict[str, Any] = {}
    for key, tensor in read_tensors(content, name).items():
        storage = tensor.untyped_storage()
        same = storage.data_ptr() or -len(config) - 1  # empty storages have no address and share nothing
        record_name = names.setdefault(same, f"{prefix}_{len(names)}")
        records[f"{folder}/{record_name}"] = partial(_bytes_of, tensor)
        config[path(key, name)] = {
            "path_name": record_name,
            "is_param": isinstance(tensor, torch.nn.Parameter),
            "use_pickle": False,
            "tensor_meta": _meta_of(tensor),
        }
    return Tensors({"config": config}, records)


def _check_layout(meta: Mapping[str, Any], length: int, where: str) -> int:
    """The number of bytes of the tensor's entries. Raises Refused if it reaches beyond its record of `length` bytes."""
    sizes: list[int]
    strides: list[int]
    sizes, strides = ([size["as_int"] for size in meta[key]] for key in ("sizes", "strides"))
    width = SCALARS[meta["dtype"]].itemsize
    if len(sizes) != len(strides):
        raise Refused(f"{where} has {len(sizes)} sizes and {len(strides)} strides")
    if length % width:
        raise Refused(f"{where} has entries of {width} bytes, but its record has {length:,} bytes")
    if not all(sizes):
        return 0
    reach: int = meta["storage_offset"]["as_int"] + 1
    reach += sum((size - 1) * stride for size, stride in zip(sizes, strides, strict=True))
    if reach * width > length:
        raise Refused(f"{where} reaches to byte {reach * width:,}, but its record has {length:,}")
    return math.prod(sizes) * width


def _bytes_of(tensor: torch.Tensor) -> list[bytes]:
    storage = tensor.untyped_storage()
    return [torch.empty(0, dtype=torch.uint8).set_(storage).numpy().tobytes()] if len(storage) else []


def _meta_of(tensor: torch.Tensor) -> dict[str, Any]:
    return {
        "dtype": _NUMBERS[tensor.dtype],
        "sizes": [{"as_int": size} for size in tensor.shape],
        "requires_grad": tensor.requires_grad,
        "device": {"type": "cpu", "index": None},
        "strides": [{"as_int": stride} for stride in tensor.stride()],
        "storage_offset": {"as_int": tensor.storage_offset()},
        "layout": STRIDED,
    }
