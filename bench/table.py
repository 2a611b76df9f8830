"""The rows as a table: on the screen, and in Markdown for the documentation."""

from __future__ import annotations

from collections.abc import Sequence

from .figures import Row

_HEAD = ("what", "against", "ours, ms", "base, ms", "overhead, ms", "ratio", "goal", "held")
_RIGHT = (2, 3, 4, 5)  # columns of numbers
_MARKS = {None: "", True: "yes", False: "no"}


def screen(rows: Sequence[Row]) -> str:
    """Return the table for a terminal, a blank line before each group."""
    cells = [_HEAD, *(_cells(row) for row in rows)]
    widths = [max(len(line[column]) for line in cells) for column in range(len(_HEAD))]
    lines = [_line(_HEAD, widths), "  ".join("-" * width for width in widths)]
    group = rows[0].group if rows else ""
    for row in rows:
        if row.group != group:
            lines.append("")
            group = row.group
        lines.append(_line(_cells(row), widths))
    return "\n".join(lines)


def markdown(rows: Sequence[Row]) -> str:
    """Return the table for a page."""
    rule = [("--:" if column in _RIGHT else "---") for column in range(len(_HEAD))]
    lines = [_HEAD, rule, *(_cells(row) for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cells(row: Row) -> tuple[str, ...]:
    first, third = row.spread_ms
    held = _MARKS[row.met] + (f" ({row.note})" if row.note else "")
    return (
        row.name,
        row.base,
        _number(row.ours_ms),
        _number(row.base_ms),
        f"{_number(row.overhead_ms)} ({_number(first)} to {_number(third)})",
        f"{row.ratio:.2f}",
        row.goal,
        held.strip(),
    )


def _number(value: float) -> str:
    """Three digits or so; nobody reads a microsecond off a second."""
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.1f}" if abs(value) >= 10 else (
        f"{value:.2f}"
    )  # fmt: skip


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    fitted = [
        f"{cell:>{width}}" if column in _RIGHT else f"{cell:<{width}}"
        for column, (cell, width) in enumerate(zip(cells, widths, strict=True))
    ]
    return "  ".join(fitted).rstrip()
