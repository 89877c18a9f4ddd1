"""Each pass as an equation: instances of its own pattern are drawn and both sides evaluated.

A new pass of a known pattern is tested by being listed in `fusekit.passes`.
"""

from typing import Any

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings

from fusekit.algebra import Chain, Choice, Constant
from fusekit.errors import Inapplicable
from fusekit.passes import PASSES, STAGES
from fusekit.rewriting import Rewrite
from fusekit.rewriting.channel_paths import AlikeParts, PartsOf
from fusekit.rewriting.pattern import AfterConcat, Concat, Deferred, Expression, Sum
from tests.support import ledger
from tests.support.instances import after_concats, alike_parts, branches, expressions, instances, parts_of
from tests.support.strategies import relative_error

TOLERANCE = 1e-11
EXERCISED = 20


def check_law(rewrite: Rewrite, data: st.DataObject) -> bool:
    """Both sides of the law on one instance of its pattern; False where the law says no."""
    pattern: Any = rewrite.pattern
    if isinstance(pattern, Expression):
        _, match = data.draw(expressions())
        expression: Deferred = match.maps[0]
        constant = rewrite.propose(expression)
        assert isinstance(constant, Constant)
        assert torch.equal(constant.value, expression.value())
        ledger.record(0.0)
        return True
    if isinstance(pattern, Sum | Concat | AfterConcat | PartsOf | AlikeParts):
        arguments: tuple[Any, ...]
        if isinstance(pattern, AfterConcat):
            outer, whole, sources = data.draw(after_concats(pattern.kind))
            value, arguments = outer(whole(*sources)), (outer, whole)
        elif isinstance(pattern, PartsOf | AlikeParts):
            whole, sources = data.draw(parts_of() if isinstance(pattern, PartsOf) else alike_parts())
            value, arguments = whole(*sources), (whole,)
        else:
            whole, sources = data.draw(branches(concat=isinstance(pattern, Concat)))
            value, arguments = whole(*sources), (whole,)
        try:
            given: Any = rewrite.propose(*arguments)
        except Inapplicable as reason:
            assert str(reason)
            return False
        error = relative_error(given(*sources), value)
        ledger.record(error)
        assert error <= TOLERANCE
        assert given.output_shape(*(tuple(source.shape) for source in sources)) == tuple(value.shape)
        rewrite.propose(*(argument.on_meta() for argument in arguments))
        return True
    maps, x = data.draw(instances(pattern))
    value = x
    try:
        for inner in reversed(maps):
            value = inner(value)
    except RuntimeError:
        return False  # the left side itself is not defined on this input: another axis, an empty output
    try:
        folded = rewrite.propose(*maps)
        if isinstance(folded, Chain):
            folded = folded.folded(0, len(maps))
    except Inapplicable as reason:
        assert str(reason)
        return False
    for option in folded.options if isinstance(folded, Choice) else (folded,):
        error = relative_error(option(x), value)
        ledger.record(error)
        assert error <= TOLERANCE
        assert option.output_shape(tuple(x.shape)) == tuple(value.shape)
    if rewrite.by_value:
        return True
    # priced on shapes alone first: on the meta device the law must not say no where it holds
    shapes = rewrite.propose(*(m.on_meta() for m in maps))
    assert shapes.output_shape(tuple(x.shape)) == tuple(value.shape)
    return True


@pytest.mark.parametrize("name", PASSES)
def test_the_law_holds_wherever_it_does_not_say_no(name: str) -> None:
    exercised = 0

    @settings(max_examples=120)
    @given(st.data())
    def check(data: st.DataObject) -> None:
        nonlocal exercised
        exercised += check_law(PASSES[name], data)

    check()
    assert exercised >= EXERCISED, f"the law of {name} was exercised {exercised} times only"


@pytest.mark.parametrize("name", PASSES)
def test_a_pass_says_what_it_is(name: str) -> None:
    """A name the command line can take, a law in the first line of its docstring and of its module's, options with
    defaults; `=` stands in every law."""
    rewrite = PASSES[name]
    assert rewrite.name == name == name.lower().replace("_", "-")
    assert type(rewrite)() == rewrite
    assert "=" in (type(rewrite).__doc__ or "").splitlines()[0] or "less" in (type(rewrite).__doc__ or "")
    places = [sum(name == each.name for each in stage.passes) for stage in STAGES]
    assert sum(places) >= 1 and max(places) == 1
    assert str(rewrite.pattern)
