"""The machine itself: real inside, and gone without a trace."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from rehearsal.groups import PREFIX, hierarchies
from rehearsal.machine import Machine, MachineError

SOURCE = Path(__file__).resolve().parents[2]
RUNNER = """
import signal, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # it may have been ignored
from rehearsal.machine import Machine
with Machine.boot() as machine:
    machine.shell("touch /etc/left-behind; setsid sleep 1000 </dev/null >/dev/null 2>&1 &")
    print(machine.keeper, machine.leader, machine.place, flush=True)
    time.sleep(1000)
"""


def test_it_is_a_machine_with_a_systemd_and_without_what_the_charm_brings(
    machine: Machine,
) -> None:
    assert machine.shell("systemctl is-system-running").strip() == "running"
    assert machine.shell("hostname").strip() == "gpu-worker-0"
    assert machine.shell("command -v jq runc containerd docker || true") == ""


def test_apt_is_real_inside_and_leaves_nothing_outside(machine: Machine) -> None:
    machine.shell("apt-get update -qq && apt-get install -qq -y hello", timeout=180)
    assert "Hello" in machine.shell("hello")
    there = subprocess.run(["dpkg-query", "-W", "hello"], capture_output=True, check=False)
    assert there.returncode != 0


def test_a_command_is_ended_at_its_limit(machine: Machine) -> None:
    started = time.monotonic()
    with pytest.raises(MachineError, match="did not finish within 1 s"):
        machine.run(["sh", "-c", "sleep 777 & sleep 778"], timeout=1)
    assert time.monotonic() - started < 5
    deadline = time.monotonic() + 5
    while machine.shell("pgrep -x -f 'sleep 77[78]' || true"):
        assert time.monotonic() < deadline
        time.sleep(0.1)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_nothing_is_left_of_it_however_its_owner_ends(number: signal.Signals) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", RUNNER],
        cwd=SOURCE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as owner:
        assert owner.stdout is not None
        keeper, leader, place = owner.stdout.readline().split()
        os.kill(owner.pid, number)
    left = [Path(f"/proc/{keeper}"), Path(f"/proc/{leader}"), Path(place)]
    left += [hierarchy / f"{PREFIX}{keeper}" for hierarchy in hierarchies()]
    deadline = time.monotonic() + 15
    while still := [path for path in left if path.exists()]:
        assert time.monotonic() < deadline, still
        time.sleep(0.1)
    assert not Path("/etc/left-behind").exists()
    assert place not in Path("/proc/mounts").read_text()


def test_without_root_it_says_so_in_one_sentence() -> None:
    argv = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
    with tempfile.TemporaryDirectory() as readable:  # root's clone may be for root alone
        os.chmod(readable, 0o755)
        for name in ("rehearsal", "lib", "packing"):
            shutil.copytree(SOURCE / name, Path(readable, name))
        done = subprocess.run(
            [*argv, "/usr/bin/python3", "-B", "-m", "rehearsal"],
            cwd=readable,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert done.returncode != 0
    assert (done.stdout, done.stderr) == ("", "The rehearsal needs root: run it with sudo.\n")
