"""All laws that an optimization may use: the passes of fusekit and those of other packages, by name and by stage."""

import re
from collections.abc import Mapping
from dataclasses import replace

from fusekit.errors import FusekitError
from fusekit.extensions import Registry
from fusekit.passes import CHOOSE, PASSES, STAGES
from fusekit.rewriting import Rewrite, Stage

BESIDE = {  # rewrites of whole graphs, which are no passes, and their laws
    "lower-complex": "complex arithmetic = real arithmetic on the pairs (re, im)",
    "batch-calls": "f(x1), ..., f(xk) = split(f(concat(x1, ..., xk))) along the batch",
    "equalize-channels": "act(s x) = s act(x): a convolution's channel divided by s, its readers' multiplied by s",
    "channels-last": "the same numbers, in another order in memory",
}
_OUTCOMES = ("capture", "model", "read")  # the report uses them as names of rewrites, too
_NAME = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")


def _accepted(name: str, value: object) -> Rewrite:
    """The pass that an entry point names: an object, or a class whose options have defaults. Raises FusekitError if it
    is no pass."""
    made = value() if isinstance(value, type) else value
    if not isinstance(made, Rewrite):
        raise FusekitError(f"expected a fusekit.rewriting.Rewrite, got {type(made).__name__}")
    if getattr(made, "name", None) != name or not _NAME.fullmatch(name):
        raise FusekitError(f"its `name` must be {name!r}, lower case with hyphens, got {getattr(made, 'name', None)!r}")
    if not callable(getattr(getattr(made, "pattern", None), "match", None)):
        raise FusekitError("its `pattern` must have a method `match`; see fusekit.rewriting.pattern")
    if type(made).propose is Rewrite.propose:
        raise FusekitError("it has no method `propose`, which returns the right-hand side of its law")
    if not 0 <= made.gain <= 1:  # a law that may raise the price could be applied for ever
        raise FusekitError(f"its `gain` must be between 0 and 1, got {made.gain!r}")
    stages = [stage.name for stage in STAGES if stage.contest == made.realizes]
    if made.stage and made.stage not in stages:
        raise FusekitError(f"its `stage` must be empty or one of {', '.join(stages)}, got {made.stage!r}")
    return made


OTHERS: Registry[Rewrite] = Registry("fusekit.passes", "pass", _accepted, taken={*PASSES, *BESIDE, *_OUTCOMES})


def passes() -> dict[str, Rewrite]:
    """All passes by name: those of fusekit, in order, then those of other packages."""
    return {**PASSES, **OTHERS.all()}


def stages(chosen: Mapping[str, Rewrite]) -> list[Stage]:
    """The stages in order, with these passes by name.

    A pass of fusekit keeps its place. Another one goes to the end of the stage that it names; if it names none, a
    realization goes to the stage of choice, and any other pass to a stage of its own before that.
    """
    added = [rewrite for name, rewrite in chosen.items() if name not in PASSES]
    homes: dict[str, list[Rewrite]] = {}
    for rewrite in added:
        homes.setdefault(rewrite.stage or (CHOOSE if rewrite.realizes else ""), []).append(rewrite)
    found = []
    for stage in STAGES:
        if stage.name == CHOOSE and "" in homes:
            found.append(Stage("added", tuple(homes[""])))
        ours = (chosen[rewrite.name] for rewrite in stage.passes if rewrite.name in chosen)
        found.append(replace(stage, passes=(*ours, *homes.get(stage.name, ()))))
    return found
