"""A worker that runs waits for its turn before it restarts; nothing else has to."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest

from concourse.observation import stamp_of_file
from desired import Wish
from gpu.manager import GpuManager
from host import Layout
from juju import Juju
from tests.unit.test_workload import WISH, Turn, TurnsOnly
from tests.unit.workers import REGISTERED, Systemd, connected, process, public
from tsa import Web
from worker_workload import RESTART_LIMIT, START_LIMIT, WorkerWorkload

GATEWAY = Web(("10.0.0.1:2222",), public())
RESTART = ["restart --no-block concourse-worker.service"]
TASKS = "/run/containerd/io.containerd.runtime.v2.task/concourse"


class Rig:
    """A worker's half of the charm on a scratch machine."""

    def __init__(self, layout: Layout, systemd: Systemd, tree: Path) -> None:
        self.layout, self.systemd, self.tree = layout, systemd, tree
        self.turn = Turn()
        self.workload = WorkerWorkload(layout, lambda _: None, GpuManager(layout, lambda _: None))

    def start(self) -> float:
        """Have what is missing done; return how long the hook would wait for it."""
        juju = cast("Juju", TurnsOnly(self.turn))
        return self.workload._start(WISH, juju, None, self.tree, GATEWAY)

    def end_turn(self, wish: Wish = WISH, *, failed: bool = False) -> bool:
        """Let go of the turn if that is due; return whether it was."""
        self.workload.end_turn(wish, cast("Juju", TurnsOnly(self.turn)), failed=failed)
        return not self.turn.open

    def runs(self, stamp: str = "", *, registered: bool = True) -> None:
        """Have the service run, with the settings that its file has if no stamp is given."""
        self.systemd.runs()
        stamp = stamp or stamp_of_file(self.layout)
        process(self.layout, {"CHARM_STAMP": stamp, "CONCOURSE_TSA_HOST": "web:2222"})
        connected(self.layout)
        self.systemd.answer("journal", REGISTERED if registered else "")


@pytest.fixture
def rig(layout: Layout, systemd: Systemd, tree: Path) -> Rig:
    made = Rig(layout, systemd, tree)
    made.start()
    systemd.asked()
    return made


def test_a_first_start_and_a_stopped_worker_need_no_turn(rig: Rig) -> None:
    for state in ("inactive", "failed"):
        rig.systemd.has(ActiveState=state)
        assert rig.start() == START_LIMIT
        assert "start --no-block concourse-worker.service" in rig.systemd.asked()
    assert not rig.turn.open


def test_a_worker_that_runs_with_older_settings_waits_for_its_turn(rig: Rig) -> None:
    rig.runs("older")
    assert rig.start() == 0
    assert rig.systemd.asked() == []
    assert not rig.end_turn(), "it has asked"
    rig.turn.granted = True
    assert rig.start() == RESTART_LIMIT
    assert rig.systemd.asked() == RESTART


def test_a_worker_that_no_web_has_is_down_already(rig: Rig) -> None:
    rig.runs("older", registered=False)
    assert rig.start() == START_LIMIT
    assert rig.systemd.asked()[:1] == RESTART
    assert not rig.turn.open


def test_no_hook_waits_for_a_worker_that_runs_something(rig: Rig) -> None:
    rig.runs("older")
    rig.turn.granted = True
    container = rig.layout.at(f"{TASKS}/0f2c")
    container.mkdir(parents=True)
    (container / "init.pid").write_text("4712")
    assert rig.start() == RESTART_LIMIT
    (container / "b1946ac9.pid").write_text("4713")
    assert rig.start() == 0


def test_a_turn_ends_when_the_worker_is_back(rig: Rig) -> None:
    rig.turn.granted = True
    rig.turn.take()
    rig.systemd.has(ActiveState="deactivating", MainPID=4711)
    assert not rig.end_turn()
    rig.runs("older")
    assert not rig.end_turn(), "its restart is queued"
    rig.runs(registered=False)
    assert not rig.end_turn()
    rig.runs()
    assert rig.end_turn()


def test_a_turn_ends_without_a_restart_if_none_can_be_made(rig: Rig) -> None:
    rig.turn.granted = True
    rig.turn.take()
    rig.runs("older")
    assert rig.end_turn(failed=True)


@pytest.mark.parametrize(
    "wish",
    [replace(WISH, related=False), replace(WISH, roles=frozenset({"web"}))],
    ids=["no web", "no worker any more"],
)
def test_a_worker_that_is_to_stay_down_has_no_turn(rig: Rig, wish: Wish) -> None:
    rig.turn.granted = True
    rig.turn.take()
    assert rig.end_turn(wish)


def test_a_drained_worker_has_no_turn(rig: Rig) -> None:
    rig.turn.granted = True
    rig.turn.take()
    rig.workload.drain()
    rig.systemd.asked()
    assert rig.end_turn()
    assert rig.start() == 0
    assert rig.systemd.asked() == []


def test_a_restart_by_action_waits_for_its_turn_too(rig: Rig) -> None:
    rig.runs()
    rig.workload.restart(force=False)
    assert rig.systemd.asked() == []
    assert rig.start() == 0
    rig.turn.granted = True
    assert rig.start() == RESTART_LIMIT
    assert rig.systemd.asked() == RESTART
    rig.runs()
    assert rig.start() == 0, "once is enough"
    assert rig.systemd.asked() == []


def test_a_forced_restart_waits_for_nothing(rig: Rig) -> None:
    rig.runs()
    rig.workload.restart(force=True)
    kill = "kill --kill-who=main --signal=SIGTERM concourse-worker.service"
    assert rig.systemd.asked() == [*RESTART, kill]
    assert not rig.turn.open


def test_a_worker_that_is_down_is_not_restarted_by_the_action(rig: Rig) -> None:
    rig.systemd.has()
    rig.workload.restart(force=False)
    rig.workload.restart(force=True)
    assert rig.systemd.asked() == []
