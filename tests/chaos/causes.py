"""What can be wrong with a machine, caused for real and taken away again.

Each fault is a context manager: it lasts for a `with` block.  The disk is the machine's own,
a tmpfs below an overlay: it is filled by taking away what it has left.
"""

from __future__ import annotations

import os
import signal
import subprocess
import textwrap
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, replace

from rehearsal import booting
from rehearsal.juju import Unit
from rehearsal.layer import OUTSIDE
from rehearsal.machine import Machine
from rehearsal.standins import gpu
from rehearsal.standins.gpu import Hardware
from rehearsal.world import World

CONFIG = "/etc/nvidia-container-runtime/config.toml"
SMI = "/usr/bin/nvidia-smi"
WORKER = "/etc/systemd/system/concourse-worker.service"
ONE_OF_TWO_LOST = replace(Hardware(), count=2, lost=(1,))
_TOOLKIT = f"{OUTSIDE}/world/libnvidia-container/stable/deb/*/"

# A file system that takes requests and never answers: who opens a file in it is in state D,
# and no signal ends it until the file system is gone (fuse: request_wait_answer).
_NEVER_ANSWERS = """
import ctypes, os, struct
os.makedirs("/run/hang", exist_ok=True)
handle = os.open("/dev/fuse", os.O_RDWR)
options = f"fd={handle},rootmode=40000,user_id=0,group_id=0".encode()
if ctypes.CDLL(None).mount(b"hang", b"/run/hang", b"fuse", 0, options):
    raise SystemExit("no mount")
while True:
    request = os.read(handle, 1 << 20)
    _, opcode, unique = struct.unpack_from("=IIQ", request)
    if opcode == 26:  # FUSE_INIT, the one that is answered
        major, minor = struct.unpack_from("=II", request, 40)
        body = struct.pack("=IIIIHHIIHHI", 7, min(minor, 31), 65536, 0, 0, 0, 65536, 1, 0, 0, 0)
        body += bytes(24)
        os.write(handle, struct.pack("=IiQ", 16 + len(body), 0, unique) + body)
        open("/run/hang-is-up", "w").close()
"""
_LOCKER = """
import fcntl, time
file = open("/var/lib/dpkg/lock-frontend", "w")
fcntl.lockf(file, fcntl.LOCK_EX)
open("/run/locked", "w").close()
time.sleep(600)
"""


@dataclass(frozen=True)
class Site:
    """A machine with a unit of the charm, to cause faults on."""

    machine: Machine
    world: World
    unit: Unit


Cause = Callable[[Site], AbstractContextManager[None]]


def shell(begin: str, end: str = "") -> Cause:
    """Return the fault that one script causes and another takes away."""

    @contextmanager
    def cause(site: Site) -> Iterator[None]:
        try:
            site.machine.shell(begin, timeout=60)
            yield
        finally:
            site.machine.shell(end, timeout=60)

    return cause


@contextmanager
def nothing(_: Site) -> Iterator[None]:
    """Leave the machine as it is; the fault is in an option."""
    yield


def both(*causes: Cause) -> Cause:
    """Return several faults at once."""

    @contextmanager
    def cause(site: Site) -> Iterator[None]:
        with ExitStack() as stack:
            for one in causes:
                stack.enter_context(one(site))
            yield

    return cause


def _remount(site: Site, option: str) -> None:
    holder = booting.children(booting.children(site.machine.keeper)[0])[0]
    argv = ["nsenter", "-t", str(holder), "-m", "mount", "-o", f"remount,{option}"]
    subprocess.run([*argv, str(site.machine.place)], check=True, timeout=20)


@contextmanager
def full_disk(site: Site) -> Iterator[None]:
    """Leave the disk not one block."""
    now = os.statvfs(site.machine.disk)
    try:
        _remount(site, f"size={(now.f_blocks - now.f_bfree) * now.f_frsize}")
        yield
    finally:
        _remount(site, f"size={now.f_blocks * now.f_frsize}")


@contextmanager
def no_inodes(site: Site) -> Iterator[None]:
    """Leave the disk not one inode."""
    now = os.statvfs(site.machine.disk)
    try:
        _remount(site, f"nr_inodes={now.f_files - now.f_ffree}")
        yield
    finally:
        _remount(site, f"nr_inodes={now.f_files}")


read_only_usr = shell("mount --bind /usr /usr && mount -o remount,bind,ro /usr", "umount -l /usr")


@contextmanager
def apt_locked(site: Site) -> Iterator[None]:
    """Have another process hold dpkg's lock."""
    with running(site, _LOCKER, "/run/locked"):
        yield


