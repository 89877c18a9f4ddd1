"""One rewrite at one match: propose, price, check in float64, commit.

A proposal that is not lawful or does not pay is *refused* with its reason or its price; one that does not verify is
*rejected* and leaves no trace.
"""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, fx

from fusekit.algebra import FREE, Chain, Choice, Combination, Map, Rates, Shape
from fusekit.errors import Inapplicable
from fusekit.ir import Facts, Graph, Known, Unread, evaluate, known, note, where
from fusekit.ir.facts import supply
from fusekit.ir.read import read
from fusekit.ir.write import write
from fusekit.report import Event, Outcome
from fusekit.rewriting.pattern import Match
from fusekit.rewriting.price import work_of
from fusekit.rewriting.region import Region, constants_of
from fusekit.rewriting.rewrite import Rewrite
from fusekit.rewriting.row_cut import cheapest_cut
from fusekit.rewriting.spoiled import HOLD_BEHIND, has_finite_constants, is_finite, weights_before
from fusekit.rewriting.verify import AFFORDABLE, AFFORDABLE_FOR_PLANS, TOLERANCE, constant_error, region_error

_LARGE = 50_000  # entries of a region's constants from which computing a proposal only to refuse it is a waste


class Attempt:
    """One rewrite at one match, from proposal to commit or to no trace."""

    def __init__(
        self,
        graph: Graph,
        rewrite: Rewrite,
        match: Match,
        rates: Rates,
        spoiled: Mapping[fx.Node, str] = MappingProxyType({}),
    ) -> None:
        self.graph, self.rewrite, self.match, self.rates = graph, rewrite, match, rates
        self.spoiled = spoiled
        self.region = Region(graph, match)
        self.sources = self.region.sources()
        self.before = self.after = FREE
        self.dtype: torch.dtype | None = None
        self.proposal: Any = None
        self.times: tuple[float, float] | None = None  # milliseconds before and after, where they were measured
        self.error: float | None = None
        self.touched: list[fx.Node] = []

    @property
    def where(self) -> str:
        """The place as the report names it."""
        return " + ".join(self.sources)

    def run(self) -> Event:
        """The whole way."""
        return self.prepare(self.rewrite.gain) or self.carry_out()

    def prepare(self, gain: float) -> Event | None:
        """Find the proposal, if its price is below `gain` times that of what is there; else say why not."""
        try:
            for value in self.match.maps:
                if isinstance(value, Unread):
                    raise Inapplicable(value.reason)
            self.dtype = self.region.dtype()
            self._require_finite_weights()
            if self.region.weight_entries() > _LARGE and not self.rewrite.by_value:
                # priced on shapes alone first: a large kernel that does not pay is never computed
                self._settled(self.rewrite.propose(*(m.on_meta() for m in self.match.maps)), gain)
            self.proposal = self._settled(self.rewrite.propose(*self.match.maps), gain)
        except Inapplicable as refusal:
            return self._event(Outcome.REFUSED, str(refusal))
        except Exception as error:  # a bug in a law must not cost the user the other laws
            return self._event(Outcome.REJECTED, f"the law failed ({type(error).__name__}: {error})")
        return None

    def refuse(self, reason: str) -> Event:
        """Another was better."""
        return self._event(Outcome.REFUSED, reason)

    def carry_out(self) -> Event:
        """Write the proposal beside what is there, compare both, commit or leave no trace."""
        new: list[fx.Node] = []
        beyond = ""
        try:
            with self.graph.fx.inserting_before(self.match.outputs[0]):
                new = write(self.graph, self.proposal, self.match.sources, self.region.names_for(self.proposal))
            beyond = self._leaves_the_range(new)
            self.error = float("inf") if beyond else self._error_of(new)
            reason = beyond or f"float64 error {self.error:.1e} exceeds {TOLERANCE:.0e}; rolled back"
        except Exception as error:  # a proposal that cannot even run is as wrong as one that runs wrongly
            self.error, reason = float("inf"), f"the check failed to run ({type(error).__name__}: {error}); rolled back"
        if not self.error <= TOLERANCE:
            self.error = None if beyond else self.error
            self.graph.erase_dead(new)
            return self._event(Outcome.REFUSED if beyond else Outcome.REJECTED, reason)
        self._commit(new)
        return self._event(Outcome.APPLIED, "")

    def _settled(self, proposal: Map | Combination, gain: float) -> Map | Combination:
        """The proposal, its cheapest form if it leaves that open; Inapplicable if it does not pay."""
        if self.rewrite.sized and not self.region.has_sizes():
            raise Inapplicable(
                "whether it pays depends on the size of the input, which is unknown: pass example inputs"
            )
        shapes, dtype = self.region.shapes(), self.dtype
        if shapes is None or dtype is None:
            return proposal
        if isinstance(proposal, Chain):
            kept = self.match.nodes[0] in self.region.alive()
            proposal, pays = cheapest_cut(proposal, shapes[0], dtype.itemsize, rates=self.rates, gain=gain, kept=kept)
            gain = 1.0 if pays else gain  # each stretch has met it
        if isinstance(proposal, Choice):
            prices = [work_of(o, shapes, dtype.itemsize, self.rates).price for o in proposal.options]
            proposal = proposal.options[prices.index(min(prices))]
        self._require_gain(proposal, shapes, dtype, gain)
        return proposal

    def _require_gain(
        self, proposal: Map | Combination, shapes: Sequence[Shape], dtype: torch.dtype, gain: float
    ) -> None:
        """Price both sides; what the region computes for others too is paid on both."""
        if not gain:
            raise Inapplicable("whether it pays only measuring can tell")
        works = self.region.works(shapes, dtype.itemsize, self.rates)
        alive = self.region.alive()
        kept = [w for node, w in works if node in alive]
        self.before = sum((w for _, w in works), FREE)
        self.after = sum(kept, work_of(proposal, shapes, dtype.itemsize, self.rates))
        if self.after.price >= gain * self.before.price:
            shared = "; the inner value is also used elsewhere and must be computed all the same" if kept else ""
            raise Inapplicable(
                f"does not pay: {self.before.macs:,} -> {self.after.macs:,} MACs, "
                f"price x{self.after.price / self.before.price:.2f}{shared}"
            )

    def _require_finite_weights(self) -> None:
        if self.match.source is None:
            return
        for node in constants_of(self.match.nodes):
            if not is_finite(self.graph.constants[str(node.target)]):
                raise Inapplicable(f"{node.target} holds NaN or infinity, which would come out at other places")
        if not all(has_finite_constants(value) for value in self.match.maps):
            raise Inapplicable(f"{self.where} scales by infinity or NaN, as after a variance of 0")
        spoiled = "" if self.rewrite.name in HOLD_BEHIND else weights_before(self.match.sources, self.spoiled)
        if spoiled:
            raise Inapplicable(f"it is fed by {spoiled}, which holds NaN or infinity: these would come out elsewhere")

    def _leaves_the_range(self, new: list[fx.Node]) -> str:
        """Why a constant cannot be stored in the region's dtype; "" if all can."""
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
        """Round the constants to the region's dtype, hand over what is known of the output, replace it, clean up."""
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
            note(node, Known(sources=self.region.sources_after(where(node))))
        results = new[-len(outputs) :] if new else list(self.match.sources[:1])
        add = torch.ops.aten.add.Tensor  # whose operands are of the shape of the sum; a pad before a convolution is not
        for node in new:
            if node.target is add or (results[-1].target is add and results[-1] in node.users):
                note(node, known(outputs[-1]).of_tensor)  # what is known of the old value holds for the new one
            elif node not in results:
                self._note_shape(node, dtype)
        self.touched = [*(user for output in outputs for user in output.users), *(new or results)]
        for output, result in zip(outputs, results, strict=True):
            if new:
                note(result, known(output).of_tensor)
            output.replace_all_uses_with(result)
        self.graph.erase_dead(self.match.nodes)

    def _note_shape(self, node: fx.Node, dtype: torch.dtype | None) -> None:
        """The shape of a new value inside the region, for the prices and totals that ask for it later."""
        reading = read(self.graph, node)
        if reading is not None:
            seen = known(reading.source).shape
            shape = None if seen is None or isinstance(reading.map, Unread) else reading.map.output_shape(seen)
        else:
            shape = self._computed_shape(node)
        if shape is not None:
            supply(node, Known(Facts(None, dtype), shape))

    def _computed_shape(self, node: fx.Node) -> Shape | None:
        """The shape of what the operator returns for inputs of the shapes that are known; None if they are not."""
        shapes = {source: known(source).shape for source in node.all_input_nodes}
        if node.op != "call_function" or None in shapes.values():
            return None
        given = {source: torch.empty(shape or (), device="meta") for source, shape in shapes.items()}
        value = evaluate(self.graph, [node], given)[node]
        return tuple(value.shape) if isinstance(value, Tensor) else None

    def _event(self, outcome: Outcome, reason: str) -> Event:
        before, after = (self.before.price, self.after.price) if self.before is not FREE else (None, None)
        law, place = self.rewrite, self.where
        return Event(law.name, place, outcome, before, after, self.error, reason, self.times, law.realizes)
