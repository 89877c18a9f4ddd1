"""One rewrite at one match: propose, price, check in float64, commit.

A proposal is *refused* if its law does not hold here or if it does not pay; the event has the reason. It is *rejected*
if the numerical check fails; then the graph is as it was before.
"""

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, fx

from fusekit.algebra import FREE, Chain, Choice, Combination, Map, Rates, Shape
from fusekit.errors import Inapplicable
from fusekit.ir import Facts, Graph, Known, Unread, evaluate, known, note, where
from fusekit.ir.facts import origins_of, supply
from fusekit.ir.read import read
from fusekit.ir.write import write
from fusekit.report import Event, Outcome
from fusekit.rewriting.change import change
from fusekit.rewriting.pattern import Match
from fusekit.rewriting.price import work_of
from fusekit.rewriting.region import Region, constants_of
from fusekit.rewriting.rewrite import Rewrite
from fusekit.rewriting.row_cut import cheapest_cut
from fusekit.rewriting.spoiled import HOLD_BEHIND, has_finite_constants, is_finite, weights_before
from fusekit.rewriting.verify import AFFORDABLE, AFFORDABLE_FOR_PLANS, TOLERANCE, constant_error, region_error

_LARGE = 50_000  # entries of a region's constants; beyond this, price the proposal from shapes before computing it


def has_any_form(value: Map) -> bool:
    """A graph of torch takes every map."""
    return True


