"""The tables of docs/reference/files.md, to hold a machine to."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatch

from tests.chaos.frame import SOURCE

_PAGE = SOURCE / "docs/reference/files.md"
# Folders that the page speaks of as one.
_WHOLE = (
    "/opt/concourse-releases/VERSION",
    "/var/lib/concourse/worker",
    "/run/concourse-ci-machine",
    "/run/containerd",
)


@dataclass(frozen=True)
class Row:
    """One row of the table.

    Attributes:
        path: with VERSION, ID and … for what differs.
        owner: "user:group".
        mode: four digits, "link", or "" where the page says none.
    """

    path: str
    owner: str
    mode: str


def rows() -> Mapping[str, Row]:
    """Return the rows that begin with a path, by their path."""
    page = _PAGE.read_text(encoding="utf-8")
    found = {}
    for path, said in re.findall(r"^\| (/[^ |]+)[^|]* \| ([^|]*) \|", page, re.MULTILINE):
        owner, mode = re.match(r"(?:(\S+:\S+) )?(0\d{3}|link)?", said.strip()).groups()  # type: ignore[union-attr]
        found[path] = Row(path, owner or "root:root", mode or "")
    return found


def ports() -> frozenset[str]:
    """Return every port that the page names where it lists them."""
    page = _PAGE.read_text(encoding="utf-8").partition("## Sockets and ports")[2]
    found: set[str] = set()
    for where in re.findall(r"^\| ([^|]*\d[^|]*) \|", page, re.MULTILINE):
        for first, last in re.findall(r"\b(\d{4,5})\b(?: to (\d{4,5})\b)?", where):
            found |= {str(port) for port in range(int(first), int(last or first) + 1)}
    return frozenset(found)


def canonical(path: str) -> str:
    """Return a path as the table writes it."""
    path = re.sub(r"^(/opt/concourse-releases/)\d+\.\d+\.\d+", r"\1VERSION", path)
    path = re.sub(r"^/opt/concourse-releases/VERSION(/bin/.)", r"/opt/concourse\1", path)
    return re.sub(r"^(/run/containerd/io\.[^/]+/concourse/)[^/]+", r"\1ID", path)


def row_of(path: str, listed: Mapping[str, Row]) -> Row | None:
    """Return a path's own row."""
    name = canonical(path)
    if name in listed:
        return listed[name]
    return next((row for row in listed.values() if fnmatch(name, row.path.replace("…", "*"))), None)


def is_listed(path: str, listed: Mapping[str, Row]) -> bool:
    """Return whether a path has a row, or lies in a folder that the page speaks of as one."""
    if row_of(path, listed):
        return True
    name = re.sub(r"^(/opt/concourse-releases/)\d+\.\d+\.\d+", r"\1VERSION", path)
    inside = any(name.startswith(f"{whole}/") or name == whole for whole in _WHOLE)
    # What the wrapper leaves in the midst of what is the release's or containerd's has a row.
    return inside and "gpu-" not in path.rpartition("/")[2]
