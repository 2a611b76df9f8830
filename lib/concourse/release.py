"""Concourse releases: from the attached file or the network to a complete tree.

A tree is unpacked beside the running one and made current in a step of its own,
so that a broken download or a full disk leaves what runs alone.
"""

from __future__ import annotations

import hashlib
import logging
import platform
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from concourse import theirs
from concourse.archive import unpack, unpacked_size
from concourse.download import (
    Limits,
    Progress,
    Reporter,
    download,
    fetch_text,
    forget,
    require_space,
)
from concourse.errors import ConcourseError
from concourse.trees import (
    VERSION,
    adopt,
    clear_temporaries,
    current,
    ensure_current,
    is_complete,
    place,
    prune,
    trees,
    version_of,
)
from files import remove, sibling
from host import Layout

__all__ = [
    "DEFAULT_URL",
    "Limits",
    "ReleaseWish",
    "adopt",
    "current",
    "ensure_current",
    "ensure_tree",
    "is_complete",
    "prune",
    "trees",
    "version_of",
]

log = logging.getLogger(__name__)

DEFAULT_URL = "https://github.com/concourse/concourse/releases/download"
_ARCHITECTURES = {"x86_64": "amd64", "amd64": "amd64", "aarch64": "arm64", "arm64": "arm64"}
_SMALLEST = 64 * 1024 * 1024  # bytes; a release file has 900 million
_KEPT = 24 * 3600.0  # seconds
_SPARE = 64 * 1024 * 1024  # bytes beyond the tree itself: folders, block ends


@dataclass(frozen=True)
class ReleaseWish:
    """Which Concourse a unit is to have, and where from.

    Attributes:
        version: such as "8.3.0".
        url: the address in front of `/v8.3.0/concourse-8.3.0-linux-amd64.tgz`.
        sha256: what the release file's SHA-256 has to be; "" if not set.
        resource: the attached release file, if any; one of zero bytes counts as none.
        proxies: `http_proxy`, `https_proxy` and `no_proxy`, as far as set.
        limits: how long a download may take in one hook.
    """

    version: str
    url: str = DEFAULT_URL
    sha256: str = ""
    resource: Path | None = None
    proxies: Mapping[str, str] = field(default_factory=dict)
    limits: Limits = field(default_factory=Limits)


def ensure_tree(layout: Layout, wish: ReleaseWish, progress: Progress) -> Path:
    """Make a complete tree of the wished version exist; it isn't made current.

    A folder that a manual set-up or an older charm left at /opt/concourse is adopted
    first, and is the tree if it is of that version.

    Args:
        layout: the paths.
        wish: which release, and where from.
        progress: receives lines such as "Downloading Concourse 8.3.0 (43 %)".

    Returns:
        The tree.

    Raises:
        ConcourseError: it can't be had; trees that exist are as they were, and what was
            downloaded of a file is kept for the next call.
    """
    if not VERSION.fullmatch(wish.version):
        raise ConcourseError(f"{wish.version!r} is no version of Concourse such as 8.3.0")
    adopt(layout)
    tree = layout.trees / wish.version
    if is_complete(tree):
        remove(_downloads(layout))
        return tree
    if not tree.is_dir():
        theirs.forget(layout, tree)  # what was adopted under this name was deleted
    clear_temporaries(layout)
    layout.trees.mkdir(mode=0o755, parents=True, exist_ok=True)
    if wish.resource and wish.resource.is_file() and wish.resource.stat().st_size > 0:
        if wish.sha256:
            _require_option(wish.resource, wish, "the attached resource concourse")
        _unpack(layout, wish, wish.resource, tree, progress)
    else:
        part = _fetch(layout, wish, progress)
        _unpack(layout, wish, part, tree, progress)
    remove(_downloads(layout))
    return tree


def file_name(version: str, machine: str = "") -> str:
    """Return a release file's name for a kind of machine (this one's by default).

    Raises:
        ConcourseError: Concourse makes no release for it.
    """
    machine = machine or platform.machine()
    if machine not in _ARCHITECTURES:
        raise ConcourseError(f"Concourse has no release for machines of type {machine}")
    return f"concourse-{version}-linux-{_ARCHITECTURES[machine]}.tgz"


