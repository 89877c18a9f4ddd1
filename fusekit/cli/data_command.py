"""The command that compares two models on a data set."""

from contextlib import ExitStack
from pathlib import Path
from typing import Any

from rich.text import Text

from fusekit.batching.cluster import connected
from fusekit.checkpoint import Kind, recognise
from fusekit.cli.console import DIFFERENT, OK, Screen, complain
from fusekit.cli.options import Model
from fusekit.errors import FusekitError
from fusekit.on_data.source import Source
from fusekit.on_data.validate import validate_on_data


def validate(
    model: Model, candidate: Path, screen: Screen, *, page: Path | None, scheduler: str | None, **words: Any
) -> int:
    """Compare a file with a model on a data set. The exit code is 1 if the numbers differ.

    Args:
        model: where the reference comes from.
        candidate: the ONNX file.
        screen: where to show results.
        page: the file to write the page to; None: none.
        scheduler: the address of a Dask scheduler; None: processes of this machine.
        words: the other arguments of `fusekit.validate_on_data`.
    """
    identity = recognise(candidate)
    if identity.kind is not Kind.ONNX:
        raise FusekitError(f"{candidate} is {identity.what}; expected an ONNX model")
    source = Source(
        model.source,
        model.factory,
        model.weights,
        model.arguments,
        model.unsafe,
        model.preprocess or None,
        str(Path.cwd()),
    )
    with screen.progress(1) as steps, ExitStack() as held:
        client = None if scheduler is None else held.enter_context(connected(scheduler))

        def tell(done: int, total: int) -> None:
            steps.detail("samples", done, total)

        found = validate_on_data(source, candidate, client=client, progress=tell, **words)
    screen.show(found)
    if words["save"] is not None and found.worst:
        screen.show(Text(f"wrote {len(found.worst)} samples to {words['save']}", style="bold green"))
    if page is not None:
        found.to_html(page)
        screen.show(Text(f"wrote {page}", style="bold green"))
    screen.emit({"command": "validate", **found.to_dict()})
    if found.ok:
        return OK
    first, *others = found.failures or ("nothing could be compared",)
    complain(f"the numbers differ: {first}{f' (and {len(others)} more)' if others else ''}")
    return DIFFERENT
