"""A data set on disk as samples: a folder of images or arrays, a .npy or .npz file, a Parquet table.

Samples are read when they are asked for, a batch at a time, so memory does not grow with the number of samples. What
they become is decided by the ports of the file that takes them: names, element types, sizes.
"""

import math
import zipfile
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy
import torch
from torch import Tensor

from fusekit.errors import FusekitError, reason_of
from fusekit.runtimes.file import Port
from fusekit.sampling.columns import Cells, Member, Table

IMAGES = (".png", ".jpg", ".jpeg")
_CHANNELS = {1: "L", 3: "RGB", 4: "RGBA"}  # of an image, and what Pillow calls it


class DataSet(ABC):
    """Samples in an order, each an array for every port, without the axis of the batch.

    `path`: where they are. `ports`: what takes them, in order. `notes`: messages for the user.
    """

    def __init__(self, path: Path, ports: Sequence[Port]) -> None:
        self.path, self.ports = path, tuple(ports)
        self.notes: list[str] = []

    @abstractmethod
    def __len__(self) -> int:
        """The number of samples."""

    @abstractmethod
    def arrays(self, start: int, stop: int) -> list[list[Any]]:
        """For each of the samples from `start` to `stop`, its arrays in the order of the ports."""

    def name(self, number: int) -> str:
        """What the sample is called."""
        return str(number)

    def samples(self, start: int, stop: int) -> list[dict[str, Tensor]]:
        """The samples from `start` to `stop` as tensors of a batch of one, by the names of the ports. Raises
        FusekitError for a sample that does not fit."""
        found = []
        for number, arrays in enumerate(self.arrays(start, stop), start):
            told = f"{self.path}, sample {self.name(number)}"
            pairs = zip(self.ports, arrays, strict=True)
            found.append({port.name: _fitted(array, port, told) for port, array in pairs})
        return found


def open_data_set(path: str | Path, ports: Sequence[Port]) -> DataSet:
    """The data set at `path`, for these `ports`. Raises FusekitError if it is none, is empty, or does not fit them."""
    path = Path(path)
    if not path.exists():
        raise FusekitError(f"{path}: no such file or folder; expected a data set")
    if not ports:
        raise FusekitError("the model takes no inputs, so there is nothing to feed it with")
    found: DataSet
    if path.is_dir():
        found = _of_folder(path, ports)
    elif path.suffix in _KINDS:
        found = _KINDS[path.suffix](path, ports)
    else:
        known = ", ".join(_KINDS)
        raise FusekitError(f"{path} is no data set that can be read; expected a folder, or a file ending in {known}")
    if not len(found):
        raise FusekitError(f"{path}: there are no samples in it")
    return found


def _of_folder(path: Path, ports: Sequence[Port]) -> DataSet:
    files = sorted(file for file in path.rglob("*") if file.is_file() and not file.name.startswith("."))
    kinds = {
        "images": [f for f in files if f.suffix.lower() in IMAGES],
        "arrays": [f for f in files if f.suffix == ".npy"],
    }
    there = [kind for kind, found in kinds.items() if found]
    if len(there) != 1:
        what = "both images and .npy files" if there else "neither .png or .jpg images nor .npy files"
        raise FusekitError(f"{path}: there are {what} in it; expected a folder of one kind")
    if len(ports) != 1:
        names = ", ".join(port.name for port in ports)
        raise FusekitError(
            f"{path}: a folder holds one array for each sample, the model takes ({names}); use a .npz file"
        )
    return (_Images if there == ["images"] else _Arrays)(path, ports, kinds[there[0]])


class _Folder(DataSet):
    """A file for each sample."""

    def __init__(self, path: Path, ports: Sequence[Port], files: list[Path]) -> None:
        super().__init__(path, ports)
        self.files = files

    def __len__(self) -> int:
        return len(self.files)

    def name(self, number: int) -> str:
        return self.files[number].relative_to(self.path).as_posix()

    def arrays(self, start: int, stop: int) -> list[list[Any]]:
        return [[self.read(file)] for file in self.files[start:stop]]

    def read(self, file: Path) -> Any:
        raise NotImplementedError


