"""What the machines of a deployment come to, in small: who runs what, and who lets whom in.

It takes the place of `workload.Workload` in each unit, keeps what the real one would have
written, and lets a worker be registered while a web it knows knows it.
"""

from __future__ import annotations

import base64
import json
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from concourse.web import WebSecrets, WebState
from concourse.worker import WorkerState
from database import Database
from desired import Wish
from gpu.manager import GpuState
from host import Layout
from juju import Juju
from rehearsal.controller import Controller
from rehearsal.juju import Unit
from rehearsal.standins.model import Secret
from status import Seen
from tests.unit.dispatching import DispatchedUnit
from tsa import Web
from web_workload import WebSeen

VERSION = "8.3.0"


def key_of(whose: str) -> str:
    """Return one public-key line, the same for the same owner."""
    blob = (7).to_bytes(4, "big") + b"ssh-rsa" + whose.encode().ljust(64, b"\0")
    return f"ssh-rsa {base64.b64encode(blob).decode()}"


@dataclass
class Machine:
    """What one unit runs.

    Attributes:
        site: what its web was started with; None where none runs.
        keys: whom its web lets in; None until there is a file of them.
        gateway: the web that its worker was given; None where none runs.
        has_key: whether a worker's key was ever made here.
        removed: whether Concourse was taken off again.
    """

    world: World
    unit: str
    gpu: Any = None
    site: tuple[Database, WebSecrets, str] | None = None
    keys: dict[str, str] | None = None
    leaving: dict[str, str] = field(default_factory=dict)
    gateway: Web | None = None
    has_key: bool = False
    removed: bool = False

    def __call__(self, layout: Layout, progress: Callable[[str], None]) -> Machine:
        return self

    @property
    def web(self) -> Machine:
        return self

    @property
    def version(self) -> str:
        return VERSION

    def reconcile(self, wish: Wish, juju: Juju, *, at_once: bool, everybody: bool = True) -> None:
        side = wish.web_side
        shared = side.secrets if side else None
        if wish.mode != "worker":
            juju.request_database()
        if (side and not shared) or (wish.mode == "auto" and juju.leads):
            shared = juju.secrets(self.world.make_secrets)
        if side is None and self.site:
            self.site = None
            juju.withdraw(web=True)
        own = {wish.worker_name: key_of(self.unit)} if "worker" in wish.roles else {}
        if side and shared and isinstance(side.database, Database):
            self.site = side.database, shared, side.address
            if everybody or self.keys is None:
                present = {**juju.workers(), **(own if wish.mode == "all" else {})}
                self.leaving.update(self.keys or {})
                self._let_in(present)
            juju.publish_web(2222, shared.tsa_host_key, VERSION)
        if own:
            juju.publish_worker_key(wish.worker_name, key_of(self.unit))
            mine = Web(("127.0.0.1:2222",), shared.tsa_host_key) if shared else None
            gateway = mine if wish.mode == "all" else wish.web
            if gateway or not wish.related:
                self.gateway = gateway
            self.has_key = True
        elif self.has_key:
            self.gateway = None
            juju.withdraw(web=False)

    def admit(self, joined: Mapping[str, str], left: tuple[str, ...] = ()) -> bool:
        if self.keys is None:
            return False
        self.leaving.update({name: self.keys[name] for name in left if name in self.keys})
        stay = {name: key for name, key in self.keys.items() if name not in self.leaving}
        self._let_in({**stay, **joined})
        return True

    def forget_departed(self) -> None:
        """Let the keys go of those that left: 15 minutes are over."""
        if self.keys is not None:
            self.keys = {name: key for name, key in self.keys.items() if name not in self.leaving}
        self.leaving = {}

    def _let_in(self, present: Mapping[str, str]) -> None:
        self.leaving = {name: key for name, key in self.leaving.items() if name not in present}
        self.keys = {**self.leaving, **present}

    def observe(self, wish: Wish) -> Seen:
        running = "active" if self.gateway else "inactive"
        registered = self.unit in self.world.registered()
        state = WorkerState(running, up_to_date=True, healthy=True, registered=registered)
        web = None
        if wish.web_side:
            there = self.world.registered()
            answers = WebState("active", up_to_date=True, answers=True, version=VERSION)
            web = WebSeen(answers if self.site else WebState("absent"), len(there), len(there))
        gpu = GpuState(count=1) if wish.gpu else None
        return Seen(VERSION, None, None, state, gpu, web)

    def remove(self) -> None:
        self.site = self.gateway = self.keys = None
        self.removed = True


