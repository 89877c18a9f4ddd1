"""What an optimization did: immutable events and their totals, as text for a terminal, as JSON and as a page.

Knows plain records and how people read them. Must not know models, graphs or runtimes.
"""

from fusekit.report.drawing import Box, Drawing, beside_each_other
from fusekit.report.event import Event, Outcome
from fusekit.report.html import Beside
from fusekit.report.measures import Measure
from fusekit.report.report import Report
from fusekit.report.totals import Totals, sum_of

__all__ = ["Beside", "Box", "Drawing", "Event", "Measure", "Outcome", "Report", "Totals", "beside_each_other", "sum_of"]
