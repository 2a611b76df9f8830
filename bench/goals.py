"""The goals, in one place."""

from __future__ import annotations

from .figures import Goal

PASS = Goal("≤ 1 ms", 1.0)
NO_TASK = Goal("≤ 2 ms", 2.0)
SHARED = Goal("≤ 3 ms", 3.0)
LEASED = Goal("≤ 5 ms", 5.0)
LIFE = Goal("≤ 15 % of the mission's", 0.15, "share")
HOOK = Goal("≤ 1.25x, no apt, no restart", 1.25, "ratio")
JOIN = Goal("≤ 1.5x", 1.5, "ratio")
SET_UP = Goal("≤ 1.1x", 1.1, "ratio")
