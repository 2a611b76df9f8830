"""Release trees: one folder a version, and the link that says which one is current.

A tree comes into being complete, by rename, and goes when nothing uses it any
more.  `/opt/concourse` is a symbolic link that is switched by rename.
"""

from __future__ import annotations

import logging
import os
import re
from contextlib import suppress
from pathlib import Path

from concourse import theirs
from concourse.errors import ConcourseError
from files import ensure_symlink, exchange, remove, sibling, sync_dir
from host import CommandError, Layout, run

log = logging.getLogger(__name__)

VERSION = re.compile(r"\d+\.\d+\.\d+(?:[-+][0-9A-Za-z.-]+)?")
_TEMPORARY = re.compile(r"\..+\.[0-9a-f]{8}\.tmp")  # what files.sibling makes
_WRAPPER_SIZE = 1 << 20  # a script of more than a megabyte is none


def trees(layout: Layout) -> tuple[Path, ...]:
    """Return every tree, by name; what a killed run left half-made is none."""
    return tuple(sorted(path for path in _entries(layout) if not _TEMPORARY.fullmatch(path.name)))


def current(layout: Layout) -> Path | None:
    """Return the tree that /opt/concourse leads to, if there is one.

    A real folder there, not adopted yet, is its own tree.
    """
    link = layout.concourse
    if not link.is_dir():
        return None
    if not link.is_symlink():
        return link
    resolved = link.resolve()
    candidate = layout.trees / resolved.name
    return candidate if candidate.resolve() == resolved else resolved


def is_complete(tree: Path) -> bool:
    """Return whether a tree has a concourse that can be executed and a real runc.

    Trees come into being by rename, so these two stand for all the rest; they are
    what manual set-ups and older charms were seen to damage.
    """
    if not _is_program(tree / "bin/concourse"):
        return False
    return any(_is_real_runc(tree / "bin" / name) for name in ("runc.real", "runc"))


def version_of(tree: Path) -> str:
    """Return what a tree's `concourse --version` says; "" if it says nothing sensible."""
    try:
        said = run([str(tree / "bin/concourse"), "--version"], timeout=30).stdout.strip()
    except CommandError:
        return ""
    return said if VERSION.fullmatch(said) else ""


def adopt(layout: Layout) -> Path | None:
    """Move a real folder at /opt/concourse under the trees and leave a link in its place.

    Manual set-ups and older charms unpacked there.  Folder and link change places in
    one step, so that a worker that runs from it never misses a file.  Where the file
    system can't exchange two names, two renames do it, and /opt/concourse is missing
    for the instant between them.  It stays somebody else's: see `give_back`.

    Returns:
        The tree that the folder became; None if there was no folder.

    Raises:
        ConcourseError: it can't be moved, being a mount point for instance.
    """
    folder = layout.concourse
    if folder.is_symlink() or not folder.is_dir():
        return None
    layout.trees.mkdir(mode=0o755, parents=True, exist_ok=True)
    # One that isn't complete gets no version's name: a release would take its place.
    tree = _free_name(layout, (is_complete(folder) and version_of(folder)) or "adopted")
    target = os.path.relpath(tree, folder.parent)
    theirs.remember(layout, tree)
    try:
        _swap_in(folder, tree, target)
    except OSError as error:
        theirs.forget(layout, tree)
        what = f"{folder} can't be moved to {tree} ({error.strerror})"
        remedy = "if it is a mount point, unmount it or mount it there"
        raise ConcourseError(what, remedy=remedy) from error
    sync_dir(layout.trees)
    sync_dir(folder.parent)
    log.info("Adopted the Concourse found in %s as %s", folder, tree)
    return tree


def give_back(layout: Layout) -> Path | None:
    """Undo the adoption: the folder goes back to /opt/concourse, in one step where that works.

    Of several that were adopted one after the other, it is the last; the others stay trees.
    Where nothing was adopted, the link at /opt/concourse goes.

    Returns:
        The tree that it was; None if there was none.

    Raises:
        ConcourseError: it can't be moved.
    """
    folder, adopted = layout.concourse, theirs.adopted(layout)
    if os.path.lexists(folder) and not folder.is_symlink():
        return None  # it is back already, or was never the charm's
    if not adopted:
        remove(folder)
        return None
    tree = adopted[-1]
    try:
        _swap_out(folder, tree)
    except OSError as error:
        raise ConcourseError(f"{tree} can't be moved to {folder} ({error.strerror})") from error
    sync_dir(layout.trees)
    sync_dir(folder.parent)
    log.info("Moved the Concourse found in %s back there", folder)
    return tree


def remove_all(layout: Layout) -> None:
    """Remove every tree but those that were adopted, and what killed runs left of some."""
    adopted = theirs.adopted(layout)
    theirs.remember_only(layout, adopted)
    for path in layout.trees.iterdir() if layout.trees.is_dir() else ():
        if path not in adopted:
            remove(path)
    if adopted:
        log.info("%s holds what was found on this machine, and stays", layout.trees)
        return
    remove(layout.trees)


