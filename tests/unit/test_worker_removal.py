"""Workers that are stopped and removed, and what comes back or stays on the machine."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from concourse import trees, worker
from concourse.errors import ConcourseError
from concourse.teardown import mounts_below
from files import ensure_symlink
from host import Layout
from tests.unit.workers import WISH, Systemd


@pytest.fixture
def child() -> Iterator[subprocess.Popen[bytes]]:
    """A process that ends on SIGUSR2 or SIGTERM."""
    script = "trap 'exit 0' USR2; while :; do sleep 0.05; done"
    process = subprocess.Popen(["/bin/sh", "-c", script], start_new_session=True)
    yield process
    process.kill()
    process.wait()


def follows(systemd: Systemd, child: subprocess.Popen[bytes]) -> None:
    """Let the stand-in be about a real process: shown while it lives, killed when asked."""
    shown = "LoadState=loaded\\nUnitFileState=disabled\\n"
    running = shown + f"ActiveState=active\\nMainPID={child.pid}\\n"
    (systemd.layout.root / "answers/show").unlink()
    # a child that nobody waited for yet is a zombie, and gone as far as systemd is concerned
    systemd.answer(
        "show.sh",
        f"if grep -qs '^State:.[^Z]' /proc/{child.pid}/status; then printf '{running}'\n"
        f"else printf '{shown}ActiveState=inactive\\nMainPID=0\\n'; fi",
    )
    systemd.answer(
        "kill.sh",
        f"for a; do case $a in --signal=SIG*) kill -${{a#--signal=SIG}} {child.pid}; esac; done",
    )


def test_retiring_waits_for_the_worker_to_leave(
    layout: Layout, systemd: Systemd, child: subprocess.Popen[bytes]
) -> None:
    follows(systemd, child)
    time.sleep(0.2)
    worker.stop(layout, retire=True, timeout=10)
    assert child.wait(timeout=1) == 0
    assert systemd.asked() == ["kill --kill-who=main --signal=SIGUSR2 concourse-worker.service"]


def test_worker_that_does_not_drain_in_time_is_told_to_stop(
    layout: Layout, systemd: Systemd, child: subprocess.Popen[bytes]
) -> None:
    follows(systemd, child)
    worker.stop(layout, retire=False, timeout=1)
    assert child.wait(timeout=1) == -signal.SIGTERM
    assert systemd.asked() == [
        "stop --no-block concourse-worker.service",
        "kill --kill-who=main --signal=SIGTERM concourse-worker.service",
    ]


def test_stopped_worker_no_longer_starts_with_the_machine(layout: Layout, systemd: Systemd) -> None:
    worker.stop(layout, retire=True, timeout=10)
    assert systemd.asked() == ["disable concourse-worker.service"]


def test_worker_between_two_tries_is_stopped(layout: Layout, systemd: Systemd) -> None:
    systemd.has(ActiveState="activating", SubState="auto-restart", UnitFileState="disabled")
    worker.stop(layout, retire=True, timeout=10)
    assert systemd.asked() == ["stop concourse-worker.service"]


def test_removal_leaves_the_machine_as_it_was(layout: Layout, systemd: Systemd, tree: Path) -> None:
    before = {path for path in layout.root.rglob("*") if "etc" in path.parts}
    outside = layout.at("/srv/builds")
    outside.mkdir(parents=True)
    (outside / "precious").write_text("x")
    worker.ensure_files(layout, replace(WISH, containerd_config=layout.gpu_containerd), tree)
    layout.concourse.symlink_to("concourse-releases/8.3.0")
    (layout.work_dir / "link").symlink_to(outside)
    (layout.state / "downloads").mkdir(parents=True)
    systemd.has(UnitFileState="disabled")
    systemd.asked()
    worker.remove(layout)
    assert systemd.asked() == ["daemon-reload", "reset-failed concourse-worker.service"]
    assert (outside / "precious").read_text() == "x"
    for gone in (
        "/opt/concourse",
        "/opt/concourse-releases",
        "/etc/concourse",
        "/var/lib/concourse",
    ):
        assert not os.path.lexists(layout.at(gone)), gone
    after = {path for path in layout.root.rglob("*.service") if "etc" in path.parts}
    assert after <= before
    worker.remove(layout)  # and again


def test_a_worker_that_was_here_before_comes_back_at_removal(
    layout: Layout, systemd: Systemd, tree: Path
) -> None:
    theirs = {
        layout.worker_unit: "[Service]\nExecStart=/opt/concourse/bin/concourse worker\n",
        layout.worker_env: "CONCOURSE_NAME=old\n",
    }
    for path, text in theirs.items():
        path.parent.mkdir(parents=True)
        path.write_text(text)
        path.chmod(0o640)
    (layout.concourse / "bin").mkdir(parents=True)
    (layout.concourse / "bin/old").write_text("x")
    trees.adopt(layout)
    for name in ("worker-0", "worker-1"):
        worker.ensure_files(layout, replace(WISH, name=name), tree)
    assert layout.worker_unit.read_text().startswith("# Written by the charm")
    ensure_symlink(layout.concourse, "concourse-releases/8.3.0")
    systemd.has(UnitFileState="disabled")
    systemd.asked()
    worker.remove(layout)
    assert systemd.asked() == [
        "daemon-reload",
        "reset-failed concourse-worker.service",
        "enable concourse-worker.service",
    ]
    worker.remove(layout)
    assert systemd.asked() == []
    for path, text in theirs.items():
        assert (path.read_text(), path.stat().st_mode & 0o777) == (text, 0o640)
    assert [path.name for path in (layout.concourse / "bin").iterdir()] == ["old"]
    assert not layout.trees.exists()
    assert list(layout.state.iterdir()) == []


def test_a_link_that_was_the_service_comes_back_as_a_link(
    layout: Layout, systemd: Systemd, tree: Path
) -> None:
    layout.worker_unit.parent.mkdir(parents=True)
    layout.worker_unit.symlink_to("/srv/nowhere/concourse-worker.service")
    systemd.has(UnitFileState="linked")
    worker.ensure_files(layout, WISH, tree)
    assert not layout.worker_unit.is_symlink()
    worker.remove(layout)
    assert os.readlink(layout.worker_unit) == "/srv/nowhere/concourse-worker.service"
    assert "enable concourse-worker.service" not in systemd.asked()


def test_a_file_that_somebody_put_there_since_is_not_removed(
    layout: Layout, systemd: Systemd, tree: Path
) -> None:
    worker.ensure_files(layout, WISH, tree)
    layout.worker_unit.write_text("[Service]\n")
    worker.remove(layout)
    assert layout.worker_unit.read_text() == "[Service]\n"


def test_mounts_below_are_found_deepest_first(layout: Layout) -> None:
    layout.work_dir.mkdir(parents=True)
    root = layout.work_dir
    table = layout.at("/proc/self/mountinfo")
    table.parent.mkdir(parents=True)
    points = [f"{root}/volumes", f"{root}/volumes/a\\040b/c", str(root), "/", f"{root}2/x"]
    table.write_text("".join(f"1 2 0:3 / {point} rw - tmpfs x rw\n" for point in points))
    assert mounts_below(layout, root) == [f"{root}/volumes/a b/c", f"{root}/volumes"]


def test_folder_that_is_still_mounted_into_is_not_deleted(layout: Layout, systemd: Systemd) -> None:
    (layout.work_dir / "volumes").mkdir(parents=True)
    table = layout.at("/proc/self/mountinfo")
    table.parent.mkdir(parents=True)
    table.write_text(f"1 2 0:3 / {layout.work_dir}/volumes rw - tmpfs x rw\n")
    with pytest.raises(ConcourseError, match="can't be unmounted"):
        worker.remove(layout)
    assert (layout.work_dir / "volumes").is_dir()


def test_containers_that_outlived_the_worker_are_ended(
    layout: Layout, systemd: Systemd, tree: Path, tmp_path: Path
) -> None:
    layout.concourse.symlink_to("concourse-releases/8.3.0")
    (tree / "bin/runc.real").write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/runc-calls\n')
    (tree / "bin/runc.real").chmod(0o755)
    state = layout.at("/run/containerd/runc/concourse")
    (state / "one").mkdir(parents=True)
    shim = subprocess.Popen(["/bin/sleep", "100"])
    other = subprocess.Popen(["/bin/sleep", "100"])
    for process_id, namespace in ((shim.pid, "concourse"), (other.pid, "moby")):
        layout.at(f"/proc/{process_id}").mkdir(parents=True)
        line = f"/x/containerd-shim-runc-v2\0-namespace\0{namespace}\0-id\0one\0"
        layout.at(f"/proc/{process_id}/cmdline").write_text(line)
    try:
        worker.remove(layout)
        assert shim.wait(timeout=2) == -signal.SIGKILL
        assert other.poll() is None
    finally:
        other.kill()
        other.wait()
        shim.kill()
        shim.wait()
    assert (tmp_path / "runc-calls").read_text() == f"--root {state} delete --force one\n"
    assert not state.exists()
