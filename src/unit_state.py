"""Where ops keeps its database: in memory, so that a full disk fails no hook.

ops writes one line a hook into `.unit-state.db` in the charm's folder, and a hook in which
it can't has failed before this charm begins.  Nothing in it has to outlive the machine's
boot: the charm stores there what Juju was told and needn't be told again, and defers no event.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path

from files import ensure_dir, ensure_symlink

log = logging.getLogger(__name__)

NAME = ".unit-state.db"  # ops, _main.py: CHARM_STATE_FILE
FOLDER = Path("/run/concourse-ci-machine")


def ensure_in_memory(charm: Path, unit: str, folder: Path = FOLDER) -> None:
    """Make ops' database lie below /run; where that can't be had, it stays where it is.

    Args:
        charm: the charm's folder.
        unit: the unit's name.
        folder: where the database is to lie.
    """
    place = folder / f"{unit.replace('/', '-')}.db"
    try:
        ensure_dir(folder, 0o700)
        # ops refuses a link that leads nowhere.
        os.close(os.open(place, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW, 0o600))
        ensure_symlink(charm / NAME, place)
    except OSError as error:
        log.warning("What ops remembers stays on the disk: %s", error)
