"""What the parts of a play have in common."""

from __future__ import annotations

from dataclasses import dataclass, field

from . import footprint
from .choice import Choice
from .footprint import Footprint
from .juju import Run, Unit
from .machine import Machine, MachineError
from .screen import Screen
from .standins.model import Relation
from .world import World


@dataclass
class Stage:
    """One play, while it goes on.

    Attributes:
        before: the machine's files before the first hook.
        packages: the packages then, "name version".
        summary: what the end of the play repeats.
        operators: files that the operator changed meanwhile, on the status' advice.
    """

    choice: Choice
    screen: Screen
    machine: Machine
    world: World
    unit: Unit
    before: Footprint = field(init=False)
    packages: frozenset[str] = field(init=False)
    summary: list[str] = field(default_factory=list)
    operators: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.before = self.look()
        self.packages = self.installed()

    def hook(self, name: str, relation: Relation | None = None, remote_unit: str = "") -> Run:
        """Run a hook and print it.

        Raises:
            MachineError: it failed; Juju would go no further either.
        """
        self.screen.line(name)
        run = self.unit.hook(name, relation, remote_unit)
        self._ended(run)
        return run

    def action(self, name: str) -> Run:
        """Run an action and print it.

        Raises:
            MachineError: its dispatch failed; what it reports is another matter.
        """
        self.screen.line(f"{name} (action)")
        run = self.unit.action(name)
        self._ended(run)
        return run

    def _ended(self, run: Run) -> None:
        if run.code != 0:
            self.screen.plain(run.trouble)
            raise MachineError(f"{run.name} failed with status {run.code}.")

    @property
    def status(self) -> tuple[str, str]:
        """Return the unit's status: its word and its message."""
        return self.unit.model.status

    @property
    def worker(self) -> str:
        """Return the name that the unit's worker registers under."""
        return self.unit.model.unit.replace("/", "-")

    def look(self) -> Footprint:
        """Return the machine's files as they are now."""
        return footprint.look(self.machine.disk / "upper")

    def installed(self) -> frozenset[str]:
        """Return the installed packages, "name version"."""
        query = "dpkg-query -W -f '${Package} ${Version} ${db:Status-Status}\\n'"
        lines = self.machine.shell(query).splitlines()
        return frozenset(line.rpartition(" ")[0] for line in lines if line.endswith(" installed"))

    def changed(self) -> tuple[str, ...]:
        """Return the files that differ from before and that no new package brought."""
        names = sorted({one.split()[0] for one in self.installed() - self.packages})
        owned = self.machine.shell(f"dpkg -L {' '.join(names)}").split("\n") if names else []
        paths = footprint.changes(self.before, self.look())
        return footprint.beside(paths, [*owned, *self.operators])
