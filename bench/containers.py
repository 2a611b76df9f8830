"""The rows about containers: each call of runc, and whole lives, beside their peers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from . import goals
from .figures import Row, compare, judge
from .runtimes import CHARM, MISSION, MODES, NVIDIA, RUNC, Runtimes

Rounds = Mapping[str, Sequence[Mapping[str, float]]]
CALLS = ("start", "exec", "ps", "state", "kill", "delete")
ALONE = "nvidia-container-runtime alone"
THEIRS = "the mission's wrapper"


def calls(runtimes: Runtimes, rounds: int) -> list[Row]:
    """Measure each call of runc through the wrapper, for what is no task."""
    cases = []
    for kind in ("check", "get", "put"):
        cases.append(runtimes.case(f"{kind} runc", RUNC, kind, sees=False, more=True))
        cases.append(runtimes.case(f"{kind} charm", CHARM, kind, "shared", sees=False, more=True))
    found = runtimes.measure(cases, rounds=rounds)
    rows = []
    for call in CALLS:
        ours = [each[call] for kind in ("check", "get", "put") for each in found[f"{kind} charm"]]
        base = [each[call] for kind in ("check", "get", "put") for each in found[f"{kind} runc"]]
        rows.append(judge(compare(f"runc {call}", "runc", ours, base, group="calls"), goals.PASS))
    for kind in ("check", "get", "put"):
        row = _row(f"runc create of a {kind}", found, f"{kind} charm", f"{kind} runc", "create")
        rows.append(judge(row, goals.NO_TASK))
    return rows


def lives(runtimes: Runtimes, at_once: int, rounds: int) -> list[Row]:
    """Measure whole lives, without a GPU and with one, under every runtime."""
    runtimes.plug(at_once)
    cases = [
        runtimes.case("check runc", RUNC, "check", sees=False),
        runtimes.case("check nvidia", NVIDIA, "check", sees=False),
        runtimes.case("check mission", MISSION, "check", sees=True),
        runtimes.case("task nvidia", NVIDIA, "task", sees=True),
        runtimes.case("task mission", MISSION, "task", sees=True),
    ]
    for mode in MODES:
        cases.append(runtimes.case(f"check {mode}", CHARM, "check", mode, sees=False))
        cases.append(runtimes.case(f"task {mode}", CHARM, "task", mode, sees=True))
    found = runtimes.measure(cases, rounds=rounds, at_once=at_once)
    rows = _lives(found, "check", "runc", "bare runc", at_once)
    rows += _lives(found, "task", "nvidia", ALONE, at_once)
    if at_once == 1:
        rows += [_create(found, mode) for mode in MODES]
    return rows


def _create(found: Rounds, mode: str) -> Row:
    name = f"runc create of a GPU task, {mode}"
    row = _row(name, found, f"task {mode}", "task nvidia", "create", ALONE)
    return judge(row, goals.SHARED if mode == "shared" else goals.LEASED)


def _lives(found: Rounds, kind: str, base: str, shown: str, count: int) -> list[Row]:
    what = "life without a GPU" if kind == "check" else "life of a GPU task"
    group = f"{kind} {count}"
    suffix = f", {count} at once" if count > 1 else ""

    def row(who: str, name: str) -> Row:
        mine, theirs = (_series(found, f"{kind} {each}", "life") for each in (who, base))
        return compare(f"{what}{suffix}: {name}", shown, mine, theirs, group=group)

    rows = [row("nvidia", ALONE)] if kind == "check" else []
    mission = row("mission", THEIRS)
    rows.append(mission)
    for mode in MODES:
        ours = row(mode, f"this charm, {mode}")
        rows.append(judge(ours, goals.LIFE, mission.overhead_ms))
    return rows


def _row(name: str, found: Rounds, ours: str, base: str, call: str, shown: str = "runc") -> Row:
    mine, theirs = _series(found, ours, call), _series(found, base, call)
    return compare(name, shown, mine, theirs, group="calls")


def _series(found: Rounds, case: str, call: str) -> list[float]:
    return [each[call] for each in found[case]]
