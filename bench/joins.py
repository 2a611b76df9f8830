"""The row about a large web: one worker more where there are a thousand, and where there is one."""

from __future__ import annotations

import base64
import os
import struct
from contextlib import ExitStack
from dataclasses import dataclass, replace

from rehearsal.choice import Choice
from rehearsal.juju import Unit
from rehearsal.machine import MachineError
from rehearsal.model_stage import Stage
from rehearsal.play import unpacked_charm
from rehearsal.screen import Screen
from rehearsal.standins.gpu import Hardware
from rehearsal.standins.model import Relation

from . import goals
from .deployed import checked, idle
from .figures import Row, compare, judge

MANY = 1000
_KEYS = "/etc/concourse/web/authorized_worker_keys"
_INSERT = (
    "\\connect {database}\nDELETE FROM workers;\n"
    "INSERT INTO workers SELECT 'crowd-' || n, '', 'running', '' FROM generate_series(0, {last}) n;"
)


def key() -> str:
    """Return a public-key line of the right form, which belongs to nobody."""
    parts = (b"ssh-ed25519", os.urandom(32))
    blob = b"".join(struct.pack(">I", len(part)) + part for part in parts)
    return f"ssh-ed25519 {base64.b64encode(blob).decode()}"


@dataclass(frozen=True)
class Crowd:
    """A web's unit and the workers that are related to it, none of which has a machine.

    Attributes:
        names: the workers' units; the last is the one that joins.
    """

    stage: Stage
    unit: Unit
    relation: Relation
    names: tuple[str, ...]

    def gather(self, count: int) -> None:
        """Let exactly the first of the crowd in, and have the web's database know them."""
        held = self.names[:count]
        self.relation.remote_units[:] = held
        lines = [
            f"{self.relation.bag(name)['worker-public-key']} {_named(name)}\n"
            for name in sorted(held)
        ]
        # In place: the file's owner and mode are the charm's.
        self.unit.machine.run(["tee", _KEYS], timeout=20, stdin="".join(lines))
        self.stage.server.sql(_INSERT.format(database=self._database(), last=count - 1))
        checked(self.unit.hook("update-status"))

    def join(self) -> float:
        """Return how long the web's hooks take for the one that joins, in milliseconds."""
        newcomer = self.names[-1]
        self.relation.remote_units.append(newcomer)
        took = 0.0
        for what in ("joined", "changed"):
            hook = f"web-tsa-relation-{what}"
            took += checked(self.unit.hook(hook, self.relation, newcomer)).seconds * 1000
        if f" {_named(newcomer)}\n" not in self.unit.machine.read(_KEYS):
            raise MachineError("the web's hook did not let the worker in")
        return took - 2 * idle(self.unit.machine)

    def _database(self) -> str:
        listed = self.stage.server.sql(
            "SELECT datname FROM pg_database WHERE datname ~ 'concourse'"
        )
        return listed.splitlines()[0]


def one_more(screen: Screen, rounds: int, many: int = MANY) -> list[Row]:
    """Measure one joining worker on a web that has many, and on one that has one."""
    with ExitStack() as resources:
        crowd = _web(screen, resources, many)
        ours, theirs = [], []
        for number in range(rounds):
            screen.line(f"One more worker, {number + 1} of {rounds}")
            crowd.gather(1)
            theirs.append(crowd.join())
            crowd.gather(many)
            ours.append(crowd.join())
    name = f"one more worker, {many:,} related"
    row = compare(name, "one more worker, 1 related", ours, theirs)
    return [replace(judge(row, goals.JOIN), group="hooks")]


def _web(screen: Screen, resources: ExitStack, many: int) -> Crowd:
    stage = Stage(Choice(), screen, resources)
    machine = stage.boot("postgresql-0")
    stage.charm = unpacked_charm(stage.choice, machine, screen)
    stage.serve_database(machine)
    stage.prepare("web-0", Hardware().without_gpus())
    stage.deploy("web", "web-0", deployment_mode="web")
    stage.relate("web:database", "postgresql:database")
    link = stage.relate("web:web-tsa", "crowd:worker-tsa")
    stage.settle()
    names = tuple(f"crowd/{number}" for number in range(many + 1))
    for name in names:
        link.bags[name] = {"worker-name": _named(name), "worker-public-key": key()}
    unit = stage.units["web/0"]
    relation = next(one for one in unit.model.relations if one.name == "web-tsa")
    return Crowd(stage, unit, relation, names)


def _named(unit: str) -> str:
    return unit.replace("/", "-")
