"""Remembers what failed and when to try it again, across hooks.

Steps that reach the network (apt, downloads) fail for minutes or days.  Each
failure doubles the pause before update-status tries the step again, up to a
limit; an event in which the operator changed something tries at once.
"""

from __future__ import annotations

import json
import logging
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from files import read_text, remove, write_file
from host import Layout, Trouble

log = logging.getLogger(__name__)

FIRST_PAUSE = 60.0
LONGEST_PAUSE = 3600.0
# What a disk doesn't take, by the file it belongs in: the status of this very hook needs it.
_unwritten: dict[Path, dict[str, Attempt]] = {}


@dataclass(frozen=True)
class Attempt:
    """The last failure of a step.

    Attributes:
        failures: how often it failed in a row.
        what: what failed, one clause.
        next_try: when to try again, in seconds since the epoch.
        retry: whether trying again unchanged can help at all.
    """

    failures: int
    what: str
    next_try: float
    retry: bool = True


def last(layout: Layout, step: str) -> Attempt | None:
    """Return the failure that a step still has against it, if any."""
    return _read(layout).get(step)


def steps(layout: Layout) -> tuple[str, ...]:
    """Return the steps that have a failure against them."""
    return tuple(_read(layout))


def due(layout: Layout, step: str, *, now: float | None = None) -> bool:
    """Return whether a step may be tried: it never failed, or its pause is over.

    A pause that ends further away than the longest one means that the clock was
    set back; it doesn't count.
    """
    attempt = last(layout, step)
    if attempt is None:
        return True
    left = attempt.next_try - (time.time() if now is None else now)
    return left <= 0 or left > LONGEST_PAUSE


def failed(layout: Layout, step: str, trouble: Trouble, *, now: float | None = None) -> None:
    """Write down that a step failed, and when to try it again."""
    attempts = _read(layout)
    before = attempts.get(step)
    failures = before.failures + 1 if before else 1
    pause = min(FIRST_PAUSE * 2 ** min(failures - 1, 20), LONGEST_PAUSE)
    start = time.time() if now is None else now
    attempts[step] = Attempt(failures, str(trouble), start + pause, trouble.retry)
    _write(layout, attempts)


def succeeded(layout: Layout, step: str) -> None:
    """Forget a step's failures."""
    attempts = _read(layout)
    if attempts.pop(step, None):
        _write(layout, attempts)


def _path(layout: Layout) -> Path:
    return layout.state / "attempts.json"


def _read(layout: Layout) -> dict[str, Attempt]:
    if _path(layout) in _unwritten:
        return dict(_unwritten[_path(layout)])
    try:
        stored = json.loads(read_text(_path(layout)) or "{}")
        return {step: Attempt(**fields) for step, fields in stored.items()}
    except (ValueError, TypeError, AttributeError):
        return {}  # a damaged memory costs one early retry, nothing else


def _write(layout: Layout, attempts: dict[str, Attempt]) -> None:
    """Write the memory; what a disk doesn't take is kept until this process ends.

    The next hook then doesn't know that a pause isn't over, and tries again sooner.
    """
    _unwritten.pop(_path(layout), None)
    try:
        if not attempts:
            remove(_path(layout))
            return
        stored = {step: asdict(attempt) for step, attempt in sorted(attempts.items())}
        write_file(_path(layout), json.dumps(stored, indent=1) + "\n", mode=0o600)
    except OSError as error:
        log.warning("What failed can't be remembered: %s", error)
        _unwritten[_path(layout)] = attempts
