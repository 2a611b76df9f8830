"""The file primitives: atomic, idempotent, and saying whether they changed anything.

Each writes a sibling temporary file, flushes it and renames it into place, so
that a reader, a kill or a power cut meets the old content or the new.
"""

from __future__ import annotations

import ctypes
import os
import secrets
import shutil
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

_AT_FDCWD = -100
_RENAME_EXCHANGE = 2  # linux/fs.h


def read_text(path: Path) -> str | None:
    """Return a file's text, or None if there is none that can be read."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None


def ensure_dir(path: Path, mode: int = 0o755) -> bool:
    """Make a folder (and those above it) exist with a mode; True if anything changed."""
    if path.is_dir():
        if path.stat().st_mode & 0o7777 == mode:
            return False
        path.chmod(mode)
        return True
    path.mkdir(parents=True, exist_ok=True)
    path.chmod(mode)
    return True


def write_file(
    path: Path,
    content: str | bytes,
    *,
    mode: int = 0o644,
    owner: tuple[int, int] | None = None,
) -> bool:
    """Make a file hold exactly `content` with `mode`, by an atomic rename.

    Readers see the old content or the new, never a part; after a power cut too.
    A symbolic link at `path` is replaced, not followed.

    Args:
        path: the file.
        content: all of it.
        mode: its permissions.
        owner: its user and group id; if None, whoever runs this.

    Returns:
        True if anything changed.
    """
    data = content.encode() if isinstance(content, str) else content
    if _same(path, data, mode, owner):
        return False
    ensure_parent(path)
    temporary = _temporary(path)
    try:
        handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "wb") as out:
            out.write(data)
            if owner is not None:
                os.fchown(out.fileno(), *owner)
            os.fchmod(out.fileno(), mode)
            out.flush()
            os.fsync(out.fileno())
        os.replace(temporary, path)
    except BaseException:
        with suppress(OSError):
            temporary.unlink()
        raise
    sync_dir(path.parent)
    return True


def _same(path: Path, data: bytes, mode: int, owner: tuple[int, int] | None) -> bool:
    if path.is_symlink() or not path.is_file():
        return False
    status = path.stat()
    if owner is not None and owner != (status.st_uid, status.st_gid):
        return False
    if status.st_mode & 0o7777 != mode or status.st_size != len(data):
        return False
    return path.read_bytes() == data


def ensure_symlink(link: Path, target: str | Path) -> bool:
    """Make `link` a symbolic link to `target` by an atomic rename; True if it changed.

    A file or another link at `link` is replaced; a folder there raises IsADirectoryError.
    """
    if link.is_symlink() and os.readlink(link) == str(target):
        return False
    ensure_parent(link)
    temporary = _temporary(link)
    os.symlink(target, temporary)
    _rename_over(temporary, link)
    return True


def same_inode(source: Path, target: Path) -> bool:
    """Return whether two names are hard links of one regular file (no links followed)."""
    try:
        one, two = os.lstat(source), os.lstat(target)
    except OSError:
        return False
    return (one.st_dev, one.st_ino) == (two.st_dev, two.st_ino)


def ensure_copy(source: Path, target: Path) -> bool:
    """Give a regular file a second name, by hard link or, where there is none, by copy.

    `target` is replaced atomically; `source` stays.  Mode, owner and times are kept.

    Returns:
        True if anything changed.
    """
    if same_inode(source, target):
        return False
    ensure_parent(target)
    temporary = _temporary(target)
    try:
        os.link(source, temporary, follow_symlinks=False)
    except OSError:  # no hard links here, or another file system
        shutil.copy2(source, temporary, follow_symlinks=False)
        status = os.lstat(source)
        os.chown(temporary, status.st_uid, status.st_gid)
        with open(temporary, "rb") as copy:
            os.fsync(copy.fileno())
    _rename_over(temporary, target)
    return True


def remove(path: Path) -> bool:
    """Remove a file, a link or a whole folder; True if there was one."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
        return True
    try:
        path.unlink()
    except FileNotFoundError:
        return False
    sync_dir(path.parent)
    return True


def exchange(one: Path, two: Path) -> None:
    """Swap two names in one step (renameat2, RENAME_EXCHANGE).

    Raises:
        OSError: the file system cannot, or a name is missing.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    a, b = os.fsencode(one), os.fsencode(two)
    if libc.renameat2(_AT_FDCWD, a, _AT_FDCWD, b, _RENAME_EXCHANGE) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), str(one), None, str(two))


def sibling(path: Path) -> Path:
    """Return a fresh hidden name beside `path`, for a folder that is renamed into place."""
    return path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")


def _temporary(path: Path) -> Path:
    """Return the name beside `path` that a change is prepared under, free of leftovers.

    It is always the same one, so that what a killed run left is taken up by the next.
    The charm has one writer at a time: Juju runs one hook on a machine at once.
    """
    temporary = path.with_name(f".{path.name}.tmp")
    with suppress(FileNotFoundError):
        temporary.unlink()
    return temporary


def clear_temporaries(paths: Iterable[Path]) -> None:
    """Remove what killed changes of some paths left, where no later change takes it up."""
    for path in paths:
        _temporary(path)


def ensure_parent(path: Path) -> None:
    """Make the folder above `path` exist."""
    path.parent.mkdir(parents=True, exist_ok=True)


def sync_dir(folder: Path) -> None:
    """Flush a folder's entries to disk, where the file system can."""
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _rename_over(temporary: Path, final: Path) -> None:
    try:
        # POSIX: renaming one hard link over another of the same file does nothing at all.
        os.replace(temporary, final)
    except BaseException:
        with suppress(OSError):
            temporary.unlink()
        raise
    if temporary.is_symlink() or temporary.exists():
        temporary.unlink()
    sync_dir(final.parent)
