"""Who talks and who listens, read from /proc."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from files import read_text
from host import Layout

_ESTABLISHED = "01"  # include/net/tcp_states.h
_ACCEPTS = 0x10000  # __SO_ACCEPTCON, include/linux/net.h
_UNIT = re.compile(r"/([^/]+\.(?:service|scope))(?=/|$)", re.MULTILINE)


def is_connected(layout: Layout, pid: int, ports: Iterable[int]) -> bool:
    """Return whether a process has an established TCP connection to one of some ports."""
    process = layout.at(f"/proc/{pid}")
    wanted = set(ports)
    inodes = set(_sockets(process))
    for table in ("tcp", "tcp6"):
        for line in (read_text(process / "net" / table) or "").splitlines()[1:]:
            fields = line.split()
            if len(fields) < 10 or fields[3] != _ESTABLISHED or fields[9] not in inodes:
                continue
            if int(fields[2].rpartition(":")[2], 16) in wanted:
                return True
    return False


def listener(layout: Layout, path: str) -> int | None:
    """Return the process that listens on a unix socket.

    Args:
        layout: the paths.
        path: the socket's, absolute, below /run.

    Returns:
        Its id; 0 if there is one that can't be found (it may be outside of this
        container); None if nobody listens.
    """
    names = (path, f"/var{path}")
    for line in (read_text(layout.at("/proc/net/unix")) or "").splitlines()[1:]:
        fields = line.split(maxsplit=7)
        if len(fields) == 8 and fields[7] in names and int(fields[3], 16) & _ACCEPTS:
            return _owner(layout, fields[6])
    return None


def unit_of(layout: Layout, pid: int) -> str:
    """Return the systemd unit whose control group a process is in; "" if it is in none."""
    units: list[str] = _UNIT.findall(read_text(layout.at(f"/proc/{pid}/cgroup")) or "")
    return units[-1] if units else ""


def name_of(layout: Layout, pid: int) -> str:
    """Return a process' short name."""
    return (read_text(layout.at(f"/proc/{pid}/comm")) or "").strip()


def processes(layout: Layout) -> list[Path]:
    """Return the folder of every process in /proc."""
    return [path for path in layout.at("/proc").glob("[0-9]*") if path.name.isdigit()]


def _owner(layout: Layout, inode: str) -> int:
    def likely_last(process: Path) -> bool:
        return "containerd" not in name_of(layout, int(process.name))

    for process in sorted(processes(layout), key=likely_last):
        if inode in _sockets(process):
            return int(process.name)
    return 0


def _sockets(process: Path) -> Iterator[str]:
    """Yield the inodes of a process' sockets; none if it has ended or isn't ours to see."""
    with suppress(OSError):
        for handle in (process / "fd").iterdir():
            with suppress(OSError):
                target = str(handle.readlink())
                if target.startswith("socket:["):
                    yield target[8:-1]