def _fetch(layout: Layout, wish: ReleaseWish, progress: Progress) -> Path:
    """Download the release file and compare its checksum; return where it lies."""
    host = _host_of(wish.url)
    name = file_name(wish.version)
    url = f"{wish.url.rstrip('/')}/v{wish.version}/{name}"
    label = f"Concourse {wish.version}"
    part = _downloads(layout) / f"{name}.part"
    for other in _downloads(layout).glob("*"):
        if not other.name.startswith(part.name):
            remove(other)  # another version's, given up
    log.info("Downloading %s from %s", label, host)
    download(
        url,
        part,
        label=label,
        proxies=wish.proxies,
        progress=progress,
        limits=wish.limits,
    )
    if wish.sha256:
        try:
            _require_option(part, wish, name)
        except ConcourseError:
            if not _is_worth_keeping(part):
                forget(part)
            raise
        return part
    # Releases carry a .sha1 beside them and nothing stronger (facts of v8.2.5).
    expected = _published_sum(url, name, wish)
    found = _digest(part, "sha1")
    if found != expected.lower():
        forget(part)
        what = f"{name} has the sha1 {found}, not {expected.lower()}"
        raise ConcourseError(what, retry=True)
    return part


def _is_worth_keeping(part: Path) -> bool:
    """Return whether a file with another sum than concourse-sha256 says is kept for the next try.

    Most often the option is wrong, and every try would fetch a gigabyte for nothing.  The
    file goes after a day, for a mirror that was mended meanwhile, and at once if it is too
    small for a release (a proxy's login page).
    """
    status = part.stat()
    # One of the future came while the clock was ahead: how old it is can't be told.
    return status.st_size >= _SMALLEST and 0 <= time.time() - status.st_mtime < _KEPT


def _host_of(url: str) -> str:
    """Return the host of concourse-release-url; an address that can't be used is not quoted."""
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and "@" not in parts.netloc
        host = parts.hostname if usable and parts.port != 0 else ""
    except (
        ValueError
    ):  # half an IPv6 address, a port that is no number, signs that look like others
        host = ""
    if not host:
        allowed = "it takes an http or https address without user and password"
        raise ConcourseError(f"concourse-release-url can't be used: {allowed}")
    return host


def _published_sum(url: str, name: str, wish: ReleaseWish) -> str:
    """Return the SHA-1 that is published beside a release file."""
    text = fetch_text(f"{url}.sha1", label=f"{name}.sha1", proxies=wish.proxies)
    match = re.search(r"\b[0-9a-fA-F]{40}\b", text)
    if match is None:
        what = f"{name}.sha1 holds no SHA-1"
        raise ConcourseError(what, remedy="set concourse-sha256 instead", retry=True)
    return match[0]


def _require_option(path: Path, wish: ReleaseWish, name: str) -> None:
    """Raise ConcourseError unless a file has the sum of concourse-sha256.

    Trying again is no use then: the version may be the web's, which the option doesn't follow.
    """
    expected = wish.sha256.strip().lower()
    found = _digest(path, "sha256")
    if found != expected:
        what = f"concourse-sha256 is {_short(expected)}, but {name} has {_short(found)}"
        remedy = f"set it to that of version {wish.version}, or leave it empty"
        raise ConcourseError(what, remedy=remedy)


def _digest(path: Path, kind: str) -> str:
    digest = hashlib.new(kind, usedforsecurity=kind != "sha1")
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def _short(digest: str) -> str:
    return digest if len(digest) <= 12 else f"{digest[:12]}…"


def _unpack(
    layout: Layout, wish: ReleaseWish, tarball: Path, tree: Path, progress: Progress
) -> None:
    """Unpack a release file into a tree of its own, complete or not at all."""
    label = f"Concourse {wish.version}"
    require_space(layout.trees, unpacked_size(tarball) + _SPARE, f"to unpack {label}")
    reporter = Reporter(f"Unpacking {label}", progress, wish.limits.report)
    total = tarball.stat().st_size
    temporary = sibling(tree)
    try:
        unpack(tarball, temporary, at=lambda done: reporter.at(done, total))
        _check(temporary, wish.version, tarball)
        place(temporary, tree)
    except BaseException:
        remove(temporary)
        raise
    log.info("Unpacked %s to %s", label, tree)


def _check(tree: Path, version: str, tarball: Path) -> None:
    """Raise ConcourseError unless a tree just unpacked is a whole release of a version."""
    if not is_complete(tree):
        raise ConcourseError(f"{tarball.name} is no release: bin/concourse or bin/runc is missing")
    found = version_of(tree)
    if found != version:
        said = f"says that it is {found}" if found else "doesn't tell its version"
        what = f"the Concourse in {tarball.name} {said}, but {version} is asked for"
        raise ConcourseError(what, remedy="set concourse-version to what the file holds")


def _downloads(layout: Layout) -> Path:
    return layout.state / "downloads"
