"""Workers that are those of a Dask cluster: `distributed` sends the tasks, and begins again what a dead worker had.

How often the item of a worker that dies is begun again is a setting of the scheduler
(`distributed.scheduler.allowed-failures`, 3 by default). If the scheduler itself is lost and comes back, what it had is
sent to it again.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any
from uuid import uuid4

from fusekit.batching.cores import usable
from fusekit.batching.job import EndedT, Job, JobT
from fusekit.batching.result import DIED, FAILED
from fusekit.errors import FusekitError, reason_of

_MISSING = "a Dask cluster needs the packages dask and distributed: pip install 'fusekit-fx[dask]'"


@contextmanager
def connected(address: str, timeout: float = 30.0) -> Iterator[Any]:
    """A context manager: a client of the scheduler at this address. Raises FusekitError if there is none within
    `timeout` seconds."""
    distributed = _distributed()
    try:
        client = distributed.Client(address, timeout=timeout, set_as_default=False)
    except (OSError, ValueError, TypeError) as error:
        raise FusekitError(f"there is no Dask scheduler at {address}: {reason_of(error)}") from error
    with client:
        yield client


def on_cluster(
    tasks: Iterable[JobT], client: Any, tries: int, doing: Callable[[JobT, int | None], EndedT]
) -> Iterator[EndedT]:
    """The results of the tasks as they end, computed by the workers of a `distributed.Client`.

    A task that is lost with its scheduler is sent again, at most `tries` times in all. `doing`: what is done with a
    task and the number of threads that its worker was given. When the iterator is closed, what is left is cancelled.
    Raises FusekitError if the scheduler does not come back.
    """
    distributed = _distributed()
    run = uuid4().hex[:8]  # a key of its own, since a cluster keeps results by their keys

    def sent(task: JobT, number: int) -> Any:
        key = f"fusekit-{task.name}-{run}-{number}"
        try:
            return client.submit(_in_worker, doing, task, key=key, pure=False)
        except Exception as error:
            raise FusekitError(f"the connection to the Dask scheduler is lost: {reason_of(error)}") from error

    running = {sent(task, 1): (task, 1) for task in tasks}
    ended = distributed.as_completed(list(running), loop=client.loop)
    try:
        for future in ended:
            task, number = running.pop(future)
            if future.status in ("cancelled", "lost"):
                if client.status == "closed":
                    raise FusekitError("the connection to the Dask scheduler is lost, and it has not come back")
                if number < tries:
                    again = sent(task, number + 1)
                    running[again] = task, number + 1
                    ended.add(again)
                else:
                    yield task.ended(DIED, f"it was lost with the scheduler, {number} times", number)
            elif future.status == "finished":
                yield future.result().tried(number)
            else:
                yield _failed(task, future.exception(), number, distributed)
            future.release()
    finally:
        if running and client.status == "running":
            client.cancel(list(running))


def crowded(client: Any, threads: int | None) -> str:
    """Why no worker of the cluster may time anything, in words; "" if those that are alone on their cores may. It is
    asked once, of the workers that are there."""
    given: dict[str, int] = {}  # threads of all workers by machine
    cores: dict[str, int] = {}
    try:
        slots = client.nthreads()
        for address, found in client.run(usable, on_error="ignore").items():
            host = _distributed().comm.get_address_host(address)
            given[host] = given.get(host, 0) + (threads or slots.get(address, 1))
            cores[host] = max(cores.get(host, 0), len(found))
    except Exception as error:
        return f"the workers could not be asked for their cores ({reason_of(error)})"
    return next((_too_many(given[host], cores[host]) for host in given if given[host] > cores[host]), "")


def _too_many(threads: int, cores: int) -> str:
    return f"the workers of one machine have {threads} threads on {cores} core{'s' * (cores > 1)}"


def _in_worker(doing: Callable[[JobT, int | None], EndedT], task: JobT) -> EndedT:
    return doing(task, _distributed().get_worker().state.nthreads)


def _failed(task: Job, error: Any, number: int, distributed: Any) -> Any:
    if isinstance(error, distributed.scheduler.KilledWorker):
        deaths = error.allowed_failures + 1
        return task.ended(DIED, f"its worker died, {deaths} times", deaths)
    return task.ended(FAILED, reason_of(error), number)


def _distributed() -> Any:
    try:
        return import_module("distributed")
    except ImportError as error:
        raise FusekitError(f"{_MISSING} ({error})") from error
