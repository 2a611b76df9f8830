"""Units for the rows about hooks: the charm's worker, and an empty charm beside it."""

from __future__ import annotations

import shutil
import statistics
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from rehearsal.choice import Choice
from rehearsal.juju import Run, Unit, defaults
from rehearsal.machine import Machine, MachineError
from rehearsal.play import unpacked_charm
from rehearsal.screen import Screen
from rehearsal.standins import gpu
from rehearsal.standins.model import Model, Relation
from rehearsal.world import World, around, knows

SOURCE = Path(__file__).resolve().parent.parent
_EMPTY = """#!/usr/bin/env python3
import ops


class EmptyCharm(ops.CharmBase):
    pass


ops.main(EmptyCharm)
"""
_METADATA = "name: empty\nsummary: Nothing.\ndescription: Nothing.\n"


@dataclass(frozen=True)
class Deployed:
    """A worker that was deployed, but for its last step, in a machine with one GPU."""

    machine: Machine
    world: World
    charm: Path
    unit: Unit

    def run(self, hook: str, relation: Relation | None = None, remote: str = "") -> Run:
        """Run a hook.

        Raises:
            MachineError: it failed.
        """
        return checked(self.unit.hook(hook, relation, remote))

    def relate(self) -> None:
        """Relate the web, and go on until the worker is ready."""
        relation = self.world.relation()
        self.unit.model.relations.append(relation)
        self.run("worker-tsa-relation-created", relation)
        relation.remote_units.append("web/0")
        for what in ("joined", "changed"):
            self.run(f"worker-tsa-relation-{what}", relation, "web/0")
        self.settle()

    def settle(self) -> None:
        """Send update-status until the worker is ready.

        Raises:
            MachineError: it isn't, after some.
        """
        for _ in range(5):
            if self.unit.model.status[1].startswith("Worker ready"):
                return
            self.run("update-status")
        raise MachineError(f"The worker is not ready: {'  '.join(self.unit.model.status)}")

    def empty(self) -> Unit:
        """Return a unit of a charm that does nothing, with the same ops beside it."""
        folder = self.machine.place / "empty"
        (folder / "src").mkdir(parents=True)
        (folder / "src/charm.py").write_text(_EMPTY)
        (folder / "metadata.yaml").write_text(_METADATA)
        shutil.copy2(self.charm / "dispatch", folder / "dispatch")
        shutil.copytree(self.charm / "venv", folder / "venv")
        unit = Unit(self.machine, Model(unit="empty/0"))
        unit.install(folder)
        return unit


@contextmanager
def worker(machine: Machine, screen: Screen, **options: object) -> Iterator[Deployed]:
    """Deploy a worker in a booted machine, not related yet, for the length of a `with` block."""
    model = Model(leader=True)
    gpu.plug(machine, gpu.Hardware())
    with around(machine, knows(model)) as world:
        world.offer_release()
        charm = unpacked_charm(Choice(), machine, screen)
        model.config = {**defaults((charm / "config.yaml").read_text()), **world.options()}
        model.config |= {"deployment-mode": "worker", **options}
        unit = Unit(machine, model)
        unit.install(charm)
        yield Deployed(machine, world, charm, unit)


def checked(run: Run) -> Run:
    """Return a hook's run, or say why it failed."""
    if run.code != 0:
        raise MachineError(f"{run.name} failed:\n{run.trouble}")
    return run


def idle(machine: Machine) -> float:
    """Return what it takes to run nothing in a machine, in milliseconds: no hook's own cost."""
    import time

    times = []
    for _ in range(5):
        began = time.monotonic()
        machine.run(["true"], timeout=10)
        times.append((time.monotonic() - began) * 1000)
    return statistics.median(times)


def traced(unit: Unit, hook: str) -> list[Sequence[str]]:
    """Run a hook under strace; return the command line of every program that was started.

    Raises:
        MachineError: it failed.
    """
    machine, output = unit.machine, "/run/bench-trace"
    machine.shell(
        "export DEBIAN_FRONTEND=noninteractive\n"
        "command -v strace >/dev/null && exit 0\n"
        "apt-get -qq -y install strace >/dev/null && exit 0\n"
        "apt-get -qq update; apt-get -qq -y install strace >/dev/null",
        timeout=120,
    )
    unit.under = ("strace", "-f", "-qq", "-e", "trace=execve", "-s", "200", "-o", output)
    try:
        checked(unit.hook(hook))
    finally:
        unit.under = ()
    return commands(machine.read(output))


def commands(trace: str) -> list[Sequence[str]]:
    """Return the command lines in what strace wrote of execve, those that succeeded."""
    import re

    found: list[Sequence[str]] = []
    waiting: dict[str, Sequence[str]] = {}
    for line in trace.splitlines():
        pid, _, call = line.partition(" ")
        match = re.search(r'execve\("([^"]*)", \[(.*?)\](?:,|\.\.\.)', call)
        if match:
            argv = [match[1], *re.findall(r'"((?:[^"\\]|\\.)*)"', match[2])[1:]]
            if call.endswith("<unfinished ...>"):
                waiting[pid] = argv
            elif call.endswith("= 0"):
                found.append(argv)
        elif "execve resumed" in call and call.endswith("= 0"):
            found.append(waiting.pop(pid, ("?",)))
    return found
