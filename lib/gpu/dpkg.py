"""What dpkg knows, mending what it left half done, and waiting for its locks."""

from __future__ import annotations

import fcntl
import logging
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from files import read_text
from gpu.errors import GpuError, NotNowError
from host import CommandError, Layout, run, wait_until

log = logging.getLogger(__name__)

LOCK_LIMIT = 60.0
# Maintainer scripts take seconds.  Only one that hangs reaches this limit, and what the
# kill then leaves half configured is mended before the next use.
UNPACK_LIMIT = 1800.0
_QUERY_LIMIT = 60.0

ENV = {
    "DEBIAN_FRONTEND": "noninteractive",
    "NEEDRESTART_MODE": "l",  # on 22.04 and later it would restart services, this one's too
    "NEEDRESTART_SUSPEND": "1",
    "APT_LISTCHANGES_FRONTEND": "none",
    "LC_ALL": "C.UTF-8",  # failures are recognised by their text
}
_LOCKS = (
    "/var/lib/dpkg/lock-frontend",
    "/var/lib/dpkg/lock",
    "/var/lib/apt/lists/lock",
    "/var/cache/apt/archives/lock",
)
_SETTLED = frozenset({"installed ok", "config-files ok", "not-installed ok"})


@dataclass(frozen=True)
class Package:
    """What dpkg knows of a package that is installed, wholly or in part.

    Attributes:
        name: its name.
        version: the version that is there.
        held: whether the operator holds it (apt-mark hold).
        configured: whether its installation ran to its end.
    """

    name: str
    version: str
    held: bool = False
    configured: bool = True


def query(layout: Layout, names: Sequence[str]) -> dict[str, Package]:
    """Return those of the packages that are on the machine.

    While dpkg's database stays as it is, it is read once, whoever asks.

    Raises:
        GpuError: dpkg's database can't be read.
    """
    everything = _everything(layout, _stamp(layout))
    found = {}
    for name in names:
        want, status, version = everything.get(name, ("", "not-installed", ""))
        if status not in ("not-installed", "config-files"):
            found[name] = Package(name, version, want == "hold", status == "installed")
    return found


@lru_cache(maxsize=1)
def _everything(layout: Layout, _: object) -> dict[str, tuple[str, str, str]]:
    """Return what dpkg wants, has and has in which version, by package: as cheap as of one."""
    form = "${Package}\t${db:Status-Want}\t${db:Status-Status}\t${Version}\n"
    lines = (line.split("\t") for line in _dpkg_query(layout, form).splitlines())
    return {name: (want, status, version) for name, want, status, version in lines}


def _stamp(layout: Layout) -> object:
    """Return what changes with dpkg's database: it renames a new file over the old one.

    Between two of those its journal, the folder updates, has what is newer.
    """
    try:
        status = layout.at("/var/lib/dpkg/status").stat()
        updates = layout.at("/var/lib/dpkg/updates").stat()
    except OSError:
        return object()  # unlike any other
    return status.st_ino, status.st_mtime_ns, status.st_size, updates.st_mtime_ns


def ensure_mended(layout: Layout) -> bool:
    """Finish what an interrupted dpkg left half done; True if there was anything.

    A package that is only half unpacked isn't mended by this but by installing it again,
    so a failure here is logged and left to apt, which then says what is wrong.

    Raises:
        GpuError: dpkg's database can't be read, or somebody else is using it.
    """
    updates = layout.at("/var/lib/dpkg/updates")
    journal = updates.is_dir() and any(entry.name.isdigit() for entry in updates.iterdir())
    states = _dpkg_query(layout, "${db:Status-Status} ${db:Status-Eflag}\n").splitlines()
    if not journal and _SETTLED.issuperset(states):
        return False
    wait_for_locks(layout)
    log.info("Finishing an interrupted dpkg run")
    argv = [layout.program("dpkg"), "--force-confdef", "--force-confold", "--configure", "-a"]
    try:
        run(argv, timeout=UNPACK_LIMIT, env=ENV)
    except CommandError as error:
        log.warning("%s", error.what)
    return True


def wait_for_locks(layout: Layout, *, limit: float = LOCK_LIMIT) -> None:
    """Wait until nobody else uses apt or dpkg; at boot the machine's own timers do.

    Raises:
        GpuError: somebody still does after `limit` seconds.
    """
    if wait_until(lambda: _holder(layout) is None, timeout=limit, interval=1):
        return
    pid = _holder(layout) or 0
    name = (read_text(Path(f"/proc/{pid}/comm")) or "").strip() or "another process"
    raise NotNowError(f"apt is in use by {name} (pid {pid})", retry=True)


def _holder(layout: Layout) -> int | None:
    """Return who holds one of apt's locks, without taking it; None if nobody does."""
    for lock in _LOCKS:
        try:
            with layout.at(lock).open("rb") as file:
                # struct flock of 64-bit Linux: type, whence, start, length, pid (fcntl(2)).
                question = struct.pack("hhqqi4x", fcntl.F_WRLCK, 0, 0, 0, 0)
                answer = struct.unpack("hhqqi4x", fcntl.fcntl(file, fcntl.F_GETLK, question))
        except OSError:
            continue
        if answer[0] != fcntl.F_UNLCK:
            return int(answer[-1])
    return None


def _dpkg_query(layout: Layout, form: str) -> str:
    argv = [layout.program("dpkg-query"), "-W", "-f", form]
    try:
        done = run(argv, timeout=_QUERY_LIMIT, env=ENV, check=False)
    except CommandError as error:
        raise GpuError(error.what, retry=True) from error
    if done.returncode != 0:
        raise GpuError(f"dpkg-query failed: {done.stderr.strip()[:200]}", retry=True)
    return done.stdout
