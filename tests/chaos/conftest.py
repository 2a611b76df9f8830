"""The suite's options, its fixture, and the table at its end."""

from __future__ import annotations

import random
from collections.abc import Generator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from rehearsal.machine import Machine
from rehearsal.world import World
from tests.chaos.frame import WHOLE, Chaos, Ledger, Result, heading, record, table
from tests.chaos.killing import Lab
from tests.chaos.units import assemble
from tests.functional.conftest import inside, machine, world

__all__ = ["inside", "machine", "world"]

# What takes minutes in its smallest form: CI's part has ten; and what CI does besides.
_NOT_QUICK = ("test_load.py", "test_who_may_read.py", "test_refresh.py")
# The longest first: begun last, they would leave the other processors without work.  A process
# takes its next module when it has two tests left, and "under load" has two and the longest way.
_LONGEST = (
    "test_killed_once_set_up.py",
    "test_load.py",
    "test_refresh.py",
    "test_killed_setting_up.py",
    "test_bad_machine.py",
    "test_upgrades.py",
    "test_who_may_read.py",
)
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
    told = getattr(config, "workerinput", {})  # to one of several processes
    chosen = told.get("seed", config.getoption("--seed"))
    seed = random.randrange(1_000_000) if chosen is None else chosen
    config.stash[_LEDGER] = Ledger(seed, quick=config.getoption("--quick"))
    if config.getoption("--record") and not told and _part(config) != WHOLE:
        raise pytest.UsageError(f"--record is for the whole suite, and this is {_part(config)}")


def _part(config: pytest.Config) -> str:
    """Return how much of the suite a run is."""
    if config.args_source is pytest.Config.ArgsSource.ARGS or any(
        config.getoption(option) for option in ("--case", "keyword", "markexpr")
    ):
        return "a choice of it"
    return "the quick part" if config.getoption("--quick") else WHOLE


@pytest.hookimpl(optionalhook=True)  # pytest-xdist's, as is pytest_testnodedown
def pytest_configure_node(node: Any) -> None:
    """Have every process choose by the same seed."""
    node.workerinput["seed"] = node.config.stash[_LEDGER].seed


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let the longest modules begin: each is one process' from its first test to its last."""
    items.sort(key=lambda item: (*_LONGEST, item.path.name).index(item.path.name))


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Send what one of several processes counted to the one that prints the table."""
    if hasattr(session.config, "workeroutput"):
        results = session.config.stash[_LEDGER].results
        session.config.workeroutput["results"] = [asdict(result) for result in results]


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any, error: object) -> None:
    """Count what one of several processes sent."""
    sent = getattr(node, "workeroutput", {}).get("results", [])
    node.config.stash[_LEDGER].take(Result(**result) for result in sent)


@pytest.fixture
def chaos(request: pytest.FixtureRequest) -> Chaos:
    """What counts a test's cases, and chooses among them."""
    ledger, only = request.config.stash[_LEDGER], request.config.getoption("--case")
    return Chaos(ledger, request.node.nodeid, only)


@pytest.fixture(scope="module")
def lab(machine: Machine, world: World, tmp_path_factory: pytest.TempPathFactory) -> Lab:
    """Where hooks are killed."""
    return Lab(machine, world, assemble(machine, tmp_path_factory.mktemp("charm")))


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
    terminalreporter: pytest.TerminalReporter, exitstatus: int, config: pytest.Config
) -> None:
    ledger = config.stash[_LEDGER]
    if not ledger.results:
        return
    terminalreporter.section("What was tried")
    terminalreporter.line(heading(ledger, _part(config)))
    terminalreporter.line("")
    terminalreporter.line(table(ledger))
    if config.getoption("--record") and exitstatus == pytest.ExitCode.OK:
        record(ledger)
