"""What the parts of a deployment's play have in common: machines, applications, a model."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .choice import Choice
from .controller import Controller, Event
from .juju import Run, Unit, defaults
from .links import Link
from .machine import Machine, MachineError, MachineOptions
from .network import Network
from .screen import Screen
from .standins import authority, gpu, postgresql, real
from .standins.model import Model
from .world import Supplies, supplied

PEERS = "concourse-peer"
POSTGRESQL = "postgresql"
# Seconds between two update-status.  Juju's five minutes are longer than all that a service
# does by itself, such as the next try of a worker that its web didn't know yet (5 s).
_BETWEEN = 6.0


@dataclass
class Site:
    """A machine of the model, ready for a unit.

    Attributes:
        address: its address on the machines' network.
        supplies: what it can fetch.
    """

    machine: Machine
    address: str
    supplies: Supplies


@dataclass
class Stage:
    """One play of a deployment, while it goes on.

    Attributes:
        resources: what ends with the play.
        charm: the unpacked charm.
        sites: the machines by name.
        units: every unit that was deployed, gone or not.
    """

    choice: Choice
    screen: Screen
    resources: ExitStack
    controller: Controller = field(init=False)
    charm: Path = field(init=False)
    network: Network = field(init=False)
    server: postgresql.Server = field(init=False)
    database: postgresql.Charmed = field(init=False)
    sites: dict[str, Site] = field(default_factory=dict)
    units: dict[str, Unit] = field(default_factory=dict)
    summary: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.controller = Controller(report=self._report)

    def boot(self, name: str) -> Machine:
        """Boot a machine that lasts as long as the play."""
        self.screen.line(f"Booting a machine for {name}")
        return self.resources.enter_context(Machine.boot(MachineOptions(name)))

    def serve_database(self, machine: Machine) -> None:
        """Make the first machine the database's; the others are connected to it."""
        self.network = Network(machine)
        self.server = postgresql.Server(machine, self.network.hub_address)
        self.server.start()
        self.database = postgresql.Charmed(self.server, self.controller.secrets)
        self.controller.outsiders.append(self._answer)

    def prepare(self, name: str, hardware: gpu.Hardware) -> Site:
        """Boot a machine for units of the charm, connected to the others."""
        machine = self.boot(name)
        gpu.plug(machine, hardware)
        machine.shell(postgresql.CLIENT, timeout=300)
        like = next((site.supplies for site in self.sites.values()), None)
        supplies = self.resources.enter_context(supplied(machine, like))
        if like is None:
            supplies.offer_release(self.choice.version, self.choice.concourse)
        if self.choice.concourse:
            real.prepare_release(machine)
        self.sites[name] = Site(machine, self.network.add(machine), supplies)
        return self.sites[name]

    def deploy(self, app: str, *names: str, **options: Any) -> None:
        """Deploy an application, a unit on each of some machines.

        Args:
            app: its name.
            names: the machines.
            options: its configuration, with "_" for "-".
        """
        config = {
            **defaults((self.charm / "config.yaml").read_text()),
            **next(iter(self.sites.values())).supplies.options(),
            "concourse-version": self.choice.version,
            **{name.replace("_", "-"): value for name, value in options.items()},
        }
        self.controller.relate(f"{app}:{PEERS}")
        for number, name in enumerate(names):
            self.add_unit(f"{app}/{number}", name, config)

    def add_unit(self, unit: str, name: str, config: dict[str, Any]) -> None:
        """Add a unit on a machine; its application's units share the configuration."""
        site = self.sites[name]
        model = Model(unit=unit, config=config, address=site.address)
        made = Unit(site.machine, model, self.screen.status)
        made.install(self.charm)
        self.units[unit] = made
        self.controller.add_unit(made)

    def relate(self, *ends: str) -> Link:
        """Relate two endpoints; the database's side is in the relation at once."""
        link = self.controller.relate(*ends)
        if POSTGRESQL in link.ends:
            link.scope.add(f"{POSTGRESQL}/0")
            link.bags[f"{POSTGRESQL}/0"] = {"ingress-address": self.server.address}
        return link

    def configure(self, app: str, **options: Any) -> None:
        """Change an application's options, with "_" for "-"."""
        changed = {name.replace("_", "-"): value for name, value in options.items()}
        for unit in self.units.values():
            if unit.model.app == app:
                unit.model.config.update(changed)

    def certify(self, ca: authority.Authority, app: str = "web") -> None:
        """Relate an application to a provider of certificates, which answers from now on."""
        link = self.controller.relate(f"{app}:certificates", f"{authority.APP}:certificates")
        link.scope.add(f"{authority.APP}/0")
        link.bags[f"{authority.APP}/0"] = {"ingress-address": self.server.address}
        self.controller.outsiders.append(lambda: ca.answer(link.bags))

    def answer_all(self) -> None:
        """Have what has no machine here say what it would say by itself."""
        for outsider in self.controller.outsiders:
            outsider()

    def settle(self) -> None:
        self.controller.settle()

    def send(self, unit: str, hook: str) -> None:
        """Send a unit a hook that belongs to no relation, and what follows from it."""
        self.controller.run(Event(self.controller.agents[unit], hook))
        self.settle()

    def update(self, *units: str) -> None:
        """Send update-status to some units, as Juju does every few minutes."""
        for unit in units or tuple(self.controller.agents):
            self.send(unit, "update-status")

    def action(self, unit: str, name: str, **parameters: Any) -> Run:
        """Run an action; what it reports is another matter than whether it ran.

        Raises:
            MachineError: its dispatch failed.
        """
        self.screen.line(f"{unit}  {name} (action)")
        run = self.units[unit].action(name, **parameters)
        if run.code != 0:
            raise MachineError(f"{unit}: {name} failed:\n{run.trouble}")
        return run

    def status(self, unit: str) -> str:
        """Return a unit's status, "word  message"."""
        return "  ".join(self.units[unit].model.status)

    def expect(self, unit: str, wanted: str, tries: int = 3) -> bool:
        """Check a unit's status, after an update-status or two if it has to come round."""
        for number in range(tries):
            if self.status(unit) == wanted:
                break
            if number:
                time.sleep(_BETWEEN)
            self.update(unit)
        return self.screen.check(self.status(unit) == wanted, f"{unit}  {wanted}",
                                 self.status(unit))  # fmt: skip

    def process(self, unit: str, service: str) -> str:
        """Return a service's main process in a unit's machine."""
        argv = f"systemctl show -p MainPID --value {service}"
        return self.units[unit].machine.shell(argv).strip()

    def variable(self, unit: str, service: str, name: str) -> str:
        """Return a variable of a service's environment; "" without the variable or a process."""
        script = f"tr '\\0' '\\n' </proc/{self.process(unit, service)}/environ | grep ^{name}="
        found = self.units[unit].machine.shell(script, check=False)
        return found.strip().partition("=")[2]

    def move_database(self) -> str:
        """Have PostgreSQL answer at another address of its machine only; return that."""
        self.server.move(self.network.more(self.server.machine))
        self._answer()
        return self.server.address

    def _answer(self) -> None:
        for link in self.controller.links:
            if POSTGRESQL in link.ends and not link.dying:
                self._answer_one(link)

    def _answer_one(self, link: Link) -> None:
        app = link.other(POSTGRESQL)
        if link.ends[POSTGRESQL] == "db":
            units = {name: bag for name, bag in link.bags.items() if name.startswith(f"{app}/")}
            self.database.answer_legacy(app, units, link.bags[f"{POSTGRESQL}/0"])
            return
        bag = link.bags.setdefault(POSTGRESQL, {})
        self.database.answer(app, link.bags.get(app, {}), bag)

    def _report(self, event: Event) -> None:
        about = f" ({event.remote})" if event.remote else ""
        self.screen.line(f"{event.agent.name}  {event.name}{about}")


def wait_for(ready: Callable[[], bool], machine: Machine, seconds: int = 20) -> bool:
    """Wait for what happens in a machine without a hook, such as a worker's next try."""
    for _ in range(seconds * 2):
        if ready():
            return True
        machine.shell("sleep 0.5")
    return False