def ensure_current(layout: Layout, tree: Path) -> bool:
    """Switch /opt/concourse to a complete tree, atomically; True if it changed.

    Raises:
        ConcourseError: the tree isn't complete, or a folder in the way can't be adopted.
    """
    if not is_complete(tree):
        raise ConcourseError(f"the Concourse in {tree} is not complete", retry=True)
    adopt(layout)
    if current(layout) == tree:
        return False
    changed = ensure_symlink(layout.concourse, os.path.relpath(tree, layout.concourse.parent))
    log.info("Switched %s to %s", layout.concourse, tree.name)
    return changed


def place(temporary: Path, tree: Path) -> None:
    """Give a finished temporary folder its tree's name, whatever stands there now.

    What stood there is exchanged in one step, so that a process inside never meets
    nothing; where the file system can't, there is an instant without it.
    """
    if not os.path.lexists(tree):
        temporary.rename(tree)
        sync_dir(tree.parent)
        return
    try:
        exchange(temporary, tree)
        old = temporary
    except OSError:
        old = sibling(tree)
        tree.rename(old)
        temporary.rename(tree)
    sync_dir(tree.parent)
    remove(old)


def clear_temporaries(layout: Layout) -> None:
    """Remove what killed runs left half-made among the trees."""
    for path in _entries(layout):
        if _TEMPORARY.fullmatch(path.name):
            remove(path)


def prune(layout: Layout) -> tuple[Path, ...]:
    """Remove the trees that are neither current nor used by any process.

    A worker resolves its own path at start and puts that tree's bin in front of its
    PATH; containerd, its shims and their later runc calls inherit it, so surviving
    shims need the old tree (Concourse v8.2.5, worker/workercmd/worker_linux.go,
    trySetConcourseDirInPATH).  Call it after the switch: a new tree is no one's yet.
    What was adopted isn't the charm's to remove.

    Returns:
        The trees that were removed; always none while nothing is current.
    """
    now = current(layout)
    if now is None:
        return ()
    clear_temporaries(layout)
    adopted = theirs.adopted(layout)
    spare = [tree for tree in trees(layout) if tree != now and tree not in adopted]
    if not spare:
        return ()
    used = _folders_in_use(layout)
    gone = []
    for tree in spare:
        inside = str(tree.resolve()) + os.sep
        if any((folder + os.sep).startswith(inside) for folder in used):
            continue
        # Killed on the way it is no tree, not one without its runc that the GPU's chain stops at.
        doomed = sibling(tree)
        tree.rename(doomed)
        remove(doomed)
        log.info("Removed Concourse %s, which nothing uses any more", tree.name)
        gone.append(tree)
    return tuple(gone)


def _entries(layout: Layout) -> list[Path]:
    return [path for path in layout.trees.glob("*") if path.is_dir() and not path.is_symlink()]


def _free_name(layout: Layout, name: str) -> Path:
    """Return the tree's path for a name, with a number behind it if that is taken.

    A dangling link there is what a killed adoption left: it is no tree, and replaced.
    """
    candidate, number = layout.trees / name, 1
    while candidate.exists():
        number += 1
        candidate = layout.trees / f"{name}-adopted{number}"
    return candidate


def _swap_in(folder: Path, tree: Path, target: str) -> None:
    """Make `tree` the folder and `folder` a link to it."""
    ensure_symlink(tree, target)
    try:
        exchange(folder, tree)
        return
    except OSError:
        tree.unlink()
    link = sibling(folder)
    os.symlink(target, link)
    try:
        folder.rename(tree)
        link.rename(folder)
    except OSError:
        link.unlink()
        raise


def _swap_out(folder: Path, tree: Path) -> None:
    """Make `folder`, a link or nothing, what `tree` is; nothing stays at `tree`."""
    try:
        exchange(folder, tree)
    except OSError:
        remove(folder)
        tree.rename(folder)
    else:
        remove(tree)  # it is the link now


def _folders_in_use(layout: Layout) -> set[str]:
    """Return the folders of every process' program and PATH, links resolved."""
    found = set()
    for process in layout.at("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it ended meanwhile, or is a kernel thread
            found.add(os.path.dirname(os.readlink(process / "exe").removesuffix(" (deleted)")))
        with suppress(OSError):
            for entry in (process / "environ").read_bytes().split(b"\0"):
                if entry.startswith(b"PATH="):
                    found.update(os.fsdecode(entry[5:]).split(":"))
    return {os.path.realpath(folder) for folder in found if folder.startswith("/")}


def _is_program(path: Path) -> bool:
    return path.is_file() and path.stat().st_size > 0 and os.access(path, os.X_OK)


def _is_real_runc(path: Path) -> bool:
    """Return whether a name leads to a program that isn't a GPU wrapper around runc.

    A wrapper, of this charm or of a manual set-up, is a script that mentions the
    variable it is there for; the real one is an ELF file.
    """
    if not _is_program(path):
        return False
    with path.open("rb") as file:
        if file.read(4) == b"\x7fELF":
            return True
        file.seek(0)
        return b"NVIDIA_VISIBLE_DEVICES" not in file.read(_WRAPPER_SIZE)
