"""Explains one layer: what became of it and by which laws, and which rewrites were tried there and why not taken.

It runs the whole optimization and throws the result away, because what happens to a layer depends on its neighbours.
"""

import difflib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text
from torch import nn

from fusekit.api import optimize
from fusekit.errors import FusekitError
from fusekit.files import scratch
from fusekit.grafting import optimize_onnx
from fusekit.model.alone import alone
from fusekit.optimizing.race import BUDGET
from fusekit.report import Box, Drawing, Event, Outcome, Report
from fusekit.report.facts import facts_of
from fusekit.report.plain import plain
from fusekit.runtimes.onnx_runtime import ONNX_RUNTIME


@dataclass(frozen=True)
class Explanation:
    """What the report says of one layer.

    Args:
        layer: its path.
        before, after: its operators in the model, and those of the result that stand for them.
        events: the rewrites at its operators, applied or not.
        laws: (name, law) of these rewrites.
        unmatched: the names of the passes whose pattern matched nothing there.
    """

    layer: str
    before: tuple[Box, ...]
    after: tuple[Box, ...]
    events: tuple[Event, ...]
    laws: tuple[tuple[str, str], ...]
    unmatched: tuple[str, ...]

    def to_json(self, indent: int | None = 2) -> str:
        """Everything as one JSON object. `indent`: as for `json.dumps`."""
        return json.dumps(asdict(self), indent=indent)

    def __rich__(self) -> Group:
        parts: list[RenderableType] = [Text(self._headline(), style="bold")]
        for title, boxes in (("before", self.before), ("after", self.after)):
            parts += [Text(title), Padding(_table(boxes), (0, 0, 0, 2))] if boxes else []
        laws = dict(self.laws)
        for title, outcomes in (("Done", (Outcome.APPLIED,)), ("Tried, and not done", _OPEN)):
            found = [event for event in self.events if event.outcome in outcomes]
            parts += ["", Text(title, style="bold")] if found else []
            for law in dict.fromkeys(event.rewrite for event in found):
                parts.append(Padding(Text.assemble((law, "bold"), f"  {laws.get(law, '')}"), (0, 0, 0, 2)))
                ours = (event for event in found if event.rewrite == law)
                parts += [Padding(Text(line), (0, 0, 0, 4)) for line in dict.fromkeys(map(_line, ours))]
        if self.unmatched:
            told = f"{len(self.unmatched)} other laws match nothing there; --json lists them"
            parts += ["", Text(told, style="dim")]
        return Group(*parts)

    def __str__(self) -> str:
        return plain(self)

    def _headline(self) -> str:
        if not any(event.outcome is Outcome.APPLIED for event in self.events):
            return f"{self.layer} is as it was"
        old, new = (f"{len(boxes)} operator{'s' * (len(boxes) != 1)}" for boxes in (self.before, self.after))
        return f"{self.layer} was rewritten: {old} -> {new if self.after else 'nothing'}"


_OPEN = (Outcome.REFUSED, Outcome.REJECTED)


@alone()
def explain(
    model: nn.Module,
    layer: str,
    example_inputs: object = None,
    target: str = "torch",
    *,
    measure: bool = True,
    budget: float = BUDGET,
) -> Explanation:
    """What an optimization does with one layer of the model, which is not changed, and why.

    Args:
        model, example_inputs, target, measure, budget: as for `fusekit.optimize`.
        layer: the path of a module, such as "stages.2.3"; all operators in it count.

    Raises FusekitError if there is no such layer; the message names those with similar paths.
    """
    result = optimize(model, example_inputs, target=target, measure=measure, budget=budget)
    report = result.report
    assert isinstance(report, Report)
    return explanation(report, layer)


@alone()
def explain_file(
    path: str | Path,
    layer: str,
    example_inputs: object = None,
    target: str = ONNX_RUNTIME.name,
    *,
    measure: bool = True,
    budget: float = BUDGET,
) -> Explanation:
    """The same of an ONNX file at `path`; `layer` is the name of a node, or a path in which nodes are."""
    with scratch() as room:
        out = room / "thrown_away.onnx"
        verdict = optimize_onnx(path, out, example_inputs, target=target, measure=measure, budget=budget)
    return explanation(verdict.report or Report(), layer)


def explanation(report: Report, layer: str) -> Explanation:
    """What a report says of one layer."""
    before, after = (drawing.boxes for drawing in report.drawings or (Drawing(), Drawing()))
    old = [box for box in before if inside(box.where, layer)]
    ids = {box.id for box in old}
    named = (any(inside(path, layer) for path in each.where.split(" + ")) for each in report.events)
    events = [
        each for each, is_so in zip(report.events, named, strict=True) if is_so or not ids.isdisjoint(each.region)
    ]
    if not events and not old:
        paths = {".".join(box.where.split(".")[:n]) for box in before for n in range(1, box.where.count(".") + 2)}
        near = difflib.get_close_matches(layer, sorted(paths - {""}), 3, 0.4) or sorted(paths - {""})[:3]
        raise FusekitError(f"no layer {layer!r}; there are {len(paths)} paths such as {', '.join(near) or 'none'}")
    tried = {event.rewrite for event in events}
    return Explanation(
        layer,
        tuple(old),
        tuple(box for box in after if not ids.isdisjoint(box.origins)),
        tuple(events),
        tuple((name, law) for name, law in report.laws if name in tried),
        tuple(name for name, _ in report.laws if name not in tried),
    )


def inside(path: str, layer: str) -> bool:
    """Whether a path is the layer or in it."""
    return path == layer or path.startswith(f"{layer}.")


def _line(event: Event) -> str:
    """What happened, the price or the times, the error, the reason."""
    change = " -> ".join(event.change)
    price = f"price {event.price}" if event.price and event.times is None else event.price
    price = "" if price in event.reason else price
    error = "" if event.error is None else f"float64 error {event.error:.1e}"
    failed = "failed its check" if event.outcome is Outcome.REJECTED else ""
    return f"{', '.join(filter(None, (change, failed, event.reason, price, error))) or event.where}"


def _table(boxes: tuple[Box, ...]) -> Table:
    table = Table(box=None, pad_edge=False)
    facts = [dict(facts_of(box)) for box in boxes]
    names = list(dict.fromkeys(name for each in facts for name in each if name in _SHOWN))
    table.add_column("operator", no_wrap=True)
    table.add_column("layer", overflow="fold")
    for name in names:
        table.add_column(name, justify="right" if name in ("parameters", "MACs") else "left", overflow="fold")
    for box, each in zip(boxes, facts, strict=True):
        table.add_row(box.operator, Text(box.where), *(each.get(name, "") for name in names))
    return table


_SHOWN = ("kernel", "stride", "padding", "groups", "channels", "receptive field", "MACs")
