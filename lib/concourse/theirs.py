"""What lay where the charm puts its own: kept aside or remembered, and put back at the end.

A file that somebody else wrote is copied to the charm's memory before it is replaced; a
folder that was adopted as a release tree is remembered by its name.
"""

from __future__ import annotations

import logging
import os
from contextlib import suppress
from pathlib import Path

from files import ensure_copy, ensure_dir, ensure_symlink, read_text, remove, write_file
from host import Layout

log = logging.getLogger(__name__)

_OURS = "# Written by the charm"  # how every file that the charm renders begins


def is_foreign(path: Path) -> bool:
    """Return whether something lies at a path that the charm didn't write."""
    if not os.path.lexists(path):
        return False
    return path.is_symlink() or not (read_text(path) or "").startswith(_OURS)


def keep(layout: Layout, path: Path) -> bool:
    """Keep a file aside that the charm is about to replace, if it is somebody else's.

    The first that was found counts: what is put there while the charm runs the machine is not
    how the machine was found.

    Returns:
        True if it was kept.
    """
    aside = kept(layout, path)
    if not is_foreign(path) or os.path.lexists(aside):
        return False
    log.info("Keeping %s as %s", path, aside)
    ensure_dir(layout.state, 0o700)
    _copy(path, aside)
    return True


def put_back(layout: Layout, path: Path) -> bool:
    """Remove the charm's file and put back what was kept in its place; True if any changed."""
    aside = kept(layout, path)
    if not os.path.lexists(aside):
        return not is_foreign(path) and remove(path)
    log.info("Putting %s back", path)
    _copy(aside, path)
    discard(aside)
    return True


def kept(layout: Layout, path: Path) -> Path:
    """Return where a file is kept aside."""
    return layout.state / "kept" / path.name


def discard(aside: Path) -> bool:
    """Remove something from what was kept, and the folder of it with the last."""
    changed = remove(aside)
    with suppress(OSError):  # there is more in it
        aside.parent.rmdir()
    return changed


def adopted(layout: Layout) -> tuple[Path, ...]:
    """Return the trees that were somebody's folder at /opt/concourse, in the order of adoption."""
    names = (read_text(_adopted(layout)) or "").split("\n")
    trees = [layout.trees / name for name in names if name]
    return tuple(tree for tree in trees if tree.is_dir() and not tree.is_symlink())


def remember(layout: Layout, tree: Path) -> None:
    """Remember, before it is one, that a tree is somebody else's: it is never deleted."""
    remember_only(layout, (*(other for other in adopted(layout) if other != tree), tree))


def forget(layout: Layout, tree: Path) -> None:
    """Forget about a tree that came to nothing, or is no longer the one that was adopted."""
    if _adopted(layout).exists():
        remember_only(layout, tuple(other for other in adopted(layout) if other != tree))


def remember_only(layout: Layout, trees: tuple[Path, ...]) -> None:
    """Remember these trees and no other."""
    text = "".join(f"{tree.name}\n" for tree in trees)
    if text:
        ensure_dir(layout.state, 0o700)
        write_file(_adopted(layout), text, mode=0o600)
    else:
        discard(_adopted(layout))


def _adopted(layout: Layout) -> Path:
    return layout.state / "kept/adopted-trees"


def _copy(source: Path, target: Path) -> None:
    """Make a copy with mode and owner; of a link, the link."""
    if source.is_symlink():
        ensure_symlink(target, os.readlink(source))
    else:
        ensure_copy(source, target)
