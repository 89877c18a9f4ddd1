"""What a reader of the report wants to know besides the rewrites: the laws by name, and what the times depend on."""

import platform

import torch

from fusekit.optimizing.laws import BESIDE
from fusekit.optimizing.options import Options
from fusekit.runtimes.protocol import Runtime
from fusekit.version import __version__


def laws(options: Options) -> tuple[tuple[str, str], ...]:
    """(name of the rewrite, its law in one line), as the docstring of its class states it."""
    rules = [rule for stage in options.stages for rule in stage.passes]
    stated = {rule.name: (type(rule).__doc__ or "").strip().split("\n")[0] for rule in rules}
    return tuple({**stated, **BESIDE}.items())


def machine(runtime: Runtime) -> tuple[tuple[str, str], ...]:
    """(name, value) of what the times depend on."""
    return (
        ("runtime", runtime.identity(torch.device("cpu"))),
        ("threads", str(torch.get_num_threads())),
        ("fusekit", __version__),
        ("torch", str(torch.__version__)),
        ("Python", platform.python_version()),
        ("system", platform.platform(aliased=True, terse=True)),
    )
