"""The kind of machine that this is: metal, a virtual machine, LXD, another container."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass

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


def _kind(layout: Layout) -> str:
    container = _virt(layout, "--container")
    manager = _manager(layout)
    if container in {"lxc", "lxc-libvirt"} or manager == "lxc":
        return "lxd"
    # LXD's virtual machines have /dev/lxd/sock too: it decides only inside a container.
    if container != "none" and os.path.exists(layout.at("/dev/lxd/sock")):
        return "lxd"
    if container == "wsl":
        return "vm"  # systemd counts it as a container; its kernel and driver are a VM's
    if container not in {"none", ""} or manager:
        return "container"
    return "metal" if _virt(layout, "--vm") in {"none", ""} else "vm"


def _virt(layout: Layout, what: str) -> str:
    """Ask systemd-detect-virt; "none" if it found nothing, "" if it gave no answer."""
    try:
        done = run([layout.program("systemd-detect-virt"), what], timeout=5, check=False)
    except CommandError:
        return ""
    return done.stdout.strip()


def _manager(layout: Layout) -> str:
    """Return who started this container's first process, by that process' own environment."""
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
