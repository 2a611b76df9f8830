"""What the chaos suite counts, and the table that it makes of it."""

from __future__ import annotations

import os
import random
import subprocess
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import TypeVar

SOURCE = Path(__file__).resolve().parents[2]
PAGE = SOURCE / "docs/reliability.md"
WHOLE = "all of it"
BEGIN, END = "<!-- made by tox -e chaos -- --record -->", "<!-- end -->"
T = TypeVar("T")


@dataclass(frozen=True)
class Result:
    """One row: a promise, and what was done to break it.

    Attributes:
        tried: how many cases.
        broken: how many of them broke it.
        seconds: how long the cases took together.
        asides: what is no breach but has to be told, by its name.
    """

    promise: str
    tried: int = 0
    broken: int = 0
    seconds: float = 0.0
    asides: dict[str, int] = field(default_factory=dict)


class Ledger:
    """The results of one run of the suite, by promise, in the order of their first case."""

    def __init__(self, seed: int, *, quick: bool) -> None:
        self.seed = seed
        self.quick = quick
        self.begun = time.monotonic()
        self._results: dict[str, Result] = {}
        self._lock = threading.Lock()

    def add(self, promise: str, *, tried: int = 0, broken: int = 0, seconds: float = 0.0) -> None:
        """Count cases of a promise."""
        with self._lock:
            old = self._results.get(promise, Result(promise))
            self._results[promise] = replace(
                old,
                tried=old.tried + tried,
                broken=old.broken + broken,
                seconds=old.seconds + seconds,
            )

    def aside(self, promise: str, what: str, count: int) -> None:
        """Count what is no breach of a promise but has to be told."""
        with self._lock:
            old = self._results.get(promise, Result(promise))
            asides = {**old.asides, what: old.asides.get(what, 0) + count}
            self._results[promise] = replace(old, asides=asides)

    def take(self, results: Iterable[Result]) -> None:
        """Count what another process of this run has tried."""
        for one in results:
            self.add(one.promise, tried=one.tried, broken=one.broken, seconds=one.seconds)
            for what, count in one.asides.items():
                self.aside(one.promise, what, count)

    @property
    def results(self) -> tuple[Result, ...]:
        return tuple(self._results.values())


class Chaos:
    """What a test of the suite works with.

    Args:
        ledger: where its cases are counted.
        name: the test's id; its random numbers come from it, the seed and a case's name.
        only: the one case to run, to repeat a failure.
    """

    def __init__(self, ledger: Ledger, name: str, only: str = "") -> None:
        self._ledger = ledger
        self._name = name
        self._only = only
        self.quick = ledger.quick
        self.seed = ledger.seed
        self.repeat = ""  # the command that repeats the broken case

    def dice(self, case: str = "") -> random.Random:
        """Return the random numbers of a case, the same whichever other cases are tried."""
        return random.Random(f"{self.seed} {self._name.rpartition('/')[2]} {case}")

    def part(self, items: Sequence[T], *, quick: int) -> list[T]:
        """Return those of some cases that this run tries, in their order.

        Args:
            items: every case; `str` of one is its name, of which the first words are enough.
            quick: how many of them with `--quick`.
        """
        if self._only:
            return [item for item in items if f"{item} ".startswith(f"{self._only} ")]
        if not self.quick or len(items) <= quick:
            return list(items)
        return [items[index] for index in sorted(self.dice().sample(range(len(items)), quick))]

    @contextmanager
    def case(self, promise: str, name: str = "") -> Iterator[None]:
        """Count one case; what it raises is a broken promise.

        Args:
            promise: the sentence that is the table's row.
            name: tells it from the test's other cases; as `part`'s item, if that is used.
        """
        started = time.monotonic()
        broken = 1
        try:
            yield
            broken = 0
        finally:
            seconds = time.monotonic() - started
            self._ledger.add(promise, tried=1, broken=broken, seconds=seconds)
            if broken:
                self._tell(name)

    def tried(self, promise: str, count: int, seconds: float) -> None:
        """Count cases that all kept a promise."""
        self._ledger.add(promise, tried=count, seconds=seconds)

    def aside(self, promise: str, what: str, count: int) -> None:
        """Count what is no breach of a promise but has to be told."""
        self._ledger.aside(promise, what, count)

    def _tell(self, name: str) -> None:
        words = ["tox -e chaos --", f"--seed={self._ledger.seed}"]
        words += ["--quick"] if self.quick else []
        words += [f"--case='{name}'"] if name else []
        self.repeat = " ".join([*words, f"'{self._name}'"])


def table(ledger: Ledger) -> str:
    """Return what was tried as a table in Markdown."""
    rows = [("promise", "tried", "broken", "seconds")]
    for result in ledger.results:
        told = "".join(f"; {what}: {count:,}" for what, count in result.asides.items())
        text = f"{result.promise.rstrip('.')}{told}".replace("|", "\\|")
        rows.append((text, f"{result.tried:,}", f"{result.broken:,}", f"{result.seconds:,.0f}"))
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    lines.insert(1, "|---|--:|--:|--:|")
    return "\n".join(lines)


def heading(ledger: Ledger, part: str) -> str:
    """Return the sentence above the table: when, how much, how long, with which seed."""
    minutes = (time.monotonic() - ledger.begun) / 60
    today = datetime.now(timezone.utc).strftime("%Y-%m-%d")
    return (
        f"{today}, commit {_commit()}, {part}, {minutes:.0f} minutes on"
        f" {_processors()} processors, seed {ledger.seed}:"
    )


def record(ledger: Ledger, page: Path = PAGE) -> None:
    """Write the table of a whole run into its place in the page.

    Raises:
        ValueError: the page has no such place.
    """
    before, begin, rest = page.read_text(encoding="utf-8").partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{page} has no place for the table")
    text = f"{before}{BEGIN}\n\n{heading(ledger, WHOLE)}\n\n{table(ledger)}\n\n{END}{after}"
    page.write_text(text, encoding="utf-8")


def _processors() -> int:
    return len(os.sched_getaffinity(0))


def _commit() -> str:
    """Return the commit that was tested, and whether anything beside it lay in the tree."""

    def git(*words: str) -> str:
        argv = ["git", "-c", "safe.directory=*", "-C", str(SOURCE), *words]
        return subprocess.run(argv, capture_output=True, text=True, check=False).stdout.strip()

    changed = git("status", "--porcelain", "--", ".", f":!{PAGE.relative_to(SOURCE)}")
    return (git("rev-parse", "--short=10", "HEAD") or "unknown") + (
        " with changes" if changed else ""
    )
