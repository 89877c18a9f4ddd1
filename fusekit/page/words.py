"""The headings and sentences of a page. Those of an optimization are the defaults; a comparison has its own."""

from dataclasses import dataclass

_HINT = (
    "What was rewritten has one colour and one number on both sides; all others are as they were. Select an operator "
    "to see where it comes from."
)
_COLUMNS = ("Rewrite", "Where", "Outcome", "Price or times", "Cost of the place", "Reason")


@dataclass(frozen=True)
class Words:
    """What stands over the parts of a page.

    Args:
        before, after: the two graphs.
        done, nothing: what was done, and that nothing was.
        graph, hint: both graphs, and how to read them.
        same, became: of a selected operator: that it is as it was; what stands between two numbers of operators.
        made, gone, kept: what is read aloud of an operator in a region, in one that only this side has, in none.
        laws, others, columns: of a selected region: its laws; its other events, and the headings of their table.
        refused, table: the long table, and the headings of its six columns.
        cost: what the fifth column says, in a few words.
    """

    before: str = "Before"
    after: str = "After"
    done: str = "What was done"
    nothing: str = "Nothing was rewritten."
    graph: str = "The graph before and after"
    hint: str = _HINT
    same: str = "It is as it was."
    became: str = "became"
    made: str = "rewritten"
    gone: str = "removed"
    kept: str = "as it was"
    laws: str = "Laws"
    others: str = "Candidates that were not taken"
    columns: tuple[str, str, str, str] = ("rewrite", "outcome", "price or times", "reason")
    refused: str = "What was not done, and why"
    table: tuple[str, str, str, str, str, str] = _COLUMNS
    cost: str = "Cost of the operators in question"


OF_AN_OPTIMIZATION = Words()
