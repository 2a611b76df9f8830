"""The system user that the web runs as."""

from __future__ import annotations

import logging
import os
from pathlib import Path

from concourse.errors import ConcourseError
from concourse.paths import WebPaths
from files import ensure_dir, read_text, write_file
from files import remove as remove_file
from host import CommandError, Layout, run

log = logging.getLogger(__name__)

NAME = "concourse-web"
_LIMIT = 30.0  # seconds


def ids(layout: Layout) -> tuple[int, int] | None:
    """Return the user's and its group's id; None if there is no such user."""
    for line in (read_text(layout.at("/etc/passwd")) or "").splitlines():
        fields = line.split(":")
        if len(fields) > 3 and fields[0] == NAME:
            return int(fields[2]), int(fields[3])
    return None


def ensure_user(layout: Layout) -> tuple[int, int]:
    """Make the user exist, with a group of its own, no home and no shell.

    One that is there already is taken as it is, and never removed.

    Returns:
        Its id and its group's.

    Raises:
        ConcourseError: it could not be made.
    """
    if found := ids(layout):
        return found
    log.info("Making the system user %s", NAME)
    write_file(WebPaths(layout).own_account, f"{NAME}\n", mode=0o600)
    argv = [layout.program("useradd"), "--system", "--user-group", "--no-create-home"]
    argv += ["--home-dir", "/nonexistent", "--shell", "/usr/sbin/nologin"]
    argv += ["--comment", "Concourse web", NAME]
    try:
        run(argv, timeout=_LIMIT)
    except CommandError as error:
        raise ConcourseError(
            f"the user {NAME} could not be made ({error.what})", retry=True
        ) from error
    if found := ids(layout):
        return found
    raise ConcourseError(f"the user {NAME} could not be made", retry=True)


def remove_user(layout: Layout) -> None:
    """Remove the user if the charm made it; a failure is logged and changes nothing else."""
    mark = WebPaths(layout).own_account
    if not mark.exists():
        return
    try:
        if ids(layout):
            run([layout.program("userdel"), NAME], timeout=_LIMIT)
    except CommandError as error:
        log.warning("The user %s stays: %s", NAME, error)
        return
    remove_file(mark)


def ensure_folder(layout: Layout) -> tuple[int, int]:
    """Make the folder exist that the web reads and only root writes.

    Returns:
        The owner of the files in it: root, and the web's group.
    """
    owner = (os.geteuid(), ensure_user(layout)[1])
    folder = WebPaths(layout).folder
    ensure_dir(layout.config_dir)
    ensure_dir(folder, 0o750)
    if (folder.stat().st_uid, folder.stat().st_gid) != owner:
        os.chown(folder, *owner)
    return owner


def write_readable(layout: Layout, path: Path, content: str) -> bool:
    """Write a file that root owns and, beside it, the web's user alone can read."""
    return write_file(path, content, mode=0o640, owner=ensure_folder(layout))
