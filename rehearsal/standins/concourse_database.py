"""Stand-in for what `concourse` does with its database, beside `concourse_web`.

The database is real, reached by `psql` with the credentials of Concourse's environment.
Its schema has one step a release here, where Concourse's has many; as with the real one,
steps are only ever added, and a release that is behind runs on what it finds
(atc/db/migration/migration.go; atc/atccmd/command.go, Migration).
"""

from __future__ import annotations

import os
import subprocess
import sys

TABLE = (
    "CREATE TABLE IF NOT EXISTS workers (name text PRIMARY KEY, tags text, state text, web text)"
)
HISTORY = (
    "CREATE TABLE IF NOT EXISTS migrations_history"
    " (version bigint, tstamp timestamp with time zone)"
)
CURRENT = "SELECT version FROM migrations_history ORDER BY tstamp DESC LIMIT 1"
STEP = "INSERT INTO migrations_history VALUES (:'version', current_timestamp)"


class DatabaseError(Exception):
    """The database can't be reached, or doesn't let the web in; psql's own words."""


def sql(statement: str, **values: str) -> list[list[str]]:
    """Run a statement and return its rows; no secret is among psql's arguments.

    Raises:
        DatabaseError: no connection, or no answer.
    """
    env = {
        "PATH": os.environ["PATH"],
        "PGHOST": _setting("HOST"),
        "PGPORT": _setting("PORT", "5432"),
        "PGUSER": _setting("USER"),
        "PGPASSWORD": _setting("PASSWORD"),
        "PGDATABASE": _setting("DATABASE"),
        "PGSSLMODE": _setting("SSLMODE", "disable"),
        "PGSSLROOTCERT": _setting("CA_CERT"),
        "PGPASSFILE": "/dev/null",
        "PGCONNECT_TIMEOUT": "10",
        "PGOPTIONS": "-c client_min_messages=warning",
    }
    argv = ["psql", "-XAtqw", "-F", "\t", "-v", "ON_ERROR_STOP=1"]
    for name, value in values.items():
        argv += ["-v", f"{name}={value}"]
    done = subprocess.run(
        [*argv, "-f", "-"],
        input=f"{statement};\n",
        env={name: value for name, value in env.items() if value},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    if done.returncode != 0:
        raise DatabaseError((done.stderr.strip().splitlines() or ["psql failed"])[-1])
    return [line.split("\t") for line in done.stdout.splitlines()]


def schema(version: str) -> int:
    """Return the number of a release's schema: releases X.Y.* have one, as Concourse's do."""
    major, minor = version.split(".")[:2]
    return 1_500_000_000 + 1_000_000 * int(major) + 1_000 * int(minor)


def migrate(version: str, arguments: list[str]) -> int:
    """Say which schema the database has, or this release knows; without one it fails, as theirs."""
    try:
        if arguments == ["--current-db-version"]:
            print(sql(CURRENT)[0][0])
        else:
            sql("SELECT 1")  # theirs connects for this, too
            print(schema(version))
    except DatabaseError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def bring_up(version: str) -> None:
    """Add what a release's schema has and the database lacks.

    Raises:
        DatabaseError: it can't be reached.
    """
    sql(TABLE)
    sql(HISTORY)
    found = sql(CURRENT)
    if not found or int(found[0][0]) < schema(version):
        sql(STEP, version=str(schema(version)))


def _setting(name: str, default: str = "") -> str:
    return os.environ.get(f"CONCOURSE_POSTGRES_{name}", default)
