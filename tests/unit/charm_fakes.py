"""One stateful fake in the workload's place, and relations to run the charm with."""

from __future__ import annotations

import base64
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ops import testing

from concourse.web import WebSecrets
from concourse.worker import WorkerState
from desired import Wish
from gpu.manager import GpuState
from host import Layout
from juju import Juju
from status import Seen

RUNNING = WorkerState(
    unit="active", up_to_date=True, healthy=True, registered=True, socket_taken=""
)

PEERS_ID = 1_000_000  # above those that ops.testing gives
SECRETS = WebSecrets("session key", "host key", "a-password")
SEEN = Seen(version="8.3.0", release=None, service=None, worker=RUNNING, gpu=None)


def key() -> str:
    blob = (7).to_bytes(4, "big") + b"ssh-rsa" + bytes(64)
    return f"ssh-rsa {base64.b64encode(blob).decode()}"


@dataclass
class FakeWorkload:
    """Remembers what it was asked for and shows what a test puts in."""

    seen: Seen = SEEN
    wishes: list[tuple[Wish, bool]] = field(default_factory=list)
    removed: int = 0
    key_was_known: bool | None = None
    gpu: Any = None
    workers: dict[str, str] = field(default_factory=dict)
    admitted: list[tuple[dict[str, str], tuple[str, ...]]] = field(default_factory=list)
    drained: bool = False
    restarts: list[bool] = field(default_factory=list)
    stale: bool = False  # the worker runs with older settings
    down: bool = False
    attached: Path | None = None

    def __call__(self, layout: Layout, progress: Callable[[str], None]) -> FakeWorkload:
        self.progress = progress
        return self

    def reconcile(self, wish: Wish, juju: Juju, *, at_once: bool, everybody: bool) -> None:
        self.progress("Downloading Concourse 8.3.0 (43 %)")
        self.wishes.append((wish, at_once))
        self.attached = juju.attached_release()
        if "worker" in wish.roles:
            self.key_was_known = juju.publish_worker_key(wish.worker_name, key())
            if self.stale and not self.down and juju.turn.take():
                self.stale, self.down = False, True
            if not self.down and not juju.turn.waits:
                juju.turn.end()
        if wish.web_side:
            juju.request_database()
            juju.request_certificate()
            secrets = juju.secrets(lambda: SECRETS)
            if secrets:
                juju.publish_web(2222, key(), "8.3.0")
                juju.note_migrated("8.3.0")
            juju.open_ports(*wish.web_side.ports)
            self.workers = juju.workers() if everybody else {}

    @property
    def version(self) -> str:
        return self.seen.version

    def observe(self, wish: Wish) -> Seen:
        if wish.gpu and self.seen.gpu is None:
            return replace(self.seen, gpu=GpuState(count=1))
        return self.seen

    def remove(self) -> None:
        self.removed += 1
        self.seen = replace(self.seen, version="")

    @property
    def web(self) -> FakeWorkload:
        return self

    @property
    def worker(self) -> FakeWorkload:
        return self

    def admit(self, joined: dict[str, str], left: tuple[str, ...] = ()) -> bool:
        self.admitted.append((joined, left))
        return True

    def drain(self) -> None:
        self.drained = True

    def resume(self) -> bool:
        was, self.drained = self.drained, False
        return was

    def restart(self, *, force: bool) -> None:
        self.restarts.append(force)

    @property
    def wish(self) -> Wish:
        return self.wishes[-1][0]


def web(**app: str) -> testing.Relation:
    return testing.Relation(
        "worker-tsa",
        interface="concourse-tsa",
        remote_app_name="web",
        remote_app_data=app or {"tsa-host-public-key": key(), "concourse-version": "8.3.0"},
        remote_units_data={0: {"tsa-host": "10.0.0.2", "tsa-port": "2222"}},
    )
