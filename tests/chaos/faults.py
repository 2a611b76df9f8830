"""What can be wrong with a machine, caused for real and taken away again.

Each fault is a context manager: it lasts for a `with` block.  The disk is the machine's own,
a tmpfs below an overlay: it is filled by taking away what it has left.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

from rehearsal import booting
from rehearsal.juju import Unit
from rehearsal.machine import Machine
from rehearsal.standins import gpu, packages
from rehearsal.standins.gpu import Hardware
from rehearsal.world import World

CONFIG = "/etc/nvidia-container-runtime/config.toml"
SMI = "/usr/bin/nvidia-smi"
WORKER = "/etc/systemd/system/concourse-worker.service"

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

    @property
    def toolkit(self) -> str:
        """The toolkit's repository, below the folder that is served."""
        return f"{packages.TOOLKIT}/{self.machine.shell('dpkg --print-architecture').strip()}"


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
    with _running(site, _LOCKER, "/run/locked"):
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
    with _running(site, _NEVER_ANSWERS, "/run/hang-is-up"), smi(opens)(site):
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


def mirror(head: bytes, every: float, port: int) -> Cause:
    """Serve what never comes to its end: a head, and a byte now and then."""

    def accept(listener: socket.socket) -> None:
        with suppress(OSError):  # the listener is closed
            while True:
                argv = (listener.accept()[0], head, every)
                threading.Thread(target=_drip, args=argv, daemon=True).start()

    @contextmanager
    def cause(site: Site) -> Iterator[None]:
        listener = site.machine.listen(port)
        threading.Thread(target=accept, args=(listener,), daemon=True).start()
        try:
            yield
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            listener.close()

    return cause


def _drip(connection: socket.socket, head: bytes, every: float) -> None:
    with connection, suppress(OSError):
        connection.recv(65536)
        connection.sendall(head)
        while True:
            time.sleep(every)
            connection.sendall(b"x")


def damaged(pattern: str, how: Callable[[bytes], bytes]) -> Cause:
    """Have the world serve other bytes than it says."""

    @contextmanager
    def cause(site: Site) -> Iterator[None]:
        found = [path for path in site.world.folder.rglob(pattern) if path.is_file()]
        assert found, pattern
        kept = {path: path.read_bytes() for path in found}
        try:
            for path, content in kept.items():
                assert how(content) != content, path
                path.write_bytes(how(content))
            yield
        finally:
            for path, content in kept.items():
                path.write_bytes(content)

    return cause


def garbled(content: bytes) -> bytes:
    """Return as many bytes, of which the last 900 are others."""
    return content[:-900] + bytes(byte ^ 0xFF for byte in content[-900:])


def made_at(seconds: float) -> Cause:
    """Have the repository be of another time than the machine's clock."""
    rule = "/etc/apt/apt.conf.d/zz-dates"  # this machine's own mirror may have them ignored

    @contextmanager
    def cause(site: Site) -> Iterator[None]:
        packages.publish(site.machine, site.toolkit, date=time.time() + seconds)
        site.machine.write(rule, 'Acquire::Check-Date "true";\n')
        try:
            yield
        finally:
            site.machine.shell(f"rm {rule}")
            packages.publish(site.machine, site.toolkit)

    return cause


def half_configured(site: Site) -> AbstractContextManager[None]:
    """Have a package of somebody else's that dpkg can't finish."""
    control = "Package: half\\nVersion: 1\\nArchitecture: all\\nMaintainer: x <x@x>\\n"
    return shell(
        "mkdir -p /run/p/half/DEBIAN; cd /run/p; rm -f /run/mended\n"
        f"printf '{control}Description: x\\n' >half/DEBIAN/control\n"
        "printf '#!/bin/sh\\n[ -e /run/mended ]\\n' >half/DEBIAN/postinst\n"
        "chmod 755 half/DEBIAN/postinst; dpkg-deb --build half >/dev/null\n"
        "dpkg -i half.deb || true",
        "touch /run/mended",
    )(site)


@contextmanager
def _running(site: Site, script: str, sign: str) -> Iterator[None]:
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


def scale(charm: Path) -> Path:
    """Divide the limits of an unpacked charm, so that a fault costs seconds; return it."""
    limits = {
        "lib/gpu/dpkg.py": {"LOCK_LIMIT": 3.0},
        "lib/gpu/apt.py": {"UPDATE_LIMIT": 15.0, "DOWNLOAD_LIMIT": 60.0},
        "lib/gpu/download.py": {"_LIMIT": 6.0, "_STEP_LIMIT": 3.0},
        "src/worker_workload.py": {"START_LIMIT": 10.0, "RESTART_LIMIT": 15.0},
    }
    for name, values in limits.items():
        file = charm / name
        text = file.read_text()
        for constant, value in values.items():
            lines = text.splitlines(keepends=True)
            at = [n for n, line in enumerate(lines) if line.startswith(f"{constant} = ")]
            assert len(at) == 1, (name, constant)
            lines[at[0]] = f"{constant} = {value}\n"
            text = "".join(lines)
        file.write_text(text.replace("Timeout=30", "Timeout=2").replace("Retries=2", "Retries=0"))
    return charm


TWO_ONE_LOST = replace(Hardware(), count=2, lost=(1,))
