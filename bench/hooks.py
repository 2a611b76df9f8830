"""The row about hooks: one on an unchanged machine beside an empty charm's."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePath

from rehearsal.machine import Machine
from rehearsal.screen import Screen

from . import goals
from .deployed import checked, idle, traced, worker
from .figures import Row, compare, judge

_APT = {"apt", "apt-get", "apt-cache", "aptitude", "dpkg"}
_VERBS = {"start", "stop", "restart", "try-restart", "reload", "daemon-reload", "kill"}


def unchanged(machine: Machine, screen: Screen, rounds: int) -> list[Row]:
    """Measure update-status on a worker that is ready, against an empty charm's."""
    with worker(machine, screen, **{"enable-gpu": True}) as deployed:
        screen.line("Deploying a worker with a GPU")
        for hook in ("install", "leader-elected", "config-changed", "start"):
            deployed.run(hook)
        deployed.relate()
        screen.line("Hooks on the unchanged machine, an empty charm's between them")
        empty, ours, theirs = deployed.empty(), [], []
        checked(empty.hook("update-status"))  # the first compiles
        without = idle(machine)
        for _ in range(rounds):
            ours.append(deployed.run("update-status").seconds * 1000 - without)
            theirs.append(checked(empty.hook("update-status")).seconds * 1000 - without)
        started = traced(deployed.unit, "update-status")
        base = traced(empty, "update-status")
    row = compare("hook on an unchanged machine", "an empty ops charm's", ours, theirs)
    busy = loud(started)
    said = f"{len(started)} processes, the empty charm's {len(base)}"
    return [_noted(judge(row, goals.HOOK, besides=not busy), said, busy)]


def loud(started: Sequence[Sequence[str]]) -> list[str]:
    """Return those commands that an unchanged machine has no use for: apt, and restarts."""
    found = []
    for argv in started:
        name = PurePath(argv[0]).name
        if name in _APT or (name == "systemctl" and _VERBS.intersection(argv[1:])):
            found.append(" ".join([name, *argv[1:3]]))
    return found


def _noted(row: Row, said: str, busy: Sequence[str]) -> Row:
    from dataclasses import replace

    return replace(row, group="hooks", note=said + (f"; {', '.join(busy)}" if busy else ""))
