"""What a machine's disk holds beyond this machine's, and what changed between two looks.

Everything that happens in a machine lies in its overlay's upper folder, so a look reads
that alone.  A file that was opened for writing and left as it was counts as unchanged.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
from collections.abc import Iterable
from pathlib import Path

# What apt, dpkg and the machine's own services keep for themselves; whatever happens there
# is told by the list of packages.
BOOKKEEPING = (
    "/etc/ld.so.cache",
    "/root/.cache",
    "/var/cache",
    "/var/lib/PackageKit",
    "/var/lib/apt",
    "/var/lib/dpkg",
    "/var/lib/juju",
    "/var/lib/systemd",
    "/var/log",
    "/var/tmp",
    "/mnt",
    "/media",
    "/run",
    "/tmp",
    "/dev",
)

Entry = tuple[str, ...]  # kind, mode, owner, and content or target
Footprint = dict[str, Entry]


def look(upper: Path, lower: Path = Path("/")) -> Footprint:
    """Return every path that differs from the lower folder's, and what it is now.

    Args:
        upper: an overlay's upper folder.
        lower: what the overlay lies on.
    """
    found: Footprint = {}
    for folder, folders, files in os.walk(upper):
        for name in (*folders, *files):
            path = Path(folder) / name
            place = "/" + str(path.relative_to(upper))
            if is_bookkeeping(place):
                continue
            now = describe(path)
            if now != describe(lower / place.lstrip("/")):
                found[place] = now
        folders[:] = [
            name
            for name in folders
            if not is_bookkeeping("/" + str((Path(folder) / name).relative_to(upper)))
        ]
    return found


def describe(path: Path) -> Entry:
    """Return what a path is: its kind, mode, owner, and content or target."""
    try:
        status = path.lstat()
    except OSError:
        return ("absent",)
    kind = stat.S_IFMT(status.st_mode)
    if kind == stat.S_IFCHR and status.st_rdev == 0:
        return ("absent",)  # the overlay's mark for a removed file
    owner = f"{status.st_uid}:{status.st_gid}"
    mode = oct(stat.S_IMODE(status.st_mode))
    if kind == stat.S_IFLNK:
        return ("link", owner, os.readlink(path))
    if kind == stat.S_IFDIR:
        return ("folder", mode, owner)
    if kind == stat.S_IFREG:
        return ("file", mode, owner, hashlib.sha256(path.read_bytes()).hexdigest())
    return ("special", mode, owner)


def changes(before: Footprint, after: Footprint) -> tuple[str, ...]:
    """Return the paths that are something else than before, sorted."""
    paths = before.keys() | after.keys()
    return tuple(sorted(path for path in paths if before.get(path) != after.get(path)))


def beside(paths: Iterable[str], owned: Iterable[str]) -> tuple[str, ...]:
    """Return those paths that no installed package brought.

    Args:
        paths: what changed.
        owned: the files and folders of the packages that were installed, and those that
            their own scripts make.
    """
    known = {re.sub("^/(bin|sbin|lib|lib64)/", r"/usr/\1/", path) for path in owned}
    return tuple(path for path in paths if path not in known)


def is_bookkeeping(place: str) -> bool:
    """Return whether a path is kept by apt, dpkg or the machine's own services."""
    return any(place == known or place.startswith(f"{known}/") for known in BOOKKEEPING)
