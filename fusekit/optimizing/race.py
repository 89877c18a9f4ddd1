"""Measures realizations of one operator on the target runtime, and remembers the results.

Each candidate becomes the module or ONNX file that the optimized model would contain. The candidates run in turn, on
input of the real shape, with the number of threads that the user has set. When the budget is spent, no further
measurement is started.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import torch
from torch import fx, nn

from fusekit.algebra import Map, Shape
from fusekit.errors import FusekitError
from fusekit.files import scratch
from fusekit.ir import Facts, Graph, Known, note
from fusekit.ir.emit import emit
from fusekit.ir.write import write
from fusekit.model import Inputs, computing_threads, quiet
from fusekit.model.alone import alone
from fusekit.onnx_export import export_plain
from fusekit.runtimes.measurements import Measurements
from fusekit.runtimes.protocol import Runtime
from fusekit.runtimes.timing import Call, interleaved
from fusekit.version import __version__

ROUNDS = 9
SECONDS = 0.6  # for all rounds of one contest between realizations
WHOLE_SECONDS = 1.5  # for all rounds of one comparison of whole models
BUDGET = 60.0  # seconds for all contests of one model

Said = Callable[[str, int, int], None]


class Clock:
    """Times maps and whole modules on one runtime.

    `budget`: seconds for all measurements that are not `known` already.
    `progress`: called as (what, contests so far, seconds spent).
    `remembers_only`: nothing is timed, whole programs neither; only times that are `known` already are used.
    """

    def __init__(
        self,
        runtime: Runtime,
        budget: float = BUDGET,
        known: Measurements | None = None,
        progress: Said | None = None,
        remembers_only: bool = False,
    ) -> None:
        self.runtime, self.budget, self.progress, self.remembers_only = runtime, budget, progress, remembers_only
        self.known = known or Measurements()
        self.threads = torch.get_num_threads()
        self.spent = 0.0
        self.refused = 0  # contests for which there was no time left
        self._contests = 0

    def times(self, maps: Sequence[Map], shape: Shape, dtype: torch.dtype) -> list[float] | None:
        """Milliseconds of each map on an input of this shape; None if the budget is spent or a map cannot run."""
        labels = [m.describe() for m in maps]
        key = {"maps": labels, "shape": list(shape), "dtype": str(dtype)}
        modules = {label: partial(module_of, m, dtype) for label, m in zip(labels, maps, strict=True)}
        device = next((c.device for m in maps for c in m.constants()), torch.device("cpu"))
        found = self.race(key, modules, Inputs((torch.ones(shape, dtype=dtype, device=device),)))
        return None if found is None else [found[label] for label in labels]

    def race(
        self, key: Mapping[str, object], modules: Mapping[str, Callable[[], nn.Module]], inputs: Inputs
    ) -> dict[str, float] | None:
        """Milliseconds of each module by its label, measured now or remembered under this key. None if the budget is
        spent or a module cannot run."""
        key = {**key, **self._place(inputs)}
        found = self.known.get(key)
        if found is not None and found.keys() == modules.keys():
            return found
        if self.remembers_only or self.spent >= self.budget:
            self.refused += 1
            return None
        started = time.perf_counter()
        self._contests += 1
        if self.progress is not None:
            self.progress("measuring", self._contests, int(self.spent))
        try:
            with self._as_configured():
                found = self._measured(modules, inputs)
        except (FusekitError, RuntimeError, ValueError, OSError):
            return None  # a candidate cannot run here, so nothing is decided by time
        finally:
            self.spent += time.perf_counter() - started
        self.known.put(key, found)
        return found

    def compare(self, before: Call, after: Call, *, loading: bool = False) -> tuple[float, float]:
        """Milliseconds of two whole programs, run in turn. If the second is slower, both are measured again, for
        longer, because another process may have disturbed the first measurement. `loading`: each is loaded anew when it
        is called after the other one (`runtimes/turns.py`)."""
        if self.progress is not None:
            self.progress("comparing", 0, 1)
        with self._as_configured():
            calls = {"before": before, "after": after}
            timed = partial(interleaved, calls, warm=loading, turning=loading)
            found = timed(ROUNDS, WHOLE_SECONDS)
            if found["after"].median > found["before"].median:
                again = timed(2 * ROUNDS, 2 * WHOLE_SECONDS)
                ratios = [each["after"].median / each["before"].median for each in (found, again)]
                found = again if ratios[1] < ratios[0] else found
        return found["before"].median, found["after"].median

    def _measured(self, modules: Mapping[str, Callable[[], nn.Module]], inputs: Inputs) -> dict[str, float]:
        with scratch() as room:
            calls = {
                label: self._call(make(), inputs, room / f"{number}.onnx")
                for number, (label, make) in enumerate(modules.items())
            }
            times = interleaved(calls, ROUNDS, SECONDS, least=2)
            return {label: each.median for label, each in times.items()}

    def _call(self, module: nn.Module, inputs: Inputs, path: Path) -> Call:
        return self.runtime.build(module, inputs, partial(export_plain, module, path, inputs, dynamic=False))

    def _place(self, inputs: Inputs) -> dict[str, object]:
        """What times depend on besides the operators: versions, runtime, device, threads."""
        device = next((tensor.device for tensor in inputs.tensors()), torch.device("cpu"))
        return {"fusekit": __version__, "runtime": self.runtime.identity(device), "threads": self.threads}

    @contextmanager
    def _as_configured(self) -> Iterator[None]:
        """Measure with the user's number of threads (the driver's own checks run on one), and alone: no other thread
        traces or measures meanwhile."""
        with alone(), quiet(), computing_threads(self.threads):
            yield


def module_of(value: Map, dtype: torch.dtype) -> nn.Module:
    """The module that the optimized model would contain for this map."""
    graph = Graph(fx.Graph(), name="Candidate")
    x = graph.fx.placeholder("x")
    note(x, Known(facts=Facts(None, dtype)))
    nodes = write(graph, value, [x], ["layer"])
    graph.fx.output(nodes[-1] if nodes else x)
    return emit(graph).eval().requires_grad_(False).to(dtype)  # constants of proposals are in float64 until committed
