"""The kind of machine that this is: metal, a virtual machine, LXD, another container."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from functools import lru_cache

from files import read_text
from host import CommandError, Layout, run


@dataclass(frozen=True)
class Place:
    """The kind of machine that this is.

    Attributes:
        kind: "metal", "vm", "lxd" (an LXD container) or "container" (another one).
        name: the host name without its domain; in LXD it is the container's name.
        unprivileged: whether root here is an ordinary user of the host.
    """

    kind: str = "metal"
    name: str = ""
    unprivileged: bool = False

    @property
    def contained(self) -> bool:
        """Whether kernel, driver and /sys are another machine's."""
        return self.kind in {"lxd", "container"}


def see(layout: Layout) -> Place:
    """Look where this is; read-only, bounded, never raises."""
    return Place(_kind(layout), _name(layout), _unprivileged(layout))


@lru_cache(maxsize=1)  # a machine doesn't become another while a hook runs
def _kind(layout: Layout) -> str:
    container = _virt(layout, "--container") or _manager(layout)
    # LXD's virtual machines have /dev/lxd/sock too: it says LXD only inside a container.
    inside = container not in {"none", "wsl"} and os.path.exists(layout.at("/dev/lxd/sock"))
    if inside or container in {"lxc", "lxc-libvirt"}:
        return "lxd"
    if container not in {"none", "", "wsl"}:
        return "container"
    # systemd counts WSL as a container, but kernel and driver are those of its own VM.
    if container == "wsl" or _virt(layout, "--vm") not in {"none", ""}:
        return "vm"
    return "metal"


def _virt(layout: Layout, what: str) -> str:
    """Ask systemd-detect-virt; "none" if it found nothing, "" if it gave no answer."""
    try:
        done = run([layout.program("systemd-detect-virt"), what], timeout=5, check=False)
    except CommandError:
        return ""
    return done.stdout.strip()


def _manager(layout: Layout) -> str:
    """Return who started this container, as its first process was told; "" if unknown."""
    for variable in (read_text(layout.at("/proc/1/environ")) or "").split("\0"):
        name, _, value = variable.partition("=")
        if name == "container":
            return value
    return ""


def _name(layout: Layout) -> str:
    for source in ("/proc/sys/kernel/hostname", "/etc/hostname"):
        name = (read_text(layout.at(source)) or "").strip().partition(".")[0]
        if re.fullmatch(r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?", name):
            return name
    return ""


def _unprivileged(layout: Layout) -> bool:
    """Whether user ids are mapped; the whole range onto itself means they are not."""
    mapping = (read_text(layout.at("/proc/self/uid_map")) or "").split()
    return bool(mapping) and mapping != ["0", "0", "4294967295"]