class _Arrays(_Folder):
    def read(self, file: Path) -> Any:
        array = _loaded(file)
        rank = len(self.ports[0].shape)
        return array[0] if array.ndim == rank and array.shape[:1] == (1,) else array


class _Images(_Folder):
    """Images in the layout, element type and size that the port declares; floats are scaled to 0..1."""

    def __init__(self, path: Path, ports: Sequence[Port], files: list[Path]) -> None:
        super().__init__(path, ports, files)
        try:
            self.pillow: Any = import_module("PIL.Image")
        except ImportError as error:
            raise FusekitError(f"{path}: reading images needs the package Pillow: pip install pillow") from error
        (port,) = ports
        shape = port.shape
        axis = next((a for a in (1, 3) if len(shape) == 4 and shape[a] in _CHANNELS), None)
        if axis is None:
            raise FusekitError(
                f"{path}: the input {port.name!r} of shape {_spelled(shape)} takes no images; "
                "expected 1, 3 or 4 channels on axis 1 or 3"
            )
        self.axis, self.mode = axis, _CHANNELS[shape[axis]]  # type: ignore[index]
        self.height, self.width = (shape[2], shape[3]) if axis == 1 else (shape[1], shape[2])
        self.notes.append(f"images as {'NCHW' if axis == 1 else 'NHWC'}, {self.mode}{self._scaled()}")

    def _scaled(self) -> str:
        return "" if self._is_bytes else ", scaled to 0..1"

    @property
    def _is_bytes(self) -> bool:
        return self.ports[0].dtype is torch.uint8

    def read(self, file: Path) -> Any:
        try:
            with self.pillow.open(file) as opened:
                image = opened.convert(self.mode)
                height = self.height if isinstance(self.height, int) else image.height
                width = self.width if isinstance(self.width, int) else image.width
                if (width, height) != image.size:
                    image = image.resize((width, height), self.pillow.Resampling.BILINEAR)
                    note = f"images of other sizes were resized to {width}x{height}"
                    self.notes += [note] * (note not in self.notes)
                array = numpy.asarray(image)
        except Exception as error:  # a damaged file: Pillow raises whatever its decoders raise
            raise FusekitError(f"{file} cannot be read as an image: {reason_of(error)}") from error
        array = array if array.ndim == 3 else array[:, :, None]
        array = array if self.axis == 3 else array.transpose(2, 0, 1)
        return array if self._is_bytes else array.astype("float32") / numpy.float32(255)


class _Columns(DataSet):
    """Arrays whose first axis counts the samples, one for each port."""

    def __init__(self, path: Path, ports: Sequence[Port]) -> None:
        super().__init__(path, ports)
        columns = self.opened()
        chosen = [_chosen(path, port, ports, list(columns)) for port in ports]
        self.columns = [columns[name] for name in chosen]
        lengths = {name: len(columns[name]) for name in chosen}
        if len(set(lengths.values())) > 1:
            told = ", ".join(f"{name} {count}" for name, count in lengths.items())
            raise FusekitError(f"{path}: its arrays have unequal numbers of samples ({told})")

    def opened(self) -> Mapping[str, Any]:
        """The columns by name; "": without one."""
        raise NotImplementedError

    def __len__(self) -> int:
        return len(self.columns[0])

    def arrays(self, start: int, stop: int) -> list[list[Any]]:
        return [list(rows) for rows in zip(*(column[start:stop] for column in self.columns), strict=True)]


class _Npy(_Columns):
    def opened(self) -> Mapping[str, Any]:
        array = _loaded(self.path)
        if not array.ndim:
            raise FusekitError(f"{self.path} holds a single number; expected an array with samples on its first axis")
        return {"": array}


