"""The suite's options, its fixture, and the table at its end."""

from __future__ import annotations

import random
from collections.abc import Generator
from pathlib import Path

import pytest

from tests.chaos.frame import Chaos, Ledger, heading, record, table
from tests.functional.conftest import inside, machine, world

__all__ = ["inside", "machine", "world"]

# What takes minutes in its smallest form: CI's part has ten.
_NOT_QUICK = ("test_load.py", "test_who_may_read.py")
_LEDGER = pytest.StashKey[Ledger]()


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("chaos")
    group.addoption("--quick", action="store_true", help="the part that CI runs")
    group.addoption("--seed", type=int, default=None, help="what all that is random comes from")
    group.addoption("--case", default="", help="run this one case of a test")
    group.addoption("--record", action="store_true", help="write the table to docs/reliability.md")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave the long ones out of the quick part, unless they are asked for by name."""
    named = any(collection_path.name in word for word in config.args)
    is_long = collection_path.name in _NOT_QUICK
    return True if config.getoption("--quick") and is_long and not named else None


def pytest_configure(config: pytest.Config) -> None:
    seed = config.getoption("--seed")
    seed = random.randrange(1_000_000) if seed is None else seed
    config.stash[_LEDGER] = Ledger(seed, quick=config.getoption("--quick"))


@pytest.fixture
def chaos(request: pytest.FixtureRequest) -> Chaos:
    """What counts a test's cases, and chooses among them."""
    ledger, only = request.config.stash[_LEDGER], request.config.getoption("--case")
    return Chaos(ledger, request.node.nodeid, only)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    made = getattr(item, "funcargs", {}).get("chaos")
    if call.when == "call" and made and made.repeat and report.failed:
        report.sections.append(("To repeat it", made.repeat))
    return report


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    ledger = config.stash[_LEDGER]
    if not ledger.results:
        return
    terminalreporter.section("What was tried")
    terminalreporter.line(heading(ledger))
    terminalreporter.line("")
    terminalreporter.line(table(ledger))
    if config.getoption("--record") and not ledger.broken:
        record(ledger)
