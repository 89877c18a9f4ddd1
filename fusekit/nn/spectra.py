"""A cache for the spectra of a weight that does not change: computed once in float64, kept in the signals' dtype, never
saved.

An entry is valid for one weight at one version of its values. A write in place and loading raise the version. A move, a
cast or another tensor change the storage. An optimizer's step discards all entries, because fused optimizers do not
raise the version. Writes through `weight.data` do none of this, and torch cannot see them, so call `clear()` after
them.
"""

import itertools
import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.optim.optimizer import register_optimizer_step_post_hook

from fusekit.algebra.transforms.spectral_conv import Realization

_NUMBERS = itertools.count(1)
_KNOWN: "weakref.WeakValueDictionary[int, Spectra]" = weakref.WeakValueDictionary()
_STEPS = [0]  # steps of all optimizers, since the start
_PLAIN = (Tensor, torch.nn.Parameter)
COMPLEX = {torch.float32: torch.complex64, torch.float64: torch.complex128}


def _count_step(*_: Any) -> None:
    _STEPS[0] += 1


register_optimizer_step_post_hook(_count_step)


def wide_spectrum(realization: Realization, kernel: Tensor, dtype: torch.dtype) -> Tensor:
    """The spectrum computed in double precision, rounded once to the complex form of `dtype`."""
    wide = kernel.to(torch.complex128 if kernel.is_complex() else torch.float64)
    return realization.spectrum(wide).to(COMPLEX.get(dtype, dtype))


class Spectra:
    """The spectra of one layer's weight, one for each realization that uses it, the least recently used first.

    `limit`: bytes kept at most. Copies and pickles are empty. Several threads may use one object.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.number = next(_NUMBERS)  # compiled code cannot hold objects; it finds this one by its number
        self._entries: OrderedDict[Any, Tensor] = OrderedDict()
        self._source: tuple[Tensor, int, int] | None = None
        self._lock = threading.Lock()
        _KNOWN[self.number] = self

    def __reduce__(self) -> Any:
        return Spectra, (self.limit,)

    @property
    def nbytes(self) -> int:
        """Bytes kept now."""
        return sum(entry.nbytes for entry in list(self._entries.values()))

    def clear(self) -> None:
        """Discard all spectra; the next call computes its spectrum again."""
        with self._lock:
            self._entries.clear()
            self._source = None

    def of(self, realization: Realization, weight: Tensor, kernel: Callable[[], Tensor], dtype: torch.dtype) -> Tensor:
        """The spectrum of `kernel()`, a view of `weight`, for signals of `dtype`. It is computed if it is not kept."""
        if (
            type(weight) not in _PLAIN
            or weight.is_inference()
            or torch._C._functorch.is_functorch_wrapped_tensor(weight)
        ):
            return wide_spectrum(realization, kernel(), dtype)
        key = (realization.key, dtype)
        with self._lock:
            if not self._is_of(weight):
                self._entries.clear()
                self._source = (weight.detach(), weight._version, _STEPS[0])  # alive: its address stays its own
            found = self._entries.get(key)
            if found is not None:
                self._entries.move_to_end(key)
                return found
            version, steps = weight._version, _STEPS[0]
        with torch.inference_mode(False), torch.no_grad():
            spectrum = wide_spectrum(realization, kernel().detach(), dtype)
        if type(spectrum) is Tensor and spectrum.dtype == COMPLEX.get(dtype, dtype) and spectrum.nbytes <= self.limit:
            with self._lock:
                if self._is_of(weight) and weight._version == version and _STEPS[0] == steps:
                    self._entries[key] = spectrum
                    while sum(entry.nbytes for entry in self._entries.values()) > self.limit:
                        self._entries.popitem(last=False)
        return spectrum

    def _is_of(self, weight: Tensor) -> bool:
        if self._source is None:
            return False
        known, version, steps = self._source
        same = known.data_ptr() == weight.data_ptr() and known.dtype == weight.dtype and known.shape == weight.shape
        return same and known.stride() == weight.stride() and weight._version == version and steps == _STEPS[0]


def spectra_of(number: int) -> Spectra | None:
    """The object with this number; None if it no longer exists."""
    return _KNOWN.get(number)
