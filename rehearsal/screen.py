"""The one calm screen: a line when something happens, the seconds since the start beside it."""

from __future__ import annotations

import sys
import time
from typing import TextIO

_COLOURS = {"bold": "1", "dim": "2", "good": "32", "bad": "31"}


class Screen:
    """Prints the play and counts what was not as it should be.

    Args:
        out: where to; coloured only if it is a terminal.
    """

    def __init__(self, out: TextIO | None = None) -> None:
        self._out = out or sys.stdout
        self._coloured = self._out.isatty()
        self._start = time.monotonic()
        self.wrong: list[str] = []

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._start

    def title(self, text: str) -> None:
        self._print(self._paint(text, "bold"))

    def part(self, text: str) -> None:
        """Begin a part of the play."""
        self._print("")
        self._print(self._paint(text, "bold"))

    def line(self, text: str) -> None:
        """Print one line of a part, with the time."""
        self._print(f"{self._paint(f'{self.seconds:6.1f}', 'dim')}  {text}")

    def status(self, text: str) -> None:
        """Print a status that a hook has set, "word  message"."""
        word, _, message = text.partition("  ")
        self.line(f"    {word:<12} {message}")

    def plain(self, text: str) -> None:
        """Print text as it is, indented, without the time."""
        for line in text.splitlines():
            self._print(f"        {line}".rstrip())

    def check(self, holds: bool, text: str, otherwise: str = "") -> bool:
        """Print whether something is as it should be, and remember if it isn't.

        Args:
            holds: whether it is.
            text: what should be, as one clause.
            otherwise: what is instead.
        """
        mark = self._paint("ok", "good") if holds else self._paint("WRONG", "bad")
        pad = " " * (5 if holds else 2)
        rest = f": {otherwise}" if otherwise and not holds else ""
        self.line(f"{mark}{pad}{text}{rest}")
        if not holds:
            self.wrong.append(text)
        return holds

    def _paint(self, text: str, colour: str) -> str:
        return f"\033[{_COLOURS[colour]}m{text}\033[0m" if self._coloured else text

    def _print(self, text: str) -> None:
        print(text, file=self._out, flush=True)