class Attempt:
    """One rewrite at one match, from the proposal to the commit, the refusal or the rollback."""

    def __init__(
        self,
        graph: Graph,
        rewrite: Rewrite,
        match: Match,
        rates: Rates,
        spoiled: Mapping[fx.Node, str] = MappingProxyType({}),
        has_form: Callable[[Map], bool] = has_any_form,
    ) -> None:
        self.graph, self.rewrite, self.match, self.rates = graph, rewrite, match, rates
        self.spoiled, self.has_form = spoiled, has_form
        self.region = Region(graph, match)
        self.sources = self.region.sources()
        self.origins = origins_of(match.nodes)
        self.change: tuple[str, ...] = ()
        self.before = self.after = FREE
        self.dtype: torch.dtype | None = None
        self.proposal: Any = None
        self.times: tuple[float, float] | None = None  # milliseconds before and after, where they were measured
        self.error: float | None = None
        self.touched: list[fx.Node] = []

    @property
    def where(self) -> str:
        """The module paths of the region, as the report shows them."""
        return " + ".join(self.sources)

    def run(self) -> Event:
        """Propose, price, check and commit. The event says what happened."""
        return self.prepare(self.rewrite.gain) or self.carry_out()

    def prepare(self, gain: float) -> Event | None:
        """Compute the proposal. None if its price is below `gain` times the price of the region; else the event that
        says why it was refused or rejected."""
        try:
            for value in self.match.maps:
                if isinstance(value, Unread):
                    raise Inapplicable(value.reason)
            self.dtype = self.region.dtype()
            self._require_finite_weights()
            if self.region.weight_entries() > _LARGE and not self.rewrite.by_value:
                # price it from shapes first, so that a large kernel that does not pay is never computed
                self._settled(self.rewrite.propose(*(m.on_meta() for m in self.match.maps)), gain)
            self.proposal = self._settled(self.rewrite.propose(*self.match.maps), gain)
        except Inapplicable as refusal:
            return self._event(Outcome.REFUSED, str(refusal))
        except Exception as error:  # a bug in a law must not cost the user the other laws
            return self._event(Outcome.REJECTED, f"the law failed ({type(error).__name__}: {error})")
        return None

    def refuse(self, reason: str) -> Event:
        """The event of a refusal that was decided outside, for example because another realization is faster."""
        return self._event(Outcome.REFUSED, reason)

    def carry_out(self) -> Event:
        """Write the proposal beside the region, compare the two, and commit the proposal or remove it again."""
        new: list[fx.Node] = []
        beyond = ""
        try:
            with self.graph.fx.inserting_before(self.match.outputs[0]):
                new = write(self.graph, self.proposal, self.match.sources, self.region.names_for(self.proposal))
            beyond = self._leaves_the_range(new)
            self.error = float("inf") if beyond else self._error_of(new)
            reason = beyond or f"float64 error {self.error:.1e} exceeds {TOLERANCE:.0e}; rolled back"
        except Exception as error:  # a proposal that cannot run is rejected like one with a wrong result
            self.error, reason = float("inf"), f"the check failed to run ({type(error).__name__}: {error}); rolled back"
        if not self.error <= TOLERANCE:
            self.error = None if beyond else self.error
            self.graph.erase_dead(new)
            return self._event(Outcome.REFUSED if beyond else Outcome.REJECTED, reason)
        self.change = change(self.match, new)
        self._commit(new)
        return self._event(Outcome.APPLIED, "")

    def _settled(self, proposal: Map | Combination, gain: float) -> Map | Combination:
        """The proposal; if it offers several forms, the cheapest of them. Raises Inapplicable if it does not pay."""
        if self.rewrite.sized and not self.region.has_sizes():
            raise Inapplicable(
                "whether it pays depends on the size of the input, which is unknown: pass example inputs"
            )
        if isinstance(proposal, Choice):
            proposal = Choice(tuple(o for o in proposal.options if self._formless(o) is None) or proposal.options)
        shapes, dtype = self.region.shapes(), self.dtype
        if shapes is None or dtype is None:
            return self._with_form(proposal)
        if isinstance(proposal, Chain):
            kept = self.match.nodes[0] in self.region.alive()
            proposal, pays = cheapest_cut(proposal, shapes[0], dtype.itemsize, rates=self.rates, gain=gain, kept=kept)
            gain = 1.0 if pays else gain  # `cheapest_cut` has applied the gain to each stretch already
        if isinstance(proposal, Choice):
            prices = [work_of(o, shapes, dtype.itemsize, self.rates).price for o in proposal.options]
            proposal = proposal.options[prices.index(min(prices))]
        self._require_gain(proposal, shapes, dtype, gain)
        return self._with_form(proposal)

    def _formless(self, proposal: Map | Combination) -> Map | None:
        """The first map of the proposal that cannot be written where the graph goes."""
        return next((value for value in proposal.steps() if not self.has_form(value)), None)

    def _with_form(self, proposal: Map | Combination) -> Map | Combination:
        if (value := self._formless(proposal)) is not None:
            raise Inapplicable(f"a {type(value).__name__} cannot be written there")
        return proposal

    def _require_gain(
        self, proposal: Map | Combination, shapes: Sequence[Shape], dtype: torch.dtype, gain: float
    ) -> None:
        """Raise Inapplicable unless the proposal is cheaper than `gain` times the region. Nodes whose values are also
        read outside the region are paid for on both sides, because they stay."""
        if not gain:
            raise Inapplicable("only a measurement can tell whether it pays")
        works = self.region.works(shapes, dtype.itemsize, self.rates)
        alive = self.region.alive()
        kept = [w for node, w in works if node in alive]
        self.before = sum((w for _, w in works), FREE)
        self.after = sum(kept, work_of(proposal, shapes, dtype.itemsize, self.rates))
        if self.after.price >= gain * self.before.price:
            shared = "; the inner value is also used elsewhere and must be computed anyway" if kept else ""
            raise Inapplicable(
                f"does not pay: {self.before.macs:,} -> {self.after.macs:,} MACs, "
                f"price x{self.after.price / self.before.price:.2f}{shared}"
            )

    def _require_finite_weights(self) -> None:
        if self.match.source is None:
            return
        for node in constants_of(self.match.nodes):
            if not is_finite(self.graph.constants[str(node.target)]):
                raise Inapplicable(f"{node.target} holds NaN or infinity, which would spread to other outputs")
        if not all(has_finite_constants(value) for value in self.match.maps):
            raise Inapplicable(f"{self.where} scales by infinity or NaN, for example because a variance is 0")
        spoiled = "" if self.rewrite.name in HOLD_BEHIND else weights_before(self.match.sources, self.spoiled)
        if spoiled:
            raise Inapplicable(f"it reads values computed from {spoiled}, whose NaN or infinity would spread")

    def _leaves_the_range(self, new: list[fx.Node]) -> str:
        """Why a constant cannot be stored in the region's dtype (overflow or underflow); "" if all can."""
        for node in constants_of(new) if self.match.source is not None else ():
            value = self.graph.constants[str(node.target)].detach()
            stored = value.to(self.dtype or value.dtype)
            name = str(stored.dtype).removeprefix("torch.")
            if not is_finite(stored) and is_finite(value):
                return f"a constant would be as large as {float(value.abs().max()):.0e}, beyond {name}"
            if not bool(stored.any()) and bool(value.any()):
                return f"a constant would be as small as {float(value.abs().max()):.0e}, which is 0 in {name}"
        return ""

    def _error_of(self, new: list[fx.Node]) -> float:
        match = self.match
        if match.source is None:
            return constant_error(self.graph, match.nodes, new[-1])
        probes = self.region.probes(AFFORDABLE_FOR_PLANS if self.rewrite.sized else AFFORDABLE)
        return region_error(self.graph, match.nodes, new, match.sources, probes, len(match.outputs))

    def _commit(self, new: list[fx.Node]) -> None:
        """Replace the region: round the new constants to its dtype, pass on what is known about its outputs, redirect
        the outputs' users to the new nodes, and erase the old ones."""
        dtype = self.dtype
        outputs, constants = self.match.outputs, constants_of(self.match.nodes)
        trains = any(self.graph.constants[str(node.target)].requires_grad for node in constants)
        for node in constants_of(new):
            value = self.graph.constants[str(node.target)].detach()
            value = value.to(dtype or value.dtype).contiguous()
            self.graph.constants[str(node.target)] = value.requires_grad_(
                trains and value.is_floating_point() and not known(node).fixed
            )
            note(node, Known(facts=Facts(tuple(value.shape), value.dtype)))
        for node in new:
            supply(node, Known(where=where(outputs[-1])))
            note(node, Known(sources=self.region.sources_after(where(node)), origins=self.origins))
        results = new[-len(outputs) :] if new else list(self.match.sources[:1])
        add = torch.ops.aten.add.Tensor  # the operands of an addition have the shape of the sum
        for node in new:
            if node.target is add or (results[-1].target is add and results[-1] in node.users):
                note(node, known(outputs[-1]).of_tensor)  # so the facts of the old output hold for them, too
            elif node not in results:
                self._note_shape(node, dtype)
        self.touched = [*(user for output in outputs for user in output.users), *(new or results)]
        for output, result in zip(outputs, results, strict=True):
            if new:
                note(result, known(output).of_tensor)
            output.replace_all_uses_with(result)
        self.graph.erase_dead(self.match.nodes)

    def _note_shape(self, node: fx.Node, dtype: torch.dtype | None) -> None:
        """Note the shape of a new inner node, because prices and totals ask for it later."""
        reading = read(self.graph, node)
        if reading is not None:
            seen = known(reading.source).shape
            shape = None if seen is None or isinstance(reading.map, Unread) else reading.map.output_shape(seen)
        else:
            shape = self._computed_shape(node)
        if shape is not None:
            supply(node, Known(Facts(None, dtype), shape))

    def _computed_shape(self, node: fx.Node) -> Shape | None:
        """The shape of the operator's output, found by running it on meta tensors; None if an input's is unknown."""
        shapes = {source: known(source).shape for source in node.all_input_nodes}
        if node.op != "call_function" or None in shapes.values():
            return None
        given = {source: torch.empty(shape or (), device="meta") for source, shape in shapes.items()}
        value = evaluate(self.graph, [node], given)[node]
        return tuple(value.shape) if isinstance(value, Tensor) else None

    def _event(self, outcome: Outcome, reason: str) -> Event:
        before, after = (self.before.price, self.after.price) if self.before is not FREE else (None, None)
        law, place = self.rewrite, self.where
        words = (law.name, place, outcome, before, after, self.error, reason, self.times, law.realizes)
        return Event(*words, change=self.change, region=self.origins)
