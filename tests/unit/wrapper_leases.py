"""The wrapper where GPUs are shared: the mode, leases of other containers, what a task got."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from gpu.wrapper import ensure_devices
from tests.unit.wrapper_rig import DEVICES, NVIDIA, TABLE, Outcome, Rig

COUNT = "CONCOURSE_GPU_COUNT"
LEASE, EXECS = "gpu-lease", "gpu-execs"


def share(rig: Rig, sharing: str, default: str | None = None, timeout: int = 0) -> None:
    standard = default or ("all" if sharing == "shared" else "1")
    ensure_devices(rig.layout, replace(TABLE, sharing=sharing, default=standard, timeout=timeout))


def start_of(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()[19]


def hold(rig: Rig, handle: str, uuids: str, pid: int | None = None, age: float = 0) -> Path:
    """Give another container a lease, that of a container whose creation this process is."""
    owner = os.getpid() if pid is None else pid
    bundle = rig.bundle.parent / handle
    bundle.mkdir()
    taken = float(Path("/proc/uptime").read_text().split()[0]) - age
    start = start_of(owner) if Path(f"/proc/{owner}").exists() else "1"
    (bundle / LEASE).write_text(f"{handle}\t{owner}\t{start}\t{taken:.2f}\t{uuids}\n")
    return bundle


def given(done: Outcome) -> str:
    """The UUIDs that a task got."""
    assert done.status == NVIDIA, done
    (value,) = [each for each in done.new_env if each.startswith(f"{DEVICES}=")]
    return value.partition("=")[2]
