"""Which release may follow which on a web, as its database allows.

A web migrates the schema when it starts, and only ever up.  An older release started on
a newer schema doesn't refuse: it finds nothing to undo, as it doesn't know the newer
steps, and runs on tables that it doesn't understand (v8.3.0, atc/db/migration/migration.go,
Migrate).  Undoing them takes `concourse migrate --migrate-db-to-version` of the newer
release (atc/atccmd/command.go, Migration) while every web is down, and may lose data.

Releases that differ in the last number alone have had one schema: the newest file of
atc/db/migration/migrations is the same in all of 7.11.x, 7.13.x, 7.14.x, 8.0.x, 8.1.x and
8.2.x, and another one in each of 7.13, 7.14, 8.0, 8.1, 8.2 and 8.3.
"""

from __future__ import annotations

import re

_VERSION = re.compile(r"([0-9]{1,4})\.([0-9]{1,4})\.([0-9]{1,4})")


def may_switch(now: str, wanted: str) -> str:
    """Return why a web can't be switched to another release; "" if it can.

    Args:
        now: the newest release that has migrated the database, X.Y.Z; "" for none yet.
        wanted: the release to switch to, X.Y.Z.

    Raises:
        ValueError: one of them is no release.
    """
    if not now:
        return ""
    have, want = _numbers(now), _numbers(wanted)
    if want[:2] >= have[:2]:
        return ""
    return (
        f"concourse-version={wanted} is older than the {now} that the database was migrated "
        f"for: set {now} or newer"
    )


def newest(*versions: str) -> str:
    """Return the newest of some releases, X.Y.Z; "" if none of them is one."""
    releases = [version for version in versions if _VERSION.fullmatch(version)]
    return max(releases, key=_numbers, default="")


def _numbers(version: str) -> tuple[int, ...]:
    found = _VERSION.fullmatch(version)
    if not found:
        raise ValueError(f"{version!r} is no release, X.Y.Z")
    return tuple(int(number) for number in found.groups())
