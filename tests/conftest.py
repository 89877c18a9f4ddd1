"""Hypothesis profiles: a fixed sample inside the suite, more of it on request (`--hypothesis-profile=long`)."""

import os

import pytest
from hypothesis import HealthCheck, settings

from tests import ledger

os.environ.setdefault("FUSEKIT_MEASURE", "0")  # results that hang on the clock are for the tests that ask for it

_quiet = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]
settings.register_profile("suite", max_examples=150, deadline=None, derandomize=True, suppress_health_check=_quiet)
settings.register_profile("long", max_examples=3000, deadline=None, suppress_health_check=_quiet)
settings.load_profile("suite")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if lines := ledger.lines():
        terminalreporter.section("laws checked")
        for line in lines:
            terminalreporter.write_line(line)
