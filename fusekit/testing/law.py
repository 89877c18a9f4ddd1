"""A law, checked as mathematics: instances of the pattern are drawn, and both sides are evaluated in float64.

propose(m1, ..., mk)(x) = m1(...mk(x))          for every m1, ..., mk of the pattern's kinds, and every x
"""

from typing import Any

import hypothesis.strategies as st
import torch
from hypothesis import HealthCheck, given, settings
from torch import Tensor

from fusekit.algebra import Affine, Chain, Choice, Constant, Map
from fusekit.errors import Inapplicable
from fusekit.rewriting import Rewrite
from fusekit.rewriting.channel_paths import AlikeParts, PartsOf
from fusekit.rewriting.pattern import AfterConcat, Compose, Concat, Deferred, Expression, Sum
from fusekit.testing.branching import after_concats, alike_parts, branches, expressions, parts_of
from fusekit.testing.instances import instances
from fusekit.testing.strategies import relative_error

TOLERANCE = 1e-11  # of the norm-wise relative error in float64; rounding gives about 1e-15

Drawn = tuple[tuple[Map, ...], Tensor]


def check_law(
    rewrite: Rewrite,
    *,
    drawn_from: st.SearchStrategy[Drawn] | None = None,
    examples: int = 120,
    least: int = 10,
) -> float:
    """Draw instances of the pass's pattern and compare both sides of its law in float64.

    Args:
        rewrite: the pass.
        drawn_from: a Hypothesis strategy for pairs (maps, x): the maps of one instance, outermost first, and an input.
            By default, maps of the kinds that the pattern names are drawn. Needed for patterns and kinds of your own.
        examples: how many instances are drawn.
        least: how many of them the law must hold for. A pass that always refuses fails here.

    Returns:
        The largest relative error ‖left - right‖ / ‖left‖.

    Raises:
        AssertionError: the law is wrong for an instance, which Hypothesis prints; or it refused too often.
    """
    errors: list[float] = []

    @settings(max_examples=examples, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(st.data())
    def check(data: st.DataObject) -> None:
        errors.extend(law_errors(rewrite, data, drawn_from, matching=True) or ())

    check()
    assert len(errors) >= least, (
        f"the law of {rewrite.name} was exercised {len(errors)} times in {examples} instances, expected {least}: "
        "it refuses too often, or its instances must be drawn otherwise (`drawn_from`)"
    )
    return max(errors)


def law_errors(
    rewrite: Rewrite,
    data: st.DataObject,
    drawn_from: st.SearchStrategy[Drawn] | None = None,
    *,
    matching: bool = False,
) -> list[float] | None:
    """The relative errors of the law on one drawn instance, one for each form that it offers; None where it refuses.
    AssertionError where it is wrong.

    Args:
        rewrite, drawn_from: as for `check_law`.
        data: the source of the instance: Hypothesis' `st.data()`.
        matching: ask the law only where its pattern matches. A law may hold beyond its pattern, which leaves out what
            cannot pay.
    """
    pattern: Any = rewrite.pattern
    if drawn_from is not None:
        return _of_chain(rewrite, *data.draw(drawn_from), matching=matching)
    if isinstance(pattern, Expression):
        _, match = data.draw(expressions())
        expression: Deferred = match.maps[0]
        constant = rewrite.propose(expression)
        assert isinstance(constant, Constant)
        assert torch.equal(constant.value, expression.value())
        return [0.0]
    if isinstance(pattern, AfterConcat):
        outer, whole, sources = data.draw(after_concats(pattern.kind))
        return _of_branches(rewrite, (outer, whole), sources, outer(whole(*sources)))
    if isinstance(pattern, Sum | Concat | PartsOf | AlikeParts):
        if isinstance(pattern, PartsOf | AlikeParts):
            whole, sources = data.draw(parts_of() if isinstance(pattern, PartsOf) else alike_parts())
        else:
            whole, sources = data.draw(branches(concat=isinstance(pattern, Concat)))
        return _of_branches(rewrite, (whole,), sources, whole(*sources))
    return _of_chain(rewrite, *data.draw(instances(pattern)), matching=matching)


def _of_branches(
    rewrite: Rewrite, arguments: tuple[Any, ...], sources: list[Tensor], value: Tensor
) -> list[float] | None:
    try:
        given: Any = rewrite.propose(*arguments)
    except Inapplicable as reason:
        assert str(reason)
        return None
    error = relative_error(given(*sources), value)
    assert error <= TOLERANCE
    assert given.output_shape(*(tuple(source.shape) for source in sources)) == tuple(value.shape)
    rewrite.propose(*(argument.on_meta() for argument in arguments))
    return [error]


def _of_chain(rewrite: Rewrite, maps: tuple[Map, ...], x: Tensor, *, matching: bool) -> list[float] | None:
    pattern, value = rewrite.pattern, x
    try:
        for inner in reversed(maps):
            before, value = value.shape, inner(value)
            if isinstance(inner, Affine) and value.shape != before:
                return None  # an axis of size 1 that is not the channels: it was repeated
    except RuntimeError:
        return None  # the left side itself is not defined on this input: another axis, an empty output
    if matching and isinstance(pattern, Compose) and pattern.when is not None and not pattern.when(*maps):
        return None
    try:
        folded: Any = rewrite.propose(*maps)
        if isinstance(folded, Chain):
            folded = folded.folded(0, len(maps))
    except Inapplicable as reason:
        assert str(reason)
        return None
    errors = []
    for option in folded.options if isinstance(folded, Choice) else (folded,):
        errors.append(relative_error(option(x), value))
        assert errors[-1] <= TOLERANCE, f"{rewrite.name}: relative error {errors[-1]:.1e} for {maps}"
        assert option.output_shape(tuple(x.shape)) == tuple(value.shape)
    if rewrite.by_value:
        return errors
    # priced on shapes alone first: on the meta device the law must not say no where it holds
    shapes = rewrite.propose(*(m.on_meta() for m in maps))
    assert shapes.output_shape(tuple(x.shape)) == tuple(value.shape)
    return errors
