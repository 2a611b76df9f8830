"""Control groups for one machine: made, entered, and swept away.

Everything that a machine runs lives below a group of its own in every mounted
hierarchy, so that nothing of it is left in the host's groups afterwards.
"""

from __future__ import annotations

import os
import re
import subprocess
import time
from contextlib import suppress
from pathlib import Path

ROOT = Path("/sys/fs/cgroup")
PREFIX = "rehearsal-"


def hierarchies() -> list[Path]:
    """Return where control groups are mounted: one place with v2, several with v1."""
    places = []
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        fields, _, rest = line.partition(" - ")
        if rest.split()[0] in ("cgroup", "cgroup2"):
            places.append(Path(fields.split()[4]))
    return [place for place in places if place.is_relative_to(ROOT) and place.is_dir()]


def mount_missing() -> None:
    """Mount sysfs and the control groups where a bare chroot has none of them."""
    if not Path("/sys/kernel").is_dir():
        _mount("-t", "sysfs", "sysfs", "/sys")
    if hierarchies():
        return
    lines = Path("/proc/self/cgroup").read_text().splitlines()
    names = [line.split(":")[1] for line in lines]
    if names == [""]:
        _mount("-t", "cgroup2", "cgroup2", str(ROOT))
        return
    _mount("-t", "tmpfs", "-o", "mode=755", "tmpfs", str(ROOT))
    for name in names:
        place = ROOT / (name.removeprefix("name=") or "unified")
        place.mkdir()
        if not name:
            _mount("-t", "cgroup2", "cgroup2", str(place))
        else:
            _mount("-t", "cgroup", "-o", f"none,{name}" if "=" in name else name, name, str(place))


def _mount(*arguments: str) -> None:
    subprocess.run(["mount", *arguments], check=True, timeout=20)


def is_unified() -> bool:
    """Return whether this machine has control groups v2 alone."""
    return (ROOT / "cgroup.controllers").exists()


def enter(name: str) -> None:
    """Make a group called `name` in every hierarchy and move this process into it.

    A hierarchy where that can't be done is left alone: the machine then shares the
    group that this process was in.
    """
    for place in hierarchies():
        group = place / name
        try:
            group.mkdir(exist_ok=True)
            _inherit_cpuset(place, group)
            (group / "cgroup.procs").write_text(str(os.getpid()))
        except OSError:
            _remove_tree(group)


def _inherit_cpuset(parent: Path, group: Path) -> None:
    """Fill the two cpuset files that a v1 group needs before a process may enter."""
    for name in ("cpuset.cpus", "cpuset.mems"):
        if (group / name).exists() and not is_unified():
            (group / name).write_text((parent / name).read_text())


def remove(name: str, *, timeout: float = 5.0) -> None:
    """Leave a group and remove it with all below it; its other processes must be ending."""
    me = str(os.getpid())
    deadline = time.monotonic() + timeout
    for place in hierarchies():
        with suppress(OSError):
            (place / "cgroup.procs").write_text(me)
        while not _remove_tree(place / name) and time.monotonic() < deadline:
            time.sleep(0.02)


def _remove_tree(group: Path) -> bool:
    for folder, _, _ in os.walk(group, topdown=False):
        with suppress(OSError):
            os.rmdir(folder)
    return not group.exists()


def sweep() -> None:
    """Remove the empty groups of machines whose keeper was killed before it could."""
    for place in hierarchies():
        for group in place.glob(f"{PREFIX}*"):
            owner = re.fullmatch(rf"{PREFIX}(\d+)", group.name)
            if owner and not Path(f"/proc/{owner[1]}").exists():
                _remove_tree(group)
