"""Who holds which GPU: the leases that the wrapper leaves in containers' bundles, read back.

The wrapper's templates/runc-gpu-leases.awk judges by the same rule; a property test
holds the two to each other.  docs/explanation/sharing.md gives the reasons.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from host import Layout

GRACE = 300  # seconds from the lease in which the task's process may still be on its way
_DEAD = "ZXx"  # state letters of processes that are over, reaped or not (proc(5))


@dataclass(frozen=True)
class Lease:
    """A container's hold on GPUs.

    Attributes:
        handle: the container's, as `fly containers` shows it.
        uuids: the GPUs or MIG devices.
        age: seconds since it was taken.
    """

    handle: str
    uuids: tuple[str, ...]
    age: float


def held(layout: Layout) -> tuple[Lease, ...]:
    """Return the leases that count now, of all containers of the worker, oldest first."""
    uptime = float((_text(layout.at("/proc/uptime")) or "0").split()[0])
    found = []
    for path in layout.bundles.glob("*/gpu-lease"):
        fields = (_text(path) or "").rstrip("\n").split("\t")
        if len(fields) != 5 or not re.fullmatch(r"\d+(\.\d+)?", fields[3]):
            continue  # its writer was killed: it has no owner
        handle, pid, start, taken, uuids = fields
        lease = Lease(handle, tuple(uuids.split(",")), uptime - float(taken))
        if _counts(layout, path.parent, lease, pid, start):
            found.append(lease)
    return tuple(sorted(found, key=lambda lease: -lease.age))


def _counts(layout: Layout, bundle: Path, lease: Lease, pid: str, start: str) -> bool:
    if _started(layout, pid)[0] == start:
        return True  # the container is being created
    init = (_text(bundle / "init.pid") or "").partition("\n")[0]
    if not re.fullmatch("[1-9][0-9]*", init) or not _started(layout, init)[0]:
        return False
    group = _group(layout, init, lease.handle)
    if group is None:
        return False
    marks = [line.split() for line in (_text(bundle / "gpu-execs") or "").splitlines()]
    if any(len(mark) > 1 and _started(layout, mark[0])[0] == mark[1] for mark in marks):
        return True  # a process is on its way into the container
    return (not marks and lease.age < GRACE) or _inhabited(layout, group, init)


def _inhabited(layout: Layout, group: Path, init: str) -> bool:
    """Whether a process besides init lives in a cgroup or below it; yes if that can't be read."""
    own = (_text(group / "cgroup.procs") or "").split()
    if any(pid != init and _started(layout, pid)[0] for pid in own):
        return True
    tasks = (_text(group / "pids.current") or "").strip()
    start, threads = _started(layout, init)
    if not start:
        return False
    if len(own) == 1 and tasks and int(tasks) <= threads:
        return False
    pids = [pid for path in _below(group) for pid in (_text(path) or "").split()]
    if any(pid != init and _started(layout, pid)[0] for pid in pids):
        return True
    return init not in pids and bool(_started(layout, init)[0])


def _below(group: Path) -> Iterator[Path]:
    try:
        yield from group.rglob("cgroup.procs")
    except OSError:
        return  # a cgroup went away meanwhile


def _group(layout: Layout, init: str, handle: str) -> Path | None:
    """Return the folder of a container's cgroup; None if a process belongs elsewhere."""
    paths = {}
    for line in (_text(layout.at(f"/proc/{init}/cgroup")) or "").splitlines():
        _, controllers, path = line.split(":", 2)
        paths[controllers] = path
    root = layout.at("/sys/fs/cgroup")
    controller = next((name for name in ("pids", "devices", "") if name in paths), None)
    if controller is None:
        return None
    whole = paths[controller]
    place = f"{whole}/".find(f"/{handle}/")
    if place >= 0:
        whole = whole[: place + 1 + len(handle)]
    elif handle not in whole:
        return None
    parts = [part for part in whole.split("/") if part]
    # In a container the path can begin further up than what is mounted here.
    for start in range(len(parts)):
        there = (root / controller).joinpath(*parts[start:])
        if _text(there / "cgroup.procs") is not None:
            return there
    return (root / controller).joinpath(*parts)


def _started(layout: Layout, pid: str) -> tuple[str, int]:
    """Return a process' start time in ticks and its threads; ("", 0) if it is dead or no more."""
    fields = (_text(layout.at(f"/proc/{pid}/stat")) or "").rpartition(") ")[2].split()
    if len(fields) < 20 or fields[0] in _DEAD:
        return "", 0
    return fields[19], int(fields[17])


def _text(path: Path) -> str | None:
    """Return a file's text, None if it can't be read: processes and bundles come and go."""
    try:
        return path.read_text(errors="replace")
    except OSError:
        return None
