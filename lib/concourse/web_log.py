"""Why a web doesn't answer, in its own words.

A web that can't open its database doesn't end: it tries again for minutes, and says so
once in a while (v8.3.0, atc/db/open.go).  What it can't start with, it names in one line
"error: …" and ends (cmd/concourse/main.go).  Neither holds a password.
"""

from __future__ import annotations

import json
import logging
import re

from concourse import service
from host import CommandError, Layout, run

log = logging.getLogger(__name__)

_LINES = r"^error: |failed-to-open-db-retrying|^Started |\"atc\.listening\""
_LONGEST = 160  # characters


def trouble(layout: Layout) -> str:
    """Return what the last run of the web complained about last; "" for nothing."""
    argv = [layout.program("journalctl"), f"--unit={service.WEB}", "--since=-30min", "--reverse"]
    argv += ["--lines=20", "--output=cat", "--no-pager", "--quiet", f"--grep={_LINES}"]
    argv += ["--case-sensitive=yes"]
    try:
        lines = run(argv, timeout=5, check=False).stdout.splitlines()
    except CommandError as error:
        log.warning("%s", error)
        return ""
    started = 0
    for line in lines:
        if '"atc.listening"' in line:
            return ""
        if line.startswith("Started "):
            started += 1
            if started > 1:  # one that has just been started again has said nothing yet
                return ""
        elif line.startswith("error: "):
            return _reason(line.removeprefix("error: "))
        elif "failed-to-open-db-retrying" in line:
            return _reason(_database(line))
    return ""


def _database(line: str) -> str:
    try:
        return "failed to connect to database: " + str(json.loads(line)["data"]["error"])
    except (ValueError, KeyError, TypeError):
        return "failed to connect to database: no reason given"


def _reason(text: str) -> str:
    """Return a complaint as one short line, without who signed in where: it can be long."""
    words = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    found = re.fullmatch(
        r"failed to connect to database: (failed to connect to `[^`]*`: )?(.*)", words
    )
    whole = f"the database can't be opened: {found[2]}" if found else words
    return whole if len(whole) <= _LONGEST else f"{whole[: _LONGEST - 1]}…"
