"""Two workers of one application and a change that restarts both: they take turns."""

from __future__ import annotations

import re
import time
from itertools import combinations

from . import containers
from .deployment_parts import CPU, workers
from .machine import Machine
from .model_stage import Stage, wait_for
from .standins.gpu import Hardware

SECOND = "cpu/1"
_BUILD = "a-build"


def take_turns(stage: Stage) -> None:
    """Add a unit, change an option of both while a build runs on one, and remove the unit."""
    stage.screen.part("juju add-unit cpu")
    stage.prepare("cpu-1", Hardware().without_gpus())
    stage.add_unit(SECOND, "cpu-1", stage.units[CPU].model.config)
    stage.settle()
    stage.expect(SECOND, "active  Worker ready")
    stage.screen.part("juju config cpu log-level=debug, while a build runs on cpu/0")
    since = time.time()
    before = stage.process(SECOND, "concourse-worker")
    machine = stage.units[CPU].machine
    with containers.running(machine, _BUILD, task=True):
        containers.work(machine, _BUILD)
        stage.units[CPU].model.config["log-level"] = "debug"
        stage.settle()
        _check_waiting(stage, before)
    wait_for(lambda: _is_registered(machine, since), machine, seconds=60)
    stage.update(CPU)
    stage.expect(CPU, "active  Worker ready")
    stage.expect(SECOND, "active  Worker ready")
    again = stage.process(SECOND, "concourse-worker") not in (before, "0")
    stage.screen.check(again, "cpu/1 restarted when cpu/0 was back")
    _check_apart(stage, since)
    stage.screen.part("juju remove-unit cpu/1")
    stage.controller.remove_unit(SECOND)
    stage.settle()


def _check_waiting(stage: Stage, before: str) -> None:
    waits = "waiting  Worker ready; a restart waits for its turn (max-unavailable=1)"
    stage.screen.check(stage.status(SECOND) == waits, f"{SECOND}  {waits}", stage.status(SECOND))
    if not stage.choice.concourse:  # a real web knows of no such build
        drains = "maintenance  Draining: running builds finish, then the worker restarts"
        stage.screen.check(stage.status(CPU) == drains, f"{CPU}  {drains}", stage.status(CPU))
    goes_on = stage.process(SECOND, "concourse-worker") == before
    there = workers(stage).get("cpu-1", ("", []))[0] == "running"
    stage.screen.check(goes_on and there, "cpu-1 goes on with what it has")


def _check_apart(stage: Stage, since: float) -> None:
    """Check by both journals that never both were down."""
    found = {unit: _away(stage.units[unit].machine, since) for unit in (CPU, SECOND)}
    spans = [(unit, *span) for unit, away in found.items() for span in away]
    for unit, start, end in spans:
        stage.screen.plain(f"{unit}  down from {start - since:.1f} s to {end - since:.1f} s")
    apart = all(one[2] <= two[1] or two[2] <= one[1] for one, two in combinations(spans, 2))
    once = all(len(away) == 1 for away in found.values())
    stage.screen.check(once and apart, "each was down once, never both at a time")


def _is_registered(machine: Machine, since: float) -> bool:
    away = _away(machine, since)
    return bool(away) and away[-1][1] < float("inf")


def _away(machine: Machine, since: float) -> list[tuple[float, float]]:
    """Return when a worker was down: from systemd's stop to its registration with the web."""
    argv = ["journalctl", "--unit=concourse-worker", "--output=short-unix", "--no-pager", "--quiet"]
    lines = machine.run([*argv, f"--since=@{int(since)}"], timeout=20).stdout.splitlines()
    found: list[tuple[float, float]] = []
    start = 0.0
    for line in lines:
        at = float(line.split()[0])
        if re.search(r"systemd\[\d+\]: Stopping ", line):
            start = at
        elif start and "worker.beacon-runner.beacon.registered" in line:
            found.append((start, at))
            start = 0.0
    return [*found, (start, float("inf"))] if start else found
