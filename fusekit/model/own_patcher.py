"""The patches that torch.fx makes while it traces, limited to one thread.

While torch.fx traces, it wraps `__call__` and `__getattr__` of nn.Module, and functions in the namespaces of Python
modules. These are global: a model that another thread runs meanwhile would be traced into the same graph.
"""

import builtins
from contextlib import ExitStack
from threading import get_ident
from types import TracebackType
from typing import Any

from torch import nn
from torch.fx import _symbolic_trace

from fusekit.model.per_thread import Function, PerThread

_MODULES = {name: PerThread(nn.Module, name) for name in ("__call__", "__getattr__")}


class _Here:
    """torch.fx's flag "a trace is running", which is true only in the thread that made it.

    `lasts` is set to False when the trace ends, because another trace may save this object and restore it later.
    """

    def __init__(self) -> None:
        self._thread = get_ident()
        self.lasts = True

    def __bool__(self) -> bool:
        return self.lasts and get_ident() == self._thread


class OwnPatcher(_symbolic_trace._Patcher):
    """A replacement for torch.fx's patcher. Its patches, and the flag that a trace is running, hold only for the
    tracing thread."""

    def __init__(self) -> None:
        super().__init__()
        self._made: list[tuple[PerThread, Function]] = []
        self._within = ExitStack()
        self._here = _symbolic_trace._is_fx_tracing_flag = _Here()  # type: ignore[assignment]

    def patch(self, frame_dict: dict[str, Any], name: str, new_fn: Function, deduplicate: bool = True) -> None:
        if name in frame_dict or hasattr(builtins, name):
            self._add(PerThread(frame_dict, name), new_fn)

    def patch_method(self, cls: type, name: str, new_fn: Function, deduplicate: bool = True) -> None:
        place = _MODULES.get(name) if cls is nn.Module else None
        self._add(place or PerThread(cls, name), new_fn)

    def _add(self, place: PerThread, function: Function) -> None:
        self._made.append((place, function))
        self._within.enter_context(place.changed(lambda plain: function))

    def revert_all_patches(self) -> Any:
        self._within.close()
        self._here.lasts = False
        return self._made

    def reapply_all_patches(self) -> Any:
        made, self._made = self._made, []
        self._here.lasts = True
        for place, function in made:
            self._add(place, function)
        return self._made

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.revert_all_patches()
        self._made.clear()
        self.visited.clear()
