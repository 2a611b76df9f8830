"""The swap of runc and nvidia-container-runtime for the wrapper, and its undoing.

At every instant both names lead to something that works: an original gets a
second name (`.real`) by hard link first, then a link to the wrapper is renamed
over the first name.  Undoing renames the original back before anything else
goes.  Each function can be killed anywhere and called again.
"""

from __future__ import annotations

import enum
import filecmp
import hashlib
import logging
import os
from collections.abc import Iterable
from pathlib import Path

from files import ensure_copy, ensure_symlink, read_text, remove, same_inode
from gpu import calls
from gpu.errors import GpuError
from gpu.wrapper import WRAPPER_NAME, files_of, is_wrapper
from host import Layout, run

log = logging.getLogger(__name__)

DIVERT_LIMIT = 60.0  # seconds; dpkg-divert waits for nobody, it fails if dpkg holds its lock


class Kind(enum.Enum):
    """What stands at a place where an original, a wrapper or a backup may stand."""

    ABSENT = "nothing"
    ORIGINAL = "an original"
    WRAPPER = "a wrapper"
    UNUSABLE = "nothing that runs"


def classify(path: Path) -> Kind:
    """Say what stands at `path`, whoever put it there.

    A link counts as what it leads to; a link to a missing wrapper is a wrapper.
    """
    if not os.path.lexists(path):
        return Kind.ABSENT
    if path.is_symlink() and Path(os.readlink(path)).name == WRAPPER_NAME:
        return Kind.WRAPPER
    if not path.is_file() or path.stat().st_size == 0 or not os.access(path, os.X_OK):
        return Kind.UNUSABLE
    return Kind.WRAPPER if is_wrapper(path) else Kind.ORIGINAL


def tree_is_wrapped(tree: Path) -> bool:
    """Return whether a Concourse tree's runc is the wrapper with an original behind it."""
    runc = tree / "bin/runc"
    return classify(runc) is Kind.WRAPPER and classify(backup_of(runc)) is Kind.ORIGINAL


def chain_stands(layout: Layout) -> bool:
    """Return whether the current tree and nvidia-container-runtime are both swapped."""
    if not tree_is_wrapped(layout.concourse):
        return False
    real = classify(layout.nvidia_runtime_real)
    return classify(layout.nvidia_runtime) is Kind.WRAPPER and real is Kind.ORIGINAL


def nvidia_original(layout: Layout) -> Path:
    """Return where NVIDIA's own nvidia-container-runtime lies now, swapped or not.

    Raises:
        GpuError: at neither of its names.
    """
    for place in (layout.nvidia_runtime, layout.nvidia_runtime_real):
        if classify(place) is Kind.ORIGINAL:
            return place
    raise GpuError("nvidia-container-runtime is gone", retry=True)


def nvidia_is_lost(layout: Layout) -> bool:
    """Return whether no nvidia-container-runtime of NVIDIA's is left at either of its names."""
    places = (layout.nvidia_runtime, layout.nvidia_runtime_real)
    return not any(classify(place) is Kind.ORIGINAL for place in places)


def ensure_backup(tree: Path, *, keep: Path) -> bool:
    """Give a tree's original runc its second name, runc.real; changes nothing that runs.

    Args:
        tree: a Concourse release tree.
        keep: where a foreign backup that has to make way is kept.

    Raises:
        GpuError: the tree holds no original runc at all.
    """
    return _ensure_backup(tree / "bin/runc", keep)


def ensure_tree_swapped(tree: Path, *, keep: Path) -> bool:
    """Put the wrapper, which lies in the tree already, in place of the tree's runc."""
    runc = tree / "bin/runc"
    backed = ensure_backup(tree, keep=keep)
    if classify(runc) is not Kind.WRAPPER:
        log.info("Backing up original runc...")
    # Relative, so that the tree works under any name and before it is the current one.
    return ensure_symlink(runc, WRAPPER_NAME) or backed


def ensure_link(layout: Layout, *, keep: Path) -> bool:
    """Make /usr/local/bin/runc-gpu-wrapper lead to the current tree's wrapper.

    A script that somebody put there by hand is kept aside first.
    """
    if layout.wrapper.is_file() and not layout.wrapper.is_symlink():
        _keep_aside(layout.wrapper, keep)
    return ensure_symlink(layout.wrapper, layout.concourse / "bin" / WRAPPER_NAME)


def ensure_nvidia_swapped(layout: Layout, *, keep: Path) -> bool:
    """Divert nvidia-container-runtime to `.real` and put the wrapper in its place.

    The diversion comes first and without dpkg's own rename, which would leave an
    instant with nothing at the name that Docker calls.
    """
    runtime = layout.nvidia_runtime
    diverted = _ensure_diversion(layout)
    backed = _ensure_backup(runtime, keep, genuine=_packaged_sum(layout))
    return ensure_symlink(runtime, layout.wrapper) or diverted or backed


def restore_tree(tree: Path) -> bool:
    """Put a tree's original runc back at its name; runc.real stays until `drop_backups`."""
    return _restore(tree / "bin/runc")


