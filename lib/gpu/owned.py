"""Remembers which packages the charm itself installed: those alone follow its options."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from files import read_text, write_file
from host import Layout


def packages(layout: Layout) -> frozenset[str]:
    """Return the names of the packages that the charm installed."""
    try:
        return frozenset(str(name) for name in json.loads(read_text(_memory(layout)) or "[]"))
    except (ValueError, TypeError):
        return frozenset()  # a damaged memory: then all of them are the operator's


def remember(layout: Layout, names: Iterable[str]) -> None:
    """Write down that the charm installs these."""
    before = packages(layout)
    after = before.union(names)
    if after != before:
        write_file(_memory(layout), json.dumps(sorted(after), indent=1) + "\n", mode=0o600)


def _memory(layout: Layout) -> Path:
    return layout.state / "gpu/packages.json"
