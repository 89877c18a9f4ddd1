"""A file appears whole or not at all: it is written beside its place and moved there at the end."""

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def staged(out: Path) -> Iterator[Path]:
    """A path to write to in place of `out`. What stands there when the block ends well replaces `out`.

    The folder is made next to `out`, so that the move stays within one file system and is atomic. The name is kept,
    because a large ONNX model names the file beside it that holds its weights; those files move first, the model last.
    """
    with tempfile.TemporaryDirectory(prefix=".fusekit-", dir=out.parent) as folder:
        stage = Path(folder) / out.name
        yield stage
        for file in sorted(Path(folder).iterdir(), key=lambda file: file == stage):
            os.replace(file, out.parent / file.name)
