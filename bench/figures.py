"""Figures: what many rounds come to, and whether a goal is held.

Ours and its base are measured in the same rounds, one right after the other in an order
drawn anew, so that what else the machine does meets both; the overhead is the median of
the rounds' differences, which a few disturbed rounds don't move.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any


@dataclass(frozen=True)
class Goal:
    """What a figure is held to.

    Attributes:
        text: as the table says it.
        most: the limit.
        of: what is limited: "overhead" (ms), "ratio", or "share" of another overhead.
    """

    text: str
    most: float
    of: str = "overhead"


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes:
        name: what was measured.
        base: what it was measured against.
        ours_ms: the median, in milliseconds.
        base_ms: the base's median.
        overhead_ms: the median of the rounds' differences.
        spread_ms: their quartiles, the first and the third.
        ratio: ours_ms by base_ms.
        rounds: how many rounds.
        goal: in words; "" for none.
        met: whether it is held; None without one.
        note: what the numbers don't say.
        group: which part of the bench it belongs to, for the plot.
    """

    name: str
    base: str
    ours_ms: float
    base_ms: float
    overhead_ms: float
    spread_ms: tuple[float, float]
    ratio: float
    rounds: int
    goal: str = ""
    met: bool | None = None
    note: str = ""
    group: str = field(default="", compare=False)

    def as_json(self) -> dict[str, Any]:
        """Return it as bench.json holds it, milliseconds to the microsecond."""
        rounded = {
            key: round(value, 3) if isinstance(value, float) else value
            for key, value in asdict(self).items()
        }
        return rounded | {"spread_ms": [round(value, 3) for value in self.spread_ms]}


def quartiles(values: Sequence[float]) -> tuple[float, float, float]:
    """Return the first quartile, the median and the third of at least one value."""
    if len(values) == 1:
        return (values[0],) * 3
    first, middle, third = statistics.quantiles(values, n=4, method="inclusive")
    return first, middle, third


def compare(
    name: str, base: str, ours: Sequence[float], theirs: Sequence[float], **more: Any
) -> Row:
    """Return the row of two series of the same rounds, in milliseconds.

    Raises:
        ValueError: they aren't of one length, or empty.
    """
    if not ours:
        raise ValueError(f"{name}: nothing was measured")
    first, middle, third = quartiles([one - other for one, other in zip(ours, theirs, strict=True)])
    mine, their = statistics.median(ours), statistics.median(theirs)
    return Row(
        name=name,
        base=base,
        ours_ms=mine,
        base_ms=their,
        overhead_ms=middle,
        spread_ms=(first, third),
        ratio=mine / their,
        rounds=len(ours),
        **more,
    )


def judge(row: Row, goal: Goal, other: float = 0.0, *, besides: bool = True) -> Row:
    """Return a row with its goal, and whether it is held.

    Args:
        row: the row.
        goal: its goal.
        other: for a share: the overhead that it is a share of, in milliseconds.
        besides: what has to hold beside the number.
    """
    if goal.of == "share":
        share = row.overhead_ms / other if other > 0 else float("inf")
        note = f"{share:.0%} of {other:.1f} ms" if other > 0 else "the other has no overhead"
        return replace(row, goal=goal.text, met=share <= goal.most and besides, note=note)
    value = row.ratio if goal.of == "ratio" else row.overhead_ms
    return replace(row, goal=goal.text, met=value <= goal.most and besides)