def restore_nvidia(layout: Layout) -> bool:
    """Put nvidia-container-runtime back at its name and end the diversion."""
    runtime, real = layout.nvidia_runtime, layout.nvidia_runtime_real
    if classify(runtime) is Kind.WRAPPER and classify(real) is not Kind.ORIGINAL:
        # The package was removed under us: only our link is left of it.
        changed = remove(runtime)
    else:
        changed = _restore(runtime)
    return _end_diversion(layout) or changed


def drop_backups(layout: Layout, trees: Iterable[Path], *, keep: Path) -> bool:
    """Remove the second names and the wrappers, once nobody is on the way through them.

    Raises:
        GpuError: somebody still is after some seconds; nothing was removed.
    """
    trees = tuple(trees)
    if not calls.are_over(layout, trees):
        raise GpuError("containers are being created through the wrapper", retry=True)
    changed = False
    mains = [*(tree / "bin/runc" for tree in trees), layout.nvidia_runtime]
    for main in mains:
        if classify(main) is not Kind.ORIGINAL:
            continue  # the backup is all there is
        if classify(backup_of(main)) is Kind.ORIGINAL and not _same(main, backup_of(main)):
            _keep_aside(backup_of(main), keep)
        changed |= remove(backup_of(main))
    for tree in trees:
        for left in files_of(tree):
            changed |= remove(left)
    if layout.wrapper.is_symlink():
        changed |= remove(layout.wrapper)
    return changed


def is_diverted(layout: Layout) -> bool:
    """Return whether dpkg diverts nvidia-container-runtime to `.real`.

    Reads dpkg's own record, three lines a diversion (dpkg 1.21, lib/dpkg/db-ctrl-access.c,
    divertdb.c), because asking dpkg-divert costs a process in every hook.
    """
    lines = (read_text(layout.at("/var/lib/dpkg/diversions")) or "").splitlines()
    wanted = _machine_path(layout, layout.nvidia_runtime)
    real = _machine_path(layout, layout.nvidia_runtime_real)
    return (wanted, real) in zip(lines[::3], lines[1::3], strict=False)


def backup_of(path: Path) -> Path:
    """Return where the original of a swapped name lies."""
    return path.with_name(f"{path.name}.real")


def _same(one: Path, two: Path) -> bool:
    return same_inode(one, two) or filecmp.cmp(one, two, shallow=False)


def _ensure_backup(main: Path, keep: Path, genuine: str = "") -> bool:
    real = backup_of(main)
    at_main, at_real = classify(main), classify(real)
    if at_main is not Kind.ORIGINAL:
        if at_real is Kind.ORIGINAL:
            return False
        raise GpuError(f"no original {main.name} is left beside {main}", retry=True)
    if at_real is Kind.ORIGINAL:
        if _same(main, real):
            return False
        if genuine and _md5(real) == genuine and _md5(main) != genuine:
            _keep_aside(main, keep)
            return ensure_copy(real, main)
    if at_real is not Kind.ABSENT:
        # An upgrade put a new original at the name; the backup is of an older one, or no
        # original at all.
        _keep_aside(real, keep)
    return ensure_copy(main, real)


def _restore(main: Path) -> bool:
    real = backup_of(main)
    borrowed = main.is_symlink() and main.resolve() == real.resolve()
    if classify(main) is Kind.ORIGINAL and not borrowed:
        return False
    return classify(real) is Kind.ORIGINAL and ensure_copy(real, main)


def _keep_aside(path: Path, keep: Path) -> None:
    """Copy what has to make way to the charm's memory: nothing of anybody's is lost."""
    if path.is_dir():
        raise GpuError(f"{path} is a folder", remedy="move it away")
    if not path.is_file():
        return
    place = keep / f"{path.name}.{_md5(path)[:12]}"
    if not place.exists():
        log.info("Keeping %s as %s", path, place)
        ensure_copy(path.resolve(), place)


def _md5(path: Path) -> str:
    with open(path, "rb") as file:
        digest = hashlib.md5(usedforsecurity=False)
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def _packaged_sum(layout: Layout) -> str:
    """Return the MD5 sum that dpkg recorded for nvidia-container-runtime, or ""."""
    wanted = _machine_path(layout, layout.nvidia_runtime).lstrip("/")
    for record in layout.at("/var/lib/dpkg/info").glob("nvidia-container-toolkit*.md5sums"):
        for line in (read_text(record) or "").splitlines():
            digest, _, name = line.partition("  ")
            if name == wanted:
                return digest
    return ""


def _ensure_diversion(layout: Layout) -> bool:
    if is_diverted(layout):
        return False
    _divert(layout, "--add")
    return True


def _end_diversion(layout: Layout) -> bool:
    if not is_diverted(layout):
        return False
    _divert(layout, "--remove")
    return True


def _divert(layout: Layout, action: str) -> None:
    main = _machine_path(layout, layout.nvidia_runtime)
    real = _machine_path(layout, layout.nvidia_runtime_real)
    argv = [layout.program("dpkg-divert"), "--quiet", "--local", "--no-rename", "--divert", real]
    if layout.root != Path("/"):
        argv[1:1] = ["--root", str(layout.root)]
    run([*argv, action, main], timeout=DIVERT_LIMIT)


def _machine_path(layout: Layout, path: Path) -> str:
    return f"/{path.relative_to(layout.root)}"
