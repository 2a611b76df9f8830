"""What is seen of a worker: its state, whether the web has it, who has containerd's socket."""

from __future__ import annotations

import time

import pytest

from concourse import worker
from concourse.observation import WorkerState
from host import Layout
from tests.unit.workers import REGISTERED, Systemd, connected, line, process


def test_machine_without_a_worker(layout: Layout, systemd: Systemd) -> None:
    systemd.has(LoadState="not-found")
    assert worker.observe(layout) == WorkerState("absent")


def test_machine_without_systemd(layout: Layout) -> None:
    assert worker.observe(layout) == WorkerState("absent")


@pytest.mark.parametrize(
    ("properties", "state"),
    [
        ({}, WorkerState("inactive")),
        (
            {"ActiveState": "failed", "Result": "exit-code"},
            WorkerState("failed", result="exit-code"),
        ),
        (
            {"ActiveState": "activating", "SubState": "auto-restart", "Result": "signal"},
            WorkerState("failed", result="signal"),
        ),
        (
            {"ActiveState": "deactivating", "SubState": "stop", "MainPID": 4711},
            WorkerState("deactivating"),
        ),
    ],
)
def test_states(
    layout: Layout, systemd: Systemd, properties: dict[str, object], state: WorkerState
) -> None:
    systemd.has(**properties)
    assert worker.observe(layout) == state
    assert systemd.asked() == []


FAILED = line("worker.beacon-runner.failed")


@pytest.mark.parametrize(
    ("level", "newest", "age", "registered"),
    [
        ("info", REGISTERED, 10, True),
        ("info", line("worker.beacon-runner.beacon.rebalance.registered"), 10**5, True),
        (
            "info",
            line("worker.beacon-runner.beacon.rebalance.max-active-registrations-reached"),
            10**5,
            True,
        ),
        ("info", FAILED, 10, False),
        ("info", line("worker.beacon-runner.exiting"), 10, False),
        ("info", "", 10, False),
        ("info", "", 10**5, True),
        ("debug", REGISTERED, 10, True),
        ("error", "", 10, True),
        ("error", FAILED, 10, False),
        ("fatal", "", 10, True),
    ],
)
def test_registered(
    layout: Layout, systemd: Systemd, level: str, newest: str, age: int, registered: bool
) -> None:
    since = time.clock_gettime(time.CLOCK_MONOTONIC) - age
    systemd.runs(ActiveEnterTimestampMonotonic=max(int(since * 1e6), 0) if age < 10**5 else 0)
    process(layout, {"CONCOURSE_TSA_HOST": "web:2222", "CONCOURSE_LOG_LEVEL": level})
    connected(layout)
    systemd.answer("journal", newest)
    if age == 10**5 and time.clock_gettime(time.CLOCK_MONOTONIC) < 5 * 3600 and not newest:
        systemd.runs(ActiveEnterTimestampMonotonic="")
        registered = False  # this machine is younger than the journal's window
    assert worker.observe(layout).registered == registered


def test_a_clock_set_ahead_makes_no_registration_old(layout: Layout, systemd: Systemd) -> None:
    systemd.runs()
    process(layout, {"CONCOURSE_TSA_HOST": "web:2222"})
    connected(layout)
    newest = f"case \"$*\" in *--since=*) ;; *) echo '{REGISTERED.strip()}' ;; esac"
    systemd.answer("journal.sh", newest)
    assert worker.observe(layout).registered


@pytest.mark.parametrize("other", [{"port": 7788}, {"state": "02"}, {"inode": "556"}])
def test_without_a_connection_nothing_else_counts(
    layout: Layout, systemd: Systemd, other: dict[str, object]
) -> None:
    systemd.runs()
    process(layout, {"CONCOURSE_TSA_HOST": "web:2222"})
    connected(layout, **other)  # type: ignore[arg-type]
    systemd.answer("journal", REGISTERED)
    assert not worker.observe(layout).registered


def test_without_a_journal_the_connection_decides(layout: Layout, systemd: Systemd) -> None:
    systemd.runs()
    process(layout, {"CONCOURSE_TSA_HOST": "web:2222"})
    connected(layout)
    systemd.answer("journal.sh", "echo no journal >&2; exit 1")
    assert worker.observe(layout).registered


def listening(layout: Layout, pid: int, cgroup: str, comm: str = "containerd") -> None:
    net = layout.at("/proc/net")
    net.mkdir(parents=True, exist_ok=True)
    (net / "unix").write_text(
        "Num       RefCount Protocol Flags    Type St Inode Path\n"
        "0000000000000000: 00000003 00000000 00000000 0001 03 998 "
        "/run/containerd/containerd.sock\n"
        "0000000000000000: 00000002 00000000 00010000 0001 01 999 "
        "/run/containerd/containerd.sock\n"
    )
    folder = layout.at(f"/proc/{pid}")
    (folder / "fd").mkdir(parents=True)
    (folder / "fd/5").symlink_to("socket:[999]")
    (folder / "cgroup").write_text(cgroup)
    (folder / "comm").write_text(f"{comm}\n")


@pytest.mark.parametrize(
    ("cgroup", "name"),
    [
        ("0::/system.slice/containerd.service\n", "containerd"),
        ("12:pids:/x\n1:name=systemd:/system.slice/k3s.service\n", "k3s"),
        ("0::/system.slice/snap.docker.dockerd.service\n", "snap.docker.dockerd"),
        ("0::/lxc/x/system.slice/concourse-worker.service\n", ""),
        ("0::/system.slice/concourse-worker.service/sub\n", ""),
        ("0::/\n", "dockerd"),
    ],
)
def test_who_has_the_socket(layout: Layout, systemd: Systemd, cgroup: str, name: str) -> None:
    listening(layout, 4000, cgroup, comm="dockerd")
    assert worker.observe(layout).socket_taken == name


def test_holder_out_of_sight_is_still_one(layout: Layout, systemd: Systemd) -> None:
    listening(layout, 4000, "0::/x\n")
    layout.at("/proc/4000/fd/5").unlink()
    assert worker.observe(layout).socket_taken == "another program"