class _Npz(_Columns):
    def opened(self) -> Mapping[str, Any]:
        try:
            archive = zipfile.ZipFile(self.path)
            names = [name for name in archive.namelist() if name.endswith(".npy")]
            return {name.removesuffix(".npy"): Member(archive, name) for name in names}
        except (OSError, ValueError, zipfile.BadZipFile) as error:
            raise FusekitError(f"{self.path} cannot be read as an .npz file: {reason_of(error)}") from error


class _Parquet(_Columns):
    def opened(self) -> Mapping[str, Any]:
        try:
            parquet: Any = import_module("pyarrow.parquet")
        except ImportError as error:
            raise FusekitError(
                f"{self.path}: Parquet needs the package pyarrow: pip install 'fusekit-fx[batch]'"
            ) from error
        try:
            table = Table(parquet.ParquetFile(self.path))
        except Exception as error:
            raise FusekitError(f"{self.path} cannot be read as Parquet: {reason_of(error)}") from error
        return {name: Cells(table, name) for name in table.file.schema_arrow.names}


_KINDS: dict[str, Any] = {".npy": _Npy, ".npz": _Npz, ".parquet": _Parquet}


def _loaded(file: Path) -> Any:
    """The array, left on disk."""
    try:
        array = numpy.load(file, mmap_mode="r", allow_pickle=False)
    except Exception as error:
        raise FusekitError(f"{file} cannot be read as an array of numbers: {reason_of(error)}") from error
    if not isinstance(array, numpy.ndarray) or array.dtype.kind not in "biufc":
        raise FusekitError(f"{file} cannot be read as an array of numbers")
    return array


def _chosen(path: Path, port: Port, ports: Sequence[Port], names: list[str]) -> str:
    """The column for a port: that of its name, or else the only one for the only port."""
    if port.name in names:
        return port.name
    if len(ports) == len(names) == 1:
        return names[0]
    there = ", ".join(names) if names != [""] else "one array without a name"
    takes = ", ".join(each.name for each in ports)
    raise FusekitError(f"{path}: there is no {port.name!r} in it, but {there or 'nothing'}; the model takes ({takes})")


def _fitted(array: Any, port: Port, told: str) -> Tensor:
    """The array of a sample as a batch of one, in the element type of the port."""
    array = numpy.asarray(array)
    if array.dtype.kind not in "biufc":
        raise FusekitError(f"{told}: it holds {array.dtype}; expected numbers")
    expected = port.shape[1:]
    sizes = [size for size in expected if isinstance(size, int)]
    if array.ndim == 1 and 1 < len(expected) == len(sizes) and array.size == math.prod(sizes):
        array = array.reshape(sizes)  # a table holds flat lists
    alike = len(expected) == array.ndim and all(
        not isinstance(size, int) or size == there for size, there in zip(expected, array.shape, strict=True)
    )
    if not alike and port.shape:
        raise FusekitError(
            f"{told}: its shape is {_spelled(array.shape)}; "
            f"expected {_spelled(expected)}, as the input {port.name!r} says"
        )
    tensor = torch.from_numpy(numpy.array(array, order="C").astype(array.dtype.newbyteorder("="), copy=False))[None]
    dtype = port.dtype
    if dtype is None or dtype == tensor.dtype:
        return tensor
    if _rank(tensor.dtype) > _rank(dtype) or (dtype is torch.bool) or _overflows(tensor, dtype):
        kind = str(tensor.dtype).removeprefix("torch.")
        raise FusekitError(f"{told}: it holds {kind}, but the input {port.name!r} takes {str(dtype)[6:]}")
    return tensor.to(dtype)


def _rank(dtype: torch.dtype) -> int:
    """0 for integers and truth values, 1 for floats, 2 for complex numbers: a cast to a lower one loses something."""
    return 2 if dtype.is_complex else int(dtype.is_floating_point)


def _overflows(tensor: Tensor, dtype: torch.dtype) -> bool:
    return _rank(dtype) == 0 and not torch.equal(tensor.to(dtype).to(tensor.dtype), tensor)


def _spelled(shape: Sequence[object]) -> str:
    return "x".join("?" if size is None else str(size) for size in shape) or "no axes"
