"""Unpacks a release tarball into a folder, trusting nothing that it says about paths.

Python's own extraction filters differ between 3.10 and 3.14, so every member is
checked and written here: regular files, folders and links inside the top folder,
and nothing else.
"""

from __future__ import annotations

import errno
import gzip
import os
import shutil
import tarfile
import zlib
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import IO

from concourse.errors import ConcourseError
from files import sync_dir
from words import shown

TOP = "concourse"  # every member of a release lies below it
_CHUNK = 1 << 20
_DAMAGED = (
    *(tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile),
    # Of numbers, times, names and headers upon headers that no tar program writes.
    *(ValueError, OverflowError, RecursionError),
)


def unpacked_size(tarball: Path) -> int:
    """Return how many bytes a .tgz takes when unpacked, in all likelihood.

    gzip's last four bytes are the length modulo 2^32 (RFC 1952, ISIZE); a release's
    content is already compressed for the most part, so it never shrinks below the
    file's own size.
    """
    size = tarball.stat().st_size
    with tarball.open("rb") as file:
        file.seek(max(size - 4, 0))
        length = int.from_bytes(file.read(4), "little")
    while length < size * 0.9:
        length += 1 << 32
    return length


def unpack(tarball: Path, target: Path, *, at: Callable[[int], None]) -> None:
    """Unpack what lies below `concourse/` in a .tgz into the new folder `target`.

    Every file is flushed to disk.  Owner is the user that unpacks; set-id bits and
    write permission for others are dropped.

    Args:
        tarball: the file.
        target: a folder that doesn't exist yet.
        at: receives the number of compressed bytes read so far, now and then.

    Raises:
        ConcourseError: it isn't a release, is damaged, wants to write elsewhere, or the
            disk is full.  What was unpacked until then is left in `target`.
    """
    target.mkdir(mode=0o755, parents=True)
    folders = [target]
    try:
        with tarball.open("rb") as raw, gzip.GzipFile(fileobj=raw) as plain:
            with tarfile.open(fileobj=plain, mode="r|") as archive:
                for member in archive:
                    at(raw.tell())
                    _write(archive, member, target, folders)
            while plain.read(_CHUNK):  # to the end, so that gzip compares its checksum
                pass
    except _DAMAGED as error:
        why = str(error)[:80]  # it can quote what the archive says
        raise ConcourseError(f"{tarball.name} is damaged or no release file ({why})") from error
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        what = "the disk ran full" if full else f"{error.strerror or error}"
        raise ConcourseError(f"unpacking {tarball.name} failed: {what}", retry=True) from error
    for folder in reversed(folders):
        sync_dir(folder)


def _write(
    archive: tarfile.TarFile, member: tarfile.TarInfo, target: Path, folders: list[Path]
) -> None:
    relative = _inside(member.name, member)
    if relative is None:
        return
    path = target / relative
    if member.isdir():
        _ensure_folder(path, target, folders, member)
        return
    _ensure_folder(path.parent, target, folders, member)
    if os.path.lexists(path):
        if path.is_dir() and not path.is_symlink():
            raise _refused(member, "is a folder and something else")
        path.unlink()  # a later member of the same name is the one that counts
    if member.isreg():
        _write_file(archive.extractfile(member), path, member)
    elif member.issym():
        _check_link(relative, member)
        os.symlink(member.linkname, path)
    elif member.islnk():
        _write_hard_link(target, path, member)
    else:
        raise _refused(member, "is neither file, folder nor link")


def _write_file(source: IO[bytes] | None, path: Path, member: tarfile.TarInfo) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
    with os.fdopen(os.open(path, flags, 0o600), "wb") as out:
        if source is not None:
            shutil.copyfileobj(source, out, _CHUNK)
        os.fchmod(out.fileno(), member.mode & 0o755)
        out.flush()
        os.fsync(out.fileno())
    os.utime(path, (member.mtime, member.mtime))


def _write_hard_link(target: Path, path: Path, member: tarfile.TarInfo) -> None:
    source = _inside(member.linkname, member)
    if source is None or not _is_plain(target, source):
        raise _refused(member, f"links to {shown(member.linkname)}")
    os.link(target / source, path, follow_symlinks=False)


def _is_plain(target: Path, relative: PurePosixPath) -> bool:
    """Return whether a name below `target` is a regular file, no link on the way."""
    path = target / relative
    if not path.is_file() or path.is_symlink():
        return False
    return not any((target / parent).is_symlink() for parent in relative.parents)


def _ensure_folder(
    folder: Path, target: Path, folders: list[Path], member: tarfile.TarInfo
) -> None:
    """Make a folder below `target`, refusing to go through a link that the archive made."""
    missing = []
    while folder != target:
        if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
            raise _refused(member, "leads through a link")
        if not folder.exists():
            missing.append(folder)
        folder = folder.parent
    for path in reversed(missing):
        path.mkdir(mode=0o755)
        folders.append(path)


def _check_link(relative: PurePosixPath, member: tarfile.TarInfo) -> None:
    """Refuse a symbolic link that leads out of the tree.

    Behind another name, ".." could be the parent of wherever a link of that name leads.
    """
    link = PurePosixPath(member.linkname)
    names = list(link.parts)
    for _ in relative.parts[:-1]:
        if names[:1] == [".."]:
            names.pop(0)
    if link.is_absolute() or not link.parts or ".." in names:
        raise _refused(member, f"links to {shown(member.linkname)}")


def _inside(name: str, member: tarfile.TarInfo) -> PurePosixPath | None:
    """Return a member's name below the top folder; None for the top folder itself."""
    path = PurePosixPath(name)
    parts = path.parts
    if path.is_absolute() or ".." in parts or "\0" in name:
        raise _refused(member, "lies outside of its folder")
    if not parts:
        return None
    if parts[0] != TOP:
        raise _refused(member, f"lies outside of {TOP}/")
    return PurePosixPath(*parts[1:]) if len(parts) > 1 else None


def _refused(member: tarfile.TarInfo, why: str) -> ConcourseError:
    return ConcourseError(
        f"the release file is not as Concourse makes it: {shown(member.name)} {why}"
    )
