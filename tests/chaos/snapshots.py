"""A machine's disk as it was, put back under a running systemd in about a second.

Only what changed since is touched: everything that happens in a machine lies in its overlay's
upper folder, and there a change of a path shows in its inode and its time of change.
"""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
from pathlib import Path

from rehearsal.footprint import Footprint, describe, is_bookkeeping
from rehearsal.machine import Machine

# Juju's, the journal's, systemd's own and what lives in memory; and the running worker's data.
_LEFT = (
    "/var/lib/juju",
    "/var/lib/systemd",
    "/var/lib/concourse/worker",
    "/var/log",
    "/root/.cache",
    "/mnt",
    "/media",
    "/run",
    "/tmp",
    "/dev",
    "/proc",
    "/sys",
)
_Sign = tuple[int, int, int]


class Snapshot:
    """A copy of what a machine's disk holds beyond this machine's.

    Args:
        machine: whose; all that was started in it is to be quiet.
    """

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._upper = machine.disk / "upper"
        self._copy = Path(tempfile.mkdtemp(prefix="snapshot-", dir=machine.disk))
        self._signs = self._look()
        self._hiding: set[str] = set()  # what lets nothing of the lower folder through
        for place in sorted(self._signs):
            _copy(self._upper / place, self._copy / place)
            if _hides(self._upper / place):
                self._hiding.add(place)

    def restore(self) -> int:
        """Put everything back; return how many paths that were."""
        now, root = self._look(), self._machine.root
        different = [place for place in now if now[place] != self._signs.get(place)]
        gone = [place for place in self._signs if place not in now]
        for place in sorted({*different, *gone}):
            target = root / place
            source = self._origin(place)
            if _is_folder(source):
                if not _is_folder(target):
                    _remove(target)
                    target.mkdir()
                _like(source, target)
                continue
            _remove(target)
            if os.path.lexists(source) and not _is_whiteout(source):
                _copy(source, target)
        self._signs = self._look()
        return len(different) + len(gone)

    def changed(self) -> Footprint:
        """Return every path that is something else than it was, and what it is now."""
        found: Footprint = {}
        for place, sign in self._look().items():
            if sign == self._signs.get(place) or is_bookkeeping(f"/{place}"):
                continue
            now = describe(self._upper / place)
            if now != describe(self._origin(place)):
                found[f"/{place}"] = now
        return found

    def _origin(self, place: str) -> Path:
        """Return what a path was: in the copy, or in what the overlay lies on."""
        above = {str(folder) for folder in Path(place).parents}
        copied = place in self._signs or above & self._hiding
        return (self._copy if copied else Path("/")) / place

    def _look(self) -> dict[str, _Sign]:
        """Return every path of the upper folder with what tells a change of it."""
        found: dict[str, _Sign] = {}
        for folder, folders, files in os.walk(self._upper):
            base = os.path.relpath(folder, self._upper)
            prefix = "" if base == "." else f"{base}/"
            for name in (*folders, *files):
                status = os.lstat(os.path.join(folder, name))
                # A folder's time changes with what is in it, which is looked at by itself.
                changed = 0 if stat.S_ISDIR(status.st_mode) else status.st_ctime_ns
                found[prefix + name] = (status.st_ino, status.st_mode, changed)
            folders[:] = [name for name in folders if f"/{prefix}{name}" not in _LEFT]
        return {place: sign for place, sign in found.items() if f"/{place}" not in _LEFT}


def _is_folder(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink()


def _hides(path: Path) -> bool:
    """Return whether nothing below a path of the upper folder is seen of the lower one."""
    if not _is_folder(path):
        return True
    try:
        return os.getxattr(path, "trusted.overlay.opaque") == b"y"
    except OSError:
        return False


def _is_whiteout(path: Path) -> bool:
    status = path.lstat()
    return stat.S_ISCHR(status.st_mode) and status.st_rdev == 0


def _remove(path: Path) -> None:
    if _is_folder(path):
        shutil.rmtree(path)
    elif os.path.lexists(path):
        path.unlink()


def _like(source: Path, target: Path) -> None:
    """Give a path another's mode and owner."""
    status = source.lstat()
    os.chown(target, status.st_uid, status.st_gid, follow_symlinks=False)
    if not source.is_symlink():
        target.chmod(stat.S_IMODE(status.st_mode))


def _copy(source: Path, target: Path) -> None:
    """Copy one path, without what is in it if it is a folder."""
    target.parent.mkdir(parents=True, exist_ok=True)
    status = source.lstat()
    if _is_folder(source):
        target.mkdir(exist_ok=True)
    elif source.is_symlink():
        target.symlink_to(os.readlink(source))
    elif stat.S_ISREG(status.st_mode):
        shutil.copy2(source, target)
    else:
        os.mknod(target, status.st_mode, status.st_rdev)
    _like(source, target)
