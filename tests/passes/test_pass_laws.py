"""Each pass as an equation: instances of its own pattern are drawn and both sides evaluated.

A new pass of a known pattern is tested by being listed in `fusekit.passes`.
"""

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from fusekit.passes import PASSES, STAGES
from fusekit.testing import law_errors
from tests.support import ledger

EXERCISED = 10


@pytest.mark.parametrize("name", PASSES)
def test_the_law_holds_wherever_it_does_not_say_no(name: str) -> None:
    exercised = 0

    @settings(max_examples=120)
    @given(st.data())
    def check(data: st.DataObject) -> None:
        nonlocal exercised
        errors = law_errors(PASSES[name], data)
        exercised += errors is not None
        for error in errors or ():
            ledger.record(error)

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
