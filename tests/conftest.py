"""Hypothesis profiles: a fixed sample in the suite, and a larger one on request (`--hypothesis-profile=long`). With
`-n 2` the tests run in two processes, each with its share of the cores; their records of checks are combined."""

import os
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, settings

from tests.support import ledger

os.environ.setdefault("FUSEKIT_MEASURE", "0")  # results that hang on the clock are for the tests that ask for it

_quiet = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]
settings.register_profile("suite", max_examples=150, deadline=None, derandomize=True, suppress_health_check=_quiet)
settings.register_profile("long", max_examples=3000, deadline=None, suppress_health_check=_quiet)
settings.load_profile("suite")


torch.set_num_threads(1)  # the tensors are small
if workers := int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "0")):
    torch.set_num_threads(max(1, (os.cpu_count() or 1) // workers))


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--neighbours", action="store_true", help="also run tests/neighbours, with the packages there are")


def pytest_sessionfinish(session: pytest.Session) -> None:
    output: Any = getattr(session.config, "workeroutput", None)  # of one of several processes
    if output is not None:
        output["ledger"] = ledger.pages()


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any, error: object) -> None:
    ledger.add(getattr(node, "workeroutput", {}).get("ledger", {}))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if lines := ledger.lines():
        terminalreporter.section("laws checked")
        for line in lines:
            terminalreporter.write_line(line)
