"""Whether systemd is asked to start the worker, to restart it, or nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from concourse import worker
from concourse.errors import ConcourseError
from host import Layout
from tests.unit.workers import REGISTERED, WISH, Systemd, connected, process, variables


@pytest.mark.parametrize(
    ("properties", "asked"),
    [
        ({}, ["start --no-block concourse-worker.service"]),
        (
            {"UnitFileState": "disabled"},
            [
                "enable concourse-worker.service",
                "start --no-block concourse-worker.service",
            ],
        ),
        (
            {"ActiveState": "failed", "SubState": "failed", "Result": "exit-code"},
            [
                "reset-failed concourse-worker.service",
                "start --no-block concourse-worker.service",
            ],
        ),
        ({"ActiveState": "activating", "SubState": "auto-restart"}, []),
        ({"ActiveState": "activating", "SubState": "start"}, []),
        (
            {"NeedDaemonReload": "yes", "ActiveState": "activating"},
            ["daemon-reload"],
        ),
        (
            {"ActiveState": "deactivating", "SubState": "final-sigterm"},
            ["start --no-block concourse-worker.service"],
        ),
    ],
)
def test_what_systemd_is_asked(
    layout: Layout,
    systemd: Systemd,
    tree: Path,
    properties: dict[str, object],
    asked: list[str],
) -> None:
    systemd.has(**properties)
    assert worker.ensure_running(layout) == bool(asked)
    assert systemd.asked() == asked


def test_worker_of_this_stamp_is_left_alone(layout: Layout, systemd: Systemd, tree: Path) -> None:
    worker.ensure_files(layout, WISH, tree)
    systemd.asked()
    systemd.runs()
    process(layout, variables(layout))
    assert not worker.ensure_running(layout)
    assert systemd.asked() == []


@pytest.mark.parametrize("environment", [{}, {"CHARM_STAMP": "old"}])
def test_worker_of_an_older_stamp_is_restarted(
    layout: Layout, systemd: Systemd, tree: Path, environment: dict[str, str]
) -> None:
    worker.ensure_files(layout, WISH, tree)
    systemd.asked()
    systemd.runs()
    process(layout, {**environment, "CONCOURSE_TSA_HOST": "web:2222"})
    connected(layout)
    systemd.answer("journal", REGISTERED)
    assert worker.ensure_running(layout)
    assert systemd.asked() == ["restart --no-block concourse-worker.service"]


def test_worker_that_the_web_refuses_is_not_asked_to_land(
    layout: Layout, systemd: Systemd, tree: Path
) -> None:
    terminate = "kill --kill-who=main --signal=SIGTERM concourse-worker.service"
    systemd.runs()
    process(layout, {"CHARM_STAMP": "old", "CONCOURSE_TSA_HOST": "web:2222"})
    assert worker.ensure_running(layout)
    assert systemd.asked() == ["restart --no-block concourse-worker.service", terminate]
    systemd.has(ActiveState="deactivating", SubState="stop", MainPID=4711)
    systemd.answer("jobs", "123 concourse-worker.service restart running\n")
    assert worker.ensure_running(layout)
    assert systemd.asked() == [terminate]


def test_worker_that_lands_for_a_restart_is_left_alone(
    layout: Layout, systemd: Systemd, tree: Path
) -> None:
    systemd.has(ActiveState="deactivating", SubState="stop", MainPID=4711)
    systemd.answer("jobs", "123 concourse-worker.service restart running\n9 x.service start run\n")
    process(layout, {"CONCOURSE_TSA_HOST": "web:2222"})
    connected(layout)
    systemd.answer("journal", REGISTERED)
    assert not worker.ensure_running(layout)
    assert systemd.asked() == []
    systemd.answer("jobs", "123 concourse-worker.service stop running\n")
    assert worker.ensure_running(layout)


@pytest.mark.parametrize(("load", "said"), [("masked", "unmask"), ("not-found", "can't load")])
def test_service_that_cannot_start_says_why(
    layout: Layout, systemd: Systemd, load: str, said: str
) -> None:
    systemd.has(LoadState=load)
    with pytest.raises(ConcourseError, match=said):
        worker.ensure_running(layout)
