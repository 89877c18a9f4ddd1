"""For authors of passes: the test that every pass of fusekit passes, as two functions. Needs Hypothesis.

    from fusekit.testing import check_law, check_on_model

    def test_the_law():
        check_law(FoldTwice())                                 drawn maps, both sides compared in float64

    def test_a_model():
        check_on_model(FoldTwice(), network(), inputs)         traced, priced, verified and judged

Knows how to draw instances of patterns, and what a law promises. Must not be needed by anything that optimizes.
"""

from importlib.util import find_spec

if find_spec("hypothesis") is None:
    raise ImportError("fusekit.testing needs Hypothesis: pip install hypothesis (or fusekit-fx[test])")

from fusekit.testing.law import check_law, law_errors
from fusekit.testing.model import check_on_model

__all__ = ["check_law", "check_on_model", "law_errors"]
