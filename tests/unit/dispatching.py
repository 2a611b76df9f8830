"""Units whose hooks run in this process: the real charm and ops, a small model of a machine.

Juju's hook tools are the rehearsal's stand-ins, called without a process in between, so that
hundreds of orders of hooks take a minute; the controller that sends them is the rehearsal's.
"""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any
from unittest import mock

import ops
import yaml

import charm
from rehearsal.juju import JUJU_VERSION, Run, defaults
from rehearsal.standins.agent import Hook
from rehearsal.standins.model import Model, Relation, ToolError

SOURCE = Path(__file__).resolve().parents[2]
CONFIG = defaults((SOURCE / "config.yaml").read_text())


@dataclass
class DispatchedUnit:
    """A unit in the place of `rehearsal.juju.Unit`.

    Attributes:
        folder: the charm's folder, where ops keeps its state.
        workload: called in the place of `charm.Workload`.
        hooks: the hooks that it was sent, "NAME REMOTE".
        read: how often each member's databag was read by the last hook.
    """

    name: str
    folder: Path
    workload: Callable[..., Any]
    address: str = "10.0.0.1"
    config: dict[str, Any] = field(default_factory=dict)
    model: Model = field(init=False)
    hooks: list[str] = field(default_factory=list)
    read: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        config = {**CONFIG, **self.config}
        self.model = Model(unit=self.name, config=config, address=self.address)
        self.folder.mkdir(parents=True)
        for name, text in _definition().items():
            (self.folder / name).write_text(text)

    def hook(
        self,
        name: str,
        relation: Relation | None = None,
        remote_unit: str = "",
        *,
        env: Mapping[str, str] | None = None,
    ) -> Run:
        """Run a hook to its end, as `rehearsal.juju.Unit` does."""
        self.hooks.append(f"{name} {remote_unit}".strip())
        self.read.clear()
        said = {"JUJU_HOOK_NAME": name, "JUJU_DISPATCH_PATH": f"hooks/{name}", **(env or {})}
        if relation:
            said["JUJU_RELATION"], said["JUJU_RELATION_ID"] = relation.name, relation.id
            said["JUJU_REMOTE_APP"], said["JUJU_REMOTE_UNIT"] = relation.remote_app, remote_unit
        run = Run(name)
        hook = Hook(self.model, lambda kind, text: _heard(run, kind, text), relation)
        with (
            _as_juju_runs_it(self._environment() | said, self._tools(hook)),
            mock.patch.object(charm, "Workload", self.workload),
        ):
            ops.main(_fresh(charm.ConcourseCharm))
        hook.flush()
        return run

    def _tools(self, hook: Hook) -> Callable[..., subprocess.CompletedProcess[str]]:
        def run(argv: Sequence[str], *, input: str | None = None, **_: Any) -> Any:  # noqa: A002
            if argv[0] == "relation-get":
                self.read[argv[-1]] += 1
            try:
                said = hook.answer(argv[0], _with_files(argv[1:]), input or "")
            except ToolError as error:
                raise subprocess.CalledProcessError(1, argv, "", f"ERROR {error}\n") from None
            return subprocess.CompletedProcess(argv, 0, said, "")

        return run

    def _environment(self) -> dict[str, str]:
        return {
            "CHARM_DIR": str(self.folder),
            "JUJU_CHARM_DIR": str(self.folder),
            "JUJU_MODEL_NAME": self.model.name,
            "JUJU_MODEL_UUID": self.model.uuid,
            "JUJU_UNIT_NAME": self.name,
            "JUJU_VERSION": JUJU_VERSION,
        }


@cache
def _definition() -> dict[str, str]:
    """Return the charm's files that ops reads in each hook, without what people read in them."""
    said = {
        name: yaml.safe_load((SOURCE / name).read_text())
        for name in ("metadata.yaml", "actions.yaml")
    }
    said["metadata.yaml"].pop("description")
    said["actions.yaml"] = {action: {} for action in said["actions.yaml"]}
    return {name: json.dumps(content) for name, content in said.items()}


def _heard(run: Run, kind: str, text: str) -> None:
    (run.log if kind == "log" else run.statuses).append(text)


def _with_files(arguments: Sequence[str]) -> list[str]:
    """Read what a secret's tool is given as `key#file=PATH`."""
    read = []
    for argument in arguments:
        key, mark, place = argument.partition("#file=")
        read.append(f"{key}={Path(place).read_text()}" if mark else argument)
    return read


def _fresh(kind: type[ops.CharmBase]) -> type[ops.CharmBase]:
    """Return the charm with events of its own: ops defines a class' once in a process."""
    events = type("Events", (ops.CharmEvents,), {})()
    return type(kind.__name__, (kind,), {"on": events})


@contextmanager
def _as_juju_runs_it(env: dict[str, str], tools: Callable[..., Any]) -> Iterator[None]:
    """Give a hook its environment and tools, and take back what ops sets for a process."""
    root = logging.getLogger()
    before = list(root.handlers), root.level, sys.excepthook
    with (
        mock.patch.dict(os.environ, env),
        mock.patch("subprocess.run", tools),
        warnings.catch_warnings(),
    ):
        try:
            yield
        finally:
            root.handlers[:], level, sys.excepthook = before
            root.setLevel(level)
