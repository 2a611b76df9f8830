"""What readers under the fuzzer took, and what they refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")


class Tally:
    """Counts texts by reader, in a file: libFuzzer ends the process without a word to Python."""

    def __init__(self) -> None:
        self.file: Path | None = None
        self._counts: dict[str, list[int]] = {}

    def count(self, reader: str, *, taken: bool) -> None:
        """Count a text; the file has every number at its last power of two."""
        numbers = self._counts.setdefault(reader, [0, 0])
        numbers[not taken] += 1
        number = numbers[not taken]
        if self.file and not number & (number - 1):
            self.file.write_text(json.dumps(self._counts))

    def read(self, reader: str, call: Callable[[], T], *refusals: type[Exception]) -> T | None:
        """Return what a reader makes of a text; None where it refuses it."""
        try:
            found = call()
        except refusals:
            self.count(reader, taken=False)
            return None
        self.count(reader, taken=True)
        return found


tally = Tally()


def told(file: Path) -> dict[str, tuple[int, int]]:
    """Return how many texts each reader took and refused at least."""
    counts = json.loads(file.read_text()) if file.exists() else {}
    return {reader: (taken, refused) for reader, (taken, refused) in counts.items()}
