"""Whether a release knows the schema of a database: asked of the release before it first runs.

Peers remember which release migrated their database (see `versions`), but not that of an
application that was removed, or that a backup brought back.  `concourse migrate` prints
both numbers and changes nothing (v8.3.0, atc/atccmd/command.go, Migration).
"""

from __future__ import annotations

import logging
from pathlib import Path

from concourse.environment import parse
from concourse.errors import ConcourseError
from concourse.paths import WebPaths
from files import read_text
from host import CommandError, Layout, run

log = logging.getLogger(__name__)

TIMEOUT = 20.0  # seconds for one answer: a connection and a row


def require_known(layout: Layout, tree: Path) -> None:
    """Refuse a database that a newer release has migrated.

    An empty database has no schema yet, and what else keeps it from being asked keeps the
    web from starting, too, which says more about it: neither is refused here.

    Args:
        layout: the paths; the web's environment file is there.
        tree: the release that is about to run.

    Raises:
        ConcourseError: the database is ahead of the release.
    """
    current = _ask(layout, tree, "--current-db-version")
    supported = _ask(layout, tree, "--supported-db-version") if current else None
    if current is None or supported is None or current <= supported:
        return
    raise ConcourseError(
        f"the database was migrated by a release newer than Concourse {tree.name}",
        remedy="set concourse-version to that release, or relate another database",
    )


def _ask(layout: Layout, tree: Path, what: str) -> int | None:
    """Return a schema's number, the time when its newest step was written; None if untold."""
    settings = parse(read_text(WebPaths(layout).environment) or "")
    postgres = {
        name: value for name, value in settings.items() if name.startswith("CONCOURSE_POSTGRES_")
    }
    argv = [str(tree / "bin/concourse"), "migrate", what]
    try:
        return int(run(argv, env=postgres, timeout=TIMEOUT).stdout.strip())
    except (CommandError, ValueError) as error:
        log.info("The database's schema isn't known: %s", error)
        return None
