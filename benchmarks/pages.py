"""Size and load time of the report page by its number of boxes: `python -m benchmarks.pages [FILE.md]`.

The boxes are those of the graph before; the time is until the browser's `load` event, when the graph is drawn. It is
the fastest of ten loads in Chromium without a window: other processes may disturb.
"""

import sys
import tempfile
from pathlib import Path

from tests.support.browser import browser
from tests.support.pages import blocks

SIZES, LOADS = (100, 500, 1000, 2000), 10
BOXES = "return document.querySelectorAll('[data-side=\"before\"] .node').length"


def main(path: Path) -> None:
    rows = ["| boxes before | page, kB | load, ms |", "|---:|---:|---:|"]
    with browser() as window, tempfile.TemporaryDirectory() as folder:
        page = Path(folder) / "page.html"
        for size in SIZES:
            blocks(size // 10, branches=4).to_html(page)  # ten boxes each
            times = []
            for _ in range(LOADS):
                window.open(page)
                times.append(window.load_time())
            row = f"| {window.run(BOXES):,} | {page.stat().st_size / 1e3:,.0f} | {min(times):,.0f} |"
            rows.append(row)
    told = "The report page by the size of the graph; `python -m benchmarks.pages` writes this table. The"
    told += " time is that of the fastest of ten loads, on a machine with other work to do.\n\n"
    path.write_text("# The page\n\n" + told + "\n".join(rows) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path("docs/benchmarks/page.md"))
