"""Runs a charm in a machine as Juju would: hooks and actions, one at a time."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .machine import PATH, Machine
from .standins import agent, tools
from .standins.gpu import stand_in
from .standins.model import Model, Relation

JUJU_VERSION = "3.6.1.3"
_LIMIT = 600.0  # seconds for one hook
_SOCKET = "/run/juju-agent.sock"


@dataclass
class Run:
    """One hook or action that has ended.

    Attributes:
        statuses: what the unit's status became, "word  message", in order.
        log: the lines of juju-log, "LEVEL text".
        output: what dispatch itself wrote.
        results: an action's, flat; `failure` is None unless it failed.
    """

    name: str
    code: int = 0
    seconds: float = 0.0
    statuses: list[str] = field(default_factory=list)
    log: list[str] = field(default_factory=list)
    output: str = ""
    results: dict[str, str] = field(default_factory=dict)
    failure: str | None = None

    @property
    def trouble(self) -> str:
        """Return what the charm said as it failed; ops logs an exception, prints nothing."""
        errors = [line for line in self.log if line.startswith("ERROR")]
        return "\n".join([*errors, self.output])[-3000:].strip()


class Unit:
    """One unit of the charm on one machine.

    Args:
        machine: where it runs.
        model: what Juju knows; changed by what the charm does.
        on_status: told each status as it is set.

    Attributes:
        under: a command to run dispatch under, such as a tracer.
    """

    def __init__(
        self, machine: Machine, model: Model, on_status: Callable[[str], None] = lambda _: None
    ) -> None:
        self.machine = machine
        self.model = model
        self.runs: list[Run] = []
        self.under: tuple[str, ...] = ()
        self._on_status = on_status
        self._agent = f"/var/lib/juju/agents/unit-{model.unit.replace('/', '-')}"

    def install(self, charm: Path) -> None:
        """Put an unpacked charm where Juju does, and the hook tools beside it."""
        self.machine.copy_in(charm, f"{self._agent}/charm")
        folder = f"{self._agent}/tools"
        self.machine.copy_in(stand_in("hook_tool"), f"{folder}/hook-tool")
        links = "\n".join(f"ln -sf hook-tool {name}" for name in tools.NAMES)
        self.machine.shell(f"cd {folder}\nchmod 755 hook-tool\n{links}")

    def refresh(self, charm: Path) -> None:
        """Put another charm in the place of the one that is there, as Juju's agent does."""
        old = f"find {self._agent}/charm -mindepth 1 -maxdepth 1 ! -name .unit-state.db"
        self.machine.shell(f"{old} -exec rm -rf {{}} +")
        self.machine.copy_in(charm, f"{self._agent}/charm")

    def hook(
        self,
        name: str,
        relation: Relation | None = None,
        remote_unit: str = "",
        *,
        limit: float = _LIMIT,
        env: Mapping[str, str] | None = None,
    ) -> Run:
        """Run a hook to its end.

        Args:
            name: such as "config-changed", or a relation's event in full.
            relation: the relation that it is about.
            remote_unit: the remote unit, for joined, changed and departed.
            limit: when to kill it with SIGKILL, in seconds; what it wrote to databags is
                lost then, as with Juju.
            env: what else Juju says about it, such as JUJU_DEPARTING_UNIT.

        Raises:
            MachineError: it was killed at its limit.
        """
        said = {"JUJU_HOOK_NAME": name, "JUJU_DISPATCH_PATH": f"hooks/{name}", **(env or {})}
        if relation:
            said["JUJU_RELATION"] = relation.name
            said["JUJU_RELATION_ID"] = relation.id
            said["JUJU_REMOTE_APP"] = relation.remote_app
            said["JUJU_REMOTE_UNIT"] = remote_unit
        return self._dispatch(name, said, limit, relation=relation)

    def action(self, name: str, **parameters: Any) -> Run:
        """Run an action to its end."""
        env = {
            "JUJU_HOOK_NAME": "",
            "JUJU_DISPATCH_PATH": f"actions/{name}",
            "JUJU_ACTION_NAME": name,
            "JUJU_ACTION_UUID": str(len(self.runs) + 1),
        }
        return self._dispatch(name, env, _LIMIT, action=name, parameters=parameters)

    def _dispatch(self, name: str, env: dict[str, str], limit: float, **what: Any) -> Run:
        run = Run(name)

        def event(kind: str, text: str) -> None:
            if kind == "log":
                run.log.append(text)
            elif run.statuses[-1:] != [text]:
                run.statuses.append(text)
                self._on_status(text)

        hook = agent.Hook(self.model, event, **what)
        started = time.monotonic()
        with agent.serve(self.machine.root / _SOCKET.lstrip("/"), hook):
            done = self.machine.run(
                [*self.under, f"{self._agent}/charm/dispatch"],
                timeout=limit,
                check=False,
                env=self._environment() | env,
            )
        if done.returncode == 0:
            hook.flush()
        run.code = done.returncode
        run.output = done.stdout + done.stderr
        run.seconds = time.monotonic() - started
        run.results, run.failure = hook.results, hook.failure
        self.runs.append(run)
        return run

    def _environment(self) -> dict[str, str]:
        charm = f"{self._agent}/charm"
        proxies = {
            f"JUJU_CHARM_{name.upper()}": value for name, value in self.model.proxies.items()
        }
        return {
            **proxies,
            "JUJU_AGENT_SOCKET_ADDRESS": _SOCKET,
            "JUJU_AGENT_SOCKET_NETWORK": "unix",
            "JUJU_CHARM_DIR": charm,
            "CHARM_DIR": charm,
            "JUJU_CONTEXT_ID": f"{self.model.unit}-{len(self.runs)}",
            "JUJU_MACHINE_ID": "0",
            "JUJU_MODEL_NAME": self.model.name,
            "JUJU_MODEL_UUID": self.model.uuid,
            "JUJU_PRINCIPAL_UNIT": "",
            "JUJU_UNIT_NAME": self.model.unit,
            "JUJU_VERSION": JUJU_VERSION,
            "LANG": "C.UTF-8",
            "PATH": f"{self._agent}/tools:{PATH}",
        }


def defaults(config: str) -> dict[str, Any]:
    """Return the options' defaults from the text of a config.yaml.

    It reads what config.yaml of this charm is made of, `type` and a `default` on one
    line, so that the rehearsal needs no YAML parser.
    """
    found: dict[str, Any] = {}
    for block in re.split(r"\n(?=  [a-z][a-z0-9-]*:\n)", config):
        name = re.match(r"(?:options:\n)?  ([a-z][a-z0-9-]*):\n", block)
        default = re.search(r"^    default: *(.*)$", block, re.MULTILINE)
        kind = re.search(r"^    type: *(\w+)$", block, re.MULTILINE)
        if name and default and kind:
            text = default[1].strip()
            quoted = re.fullmatch(r"([\"'])(.*)\1", text)
            plain = quoted[2] if quoted else text
            found[name[1]] = plain if kind[1] == "string" else json.loads(plain)
    return found
