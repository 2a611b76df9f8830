"""The CPU time that a call of the wrapper takes, and whether it grows as the input does."""

from __future__ import annotations

import resource
import statistics
from collections.abc import Callable

Call = Callable[[], object]


def cpu(call: Call) -> float:
    """Return the seconds of CPU that a call's children take, and hold them to five.

    Unlike the time of a clock, they don't grow with what else the machine does.
    """
    begin = resource.getrusage(resource.RUSAGE_CHILDREN)
    call()
    end = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = end.ru_utime + end.ru_stime - begin.ru_utime - begin.ru_stime
    assert seconds < 5
    return seconds


def hold_to_linear(quarter: Call, whole: Call, *, rounds: int = 2) -> None:
    """Hold to linear time: 4 times the input may not cost 16 times as much.

    Both are called in turn, so that whatever slows the machine slows either.

    Args:
        quarter: the smaller input's call.
        whole: the same with 4 times as much.
        rounds: how often; the medians are compared, of two the lower ones.
    """
    times = [(cpu(quarter), cpu(whole)) for _ in range(rounds)]
    small, large = (statistics.median_low(each) for each in zip(*times, strict=True))
    assert large < 8 * small, times
