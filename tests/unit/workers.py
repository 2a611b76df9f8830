"""A machine for the tests of the worker: systemctl, journalctl, /proc as a worker fills it."""

from __future__ import annotations

import base64
import shlex
import struct
import time

from concourse.worker import WorkerWish
from host import Layout
from tests.unit.systemd_env import read_environment_file
from tests.unit.unit_properties import shown


def public(kind: str = "ssh-rsa", inner: str | None = None, body: bytes = b"\0\0\0\1x") -> str:
    name = (inner or kind).encode()
    blob = struct.pack(">I", len(name)) + name + body
    return f"{kind} {base64.b64encode(blob).decode()}"


WISH = WorkerWish(name="worker-0", tsa_hosts=("10.0.0.1:2222",), tsa_host_key=public())


class Systemd:
    """A stand-in for systemctl and journalctl: what it is asked, what it answers."""

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self._answers = layout.root / "answers"
        self._answers.mkdir()
        self._program(
            "systemctl",
            'case " $* " in *" --no-legend "*) what=jobs ;; *) what=$1 ;; esac',
        )
        self._program("journalctl", "what=journal")
        self.has()

    def _program(self, name: str, choose: str) -> None:
        path = self.layout.at(f"/usr/bin/{name}")
        path.parent.mkdir(parents=True, exist_ok=True)
        root = shlex.quote(str(self.layout.root))
        path.write_text(
            f"#!/bin/sh\necho {name} $* >> {root}/asked\n{choose}\n"
            f'[ -f {root}/answers/$what ] && cat "{root}/answers/$what"\n'
            f'[ -f {root}/answers/$what.sh ] && . "{root}/answers/$what.sh"\nexit 0\n'
        )
        path.chmod(0o755)

    def answer(self, what: str, text: str) -> None:
        (self._answers / what).write_text(text)

    def has(self, **properties: object) -> None:
        entered = int(time.clock_gettime(time.CLOCK_MONOTONIC) * 1e6)
        default = {"InvocationID": "abc", "ActiveEnterTimestampMonotonic": entered}
        self.answer("show", shown(**{**default, **properties}))

    def runs(self, pid: int = 4711, **properties: object) -> None:
        self.has(ActiveState="active", SubState="running", MainPID=pid, **properties)

    def asked(self) -> list[str]:
        """What it was told to do since the last call; questions left out."""
        path = self.layout.root / "asked"
        lines = path.read_text().splitlines() if path.exists() else []
        path.unlink(missing_ok=True)
        questions = ("systemctl show", "systemctl list-jobs", "journalctl")
        return [line.removeprefix("systemctl ") for line in lines if not line.startswith(questions)]


def variables(layout: Layout) -> dict[str, str]:
    return read_environment_file(layout.worker_env.read_text())


def process(layout: Layout, environment: dict[str, str], pid: int = 4711) -> None:
    folder = layout.at(f"/proc/{pid}")
    (folder / "fd").mkdir(parents=True, exist_ok=True)
    entries = (f"{name}={value}\0" for name, value in environment.items())
    (folder / "environ").write_text("".join(entries))


def connected(layout: Layout, *, port: int = 2222, state: str = "01", inode: str = "555") -> None:
    net = layout.at("/proc/4711/net")
    net.mkdir(parents=True, exist_ok=True)
    (net / "tcp").write_text(
        "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  ...\n"
        f"   0: 0100007F:A1B2 0200000A:{port:04X} {state} 00000000:00000000 00:00000000 "
        f"00000000     0        0 {inode} 1 ffff 20 4 30 10 -1\n"
    )
    handle = layout.at("/proc/4711/fd/7")
    handle.parent.mkdir(parents=True, exist_ok=True)
    if not handle.is_symlink():
        handle.symlink_to("socket:[555]")


def line(message: str) -> str:
    return (
        f'{{"timestamp":"x","level":"info","source":"worker","message":"{message}","data":{{}}}}\n'
    )


REGISTERED = line("worker.beacon-runner.beacon.registered")