@dataclass
class World:
    """A model, its units and their machines, and a PostgreSQL that answers.

    Attributes:
        folder: where the units' folders are made.
        password: what PostgreSQL gives now.
        endpoint: where its primary is now.
    """

    folder: Path
    controller: Controller = field(default_factory=Controller)
    machines: dict[str, Machine] = field(default_factory=dict)
    units: dict[str, DispatchedUnit] = field(default_factory=dict)
    password: str = "first"
    endpoint: str = "10.0.1.1:5432"
    made: int = 0

    def __post_init__(self) -> None:
        self.controller.outsiders.append(self._answer)

    def add(self, name: str, **config: Any) -> None:
        """Add a unit; its application's first one decides the configuration."""
        app = name.partition("/")[0]
        mates = [unit for unit in self.units.values() if unit.model.app == app]
        machine = Machine(self, name)
        place = self.folder / name.replace("/", "-")
        options = {key.replace("_", "-"): value for key, value in config.items()}
        address = f"10.0.0.{len(self.units) + 1}"
        unit = DispatchedUnit(name, place, machine, address, options)
        if mates:
            unit.model.config = mates[0].model.config
        else:
            self.controller.relate(f"{app}:concourse-peer")
        self.units[name], self.machines[name] = unit, machine
        self.controller.add_unit(cast("Unit", unit))

    def relate(self, *ends: str) -> None:
        """Relate two endpoints; PostgreSQL's side is there at once."""
        link = self.controller.relate(*ends)
        if "postgresql" in link.ends:
            link.scope.add("postgresql/0")
            link.bags["postgresql/0"] = {"ingress-address": "10.0.1.1"}

    def make_secrets(self) -> WebSecrets:
        self.made += 1
        return WebSecrets("session key", key_of(f"host {self.made}"), secrets.token_hex(8))

    def registered(self) -> set[str]:
        """Return the units whose worker a web that they were given lets in."""
        return {name for name, machine in self.machines.items() if self._is_registered(machine)}

    def _is_registered(self, machine: Machine) -> bool:
        gateway = machine.gateway
        for web in self.machines.values():
            if gateway is None or web.site is None or not web.keys:
                continue
            _, shared, address = web.site
            own = web is machine and "127.0.0.1:2222" in gateway.hosts
            reached = own or f"{address}:2222" in gateway.hosts
            known = web.keys.get(machine.unit.replace("/", "-")) == key_of(machine.unit)
            if reached and known and shared.tsa_host_key == gateway.host_key:
                return True
        return False

    def rotate(self) -> None:
        """Give every application another password, as PostgreSQL's charm does."""
        self.password += "+"
        for secret in self.controller.secrets.values():
            if secret.holder == "postgresql":
                secret.revise({"username": "concourse", "password": self.password})

    def move(self, endpoint: str) -> None:
        """Have PostgreSQL's primary be somewhere else."""
        self.endpoint = endpoint
        self._answer()

    def _answer(self) -> None:
        for link in self.controller.links:
            if "postgresql" not in link.ends or link.dying:
                continue
            app = link.other("postgresql")
            if link.ends["postgresql"] == "db":
                self._answer_legacy(app, link.bags)
                continue
            asked = link.bags.get(app, {}).get("database")
            bag = link.bags.setdefault("postgresql", {})
            if asked and "secret-user" not in bag:
                bag["secret-user"] = f"secret:{secrets.token_hex(10)}"
                content = {"username": "concourse", "password": self.password}
                self.controller.secrets[bag["secret-user"]] = Secret(
                    "", "application", content, holder="postgresql", granted={app}
                )
            if asked:
                bag.update({"database": asked, "endpoints": self.endpoint})

    def _answer_legacy(self, app: str, bags: dict[str, dict[str, str]]) -> None:
        """Answer as 14's `db` does: in the unit's bag, naming those that it has let in."""
        asked = bags.get(app, {}).get("database")
        units = sorted(name for name in bags if name.startswith(f"{app}/"))
        if not asked or not units:
            return
        host, _, port = self.endpoint.partition(":")
        bags["postgresql/0"].update(
            {
                "database": asked,
                "master": f"dbname={asked} host={host} port={port} user=concourse "
                f"password={self.password}",
                "allowed-subnets": ",".join(bags[unit]["egress-subnets"] for unit in units),
                "allowed-units": " ".join(units),
                "state": "master",
            }
        )

    def update_all(self) -> None:
        """Send every unit an update-status, after the time that departed workers' keys stay."""
        for machine in self.machines.values():
            machine.forget_departed()
        for name in list(self.controller.agents):
            self.units[name].hook("update-status")
        self.controller.settle()

    def end(self) -> str:
        """Return what it all came to, without what differs from run to run."""
        facts: dict[str, Any] = {"registered": sorted(self.registered())}
        for name, agent in sorted(self.controller.agents.items()):
            machine, model = self.machines[name], agent.unit.model
            facts[name] = {
                "status": model.status,
                "ports": sorted(model.ports),
                "keys": sorted(machine.keys or {}),
                "hosts": machine.gateway.hosts if machine.gateway else (),
                "database": (machine.site[0].host, machine.site[0].password)
                if machine.site
                else None,
            }
        for link in self.controller.links:
            gone = self.units.keys() - self.controller.agents.keys()
            bags = {who: bag for who, bag in link.bags.items() if who not in gone}
            facts[" ".join(sorted(link.ends))] = bags
        facts["secrets"] = sorted(one.label for one in self.controller.secrets.values())
        text = json.dumps(facts, indent=1, sort_keys=True, default=str)
        for identity, secret in self.controller.secrets.items():
            text = text.replace(identity, f"the secret of {secret.holder}")
        return text