def smi(text: str) -> Cause:
    """Put another program in nvidia-smi's place."""

    @contextmanager
    def cause(site: Site) -> Iterator[None]:
        site.machine.shell(f"cp -a {SMI} /run/smi.kept; rm {SMI}")
        site.machine.write(SMI, text, mode=0o755)
        try:
            yield
        finally:
            site.machine.shell(f"cp -a --remove-destination /run/smi.kept {SMI}")

    return cause


@contextmanager
def smi_in_state_d(site: Site) -> Iterator[None]:
    """Have nvidia-smi wait in the kernel, where no signal reaches it."""
    site.machine.shell("[ -e /dev/fuse ] || mknod /dev/fuse c 10 229")
    opens = "#!/usr/bin/python3 -S\nopen('/run/hang/x')\n"
    with running(site, _NEVER_ANSWERS, "/run/hang-is-up"), smi(opens)(site):
        yield
    site.machine.shell("umount -l /run/hang", check=False)


def hardware(what: Hardware) -> Cause:
    """Have other hardware for a while."""

    @contextmanager
    def cause(site: Site) -> Iterator[None]:
        gpu.plug(site.machine, what)
        try:
            yield
        finally:
            gpu.plug(site.machine, Hardware())

    return cause


@contextmanager
def systemd_hung(site: Site) -> Iterator[None]:
    """Stop the machine's first process, from outside: inside it can't be."""
    os.kill(site.machine.leader, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(site.machine.leader, signal.SIGCONT)


def half_configured(site: Site) -> AbstractContextManager[None]:
    """Have a package of somebody else's that dpkg can't finish."""
    control = "Package: half\\nVersion: 1\\nArchitecture: all\\nMaintainer: x <x@x>\\n"
    return shell(
        "mkdir -p /run/p/half/DEBIAN; cd /run/p; rm -f /run/mended\n"
        f"printf '{control}Description: x\\n' >half/DEBIAN/control\n"
        "printf '#!/bin/sh\\n[ -e /run/mended ]\\n' >half/DEBIAN/postinst\n"
        "chmod 755 half/DEBIAN/postinst; dpkg-deb --build half >/dev/null\n"
        "dpkg -i half.deb || true",
        "touch /run/mended; dpkg --configure -a",
    )(site)


# dpkg is killed while the script of the toolkit's package runs, which waits for a pipe: what it
# has done so far lies in its journal.
killed_configuring = shell(
    f"mv {CONFIG} /run/config.kept; mkfifo {CONFIG}\n"
    f"dpkg -i {_TOOLKIT}*_1.20.0-1_*.deb >/dev/null 2>&1 &\n"
    "script=; for i in $(seq 300); do\n"
    "  script=$(pgrep -f '[/]nvidia-ctk config' | head -n 1) && [ -n \"$script\" ] && break\n"
    "  sleep 0.1\n"
    "done\n"
    "kill -KILL $(pgrep -x dpkg) $script; wait || true\n"
    f"rm {CONFIG}; mv /run/config.kept {CONFIG}\n"
    "ls /var/lib/dpkg/updates | grep -q '[0-9]'; dpkg --audit | grep -q ."
)
# Needs strace: dpkg is killed as it puts the first file of that package into its place.
killed_unpacking = shell(
    "strace -qq -f -o /dev/null -P /usr/bin/nvidia-container-runtime.dpkg-new"
    " --trace=rename --inject=rename:signal=KILL:when=1"
    f" dpkg --unpack {_TOOLKIT}nvidia-container-toolkit-base_1.20.0-1_*.deb >/dev/null 2>&1"
    " || true\n"
    "dpkg-query -W -f '${db:Status-Status}' nvidia-container-toolkit-base | grep -qx half-installed"
)


def config(script: str) -> Cause:
    """Put something else in config.toml's place; /run/before is a copy of it."""
    return shell(f"{script}\nrm -rf /run/before; cp -a {CONFIG} /run/before")


@contextmanager
def running(site: Site, script: str, sign: str) -> Iterator[None]:
    """Have a process in the machine that makes the file `sign` once it is under way."""
    site.machine.shell(f"rm -f {sign}")
    argv = site.machine.command(["/usr/bin/python3", "-c", textwrap.dedent(script)])
    process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, start_new_session=True)
    try:
        site.machine.shell(
            f"for i in $(seq 100); do [ -e {sign} ] && exit 0; sleep 0.1; done; exit 1"
        )
        yield
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
