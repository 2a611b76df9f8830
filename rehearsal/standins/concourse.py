#!/usr/bin/python3
"""Stand-in for Concourse's own program: `--version`, `generate-key`, `worker`, `web`, `migrate`.

The worker runs the containerd of its release as the real one does, and speaks to the
stand-in of a web.  What it logs, the environment that it takes and what it does on
signals are those of Concourse 8 (worker/workercmd, worker/beacon.go,
worker/beacon_runner.go).  It has no garden server: containers are made through
containerd's own socket.  `web` and `migrate` are in files beside it.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import suppress
from datetime import datetime, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NoReturn

VERSION = "@VERSION@"
SOCKET = "/run/containerd/containerd.sock"  # fixed in Concourse
TASKS = Path("/run/containerd/io.containerd.runtime.v2.task/concourse")  # each shim's own folder
PAUSE = 5  # seconds between two tries to register
CONFIG = """\
version = 2
oom_score = -999
disabled_plugins = ["io.containerd.grpc.v1.cri", "io.containerd.snapshotter.v1.aufs",
  "io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.zfs"]
"""


def setting(name: str, default: str = "") -> str:
    """Return one setting of the worker's environment."""
    return os.environ.get(f"CONCOURSE_{name}", default)


def log(level: str, message: str, **data: Any) -> None:
    """Log a line as lager does."""
    levels = ["debug", "info", "error", "fatal"]
    if levels.index(level) < levels.index(setting("LOG_LEVEL", "info")):
        return
    now = datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    record = {"timestamp": now, "level": level, "source": "worker", "message": f"worker.{message}"}
    print(json.dumps({**record, "data": data}, separators=(",", ":")), flush=True)


def main() -> int:
    """Do what the arguments say."""
    arguments = sys.argv[1:]
    if arguments == ["--version"]:
        print(VERSION)
        return 0
    if arguments[:1] == ["generate-key"]:
        target = arguments[arguments.index("-f") + 1]
        argv = ["ssh-keygen", "-q", "-t", "rsa", "-b", "2048", "-m", "PEM", "-N", "", "-C", ""]
        return subprocess.run([*argv, "-f", target], timeout=60, check=False).returncode
    if arguments == ["worker"]:
        return Worker().run()
    if arguments == ["web"]:
        sys.dont_write_bytecode = True
        return int(importlib.import_module("concourse_web").Web(VERSION).run())
    if arguments[:1] == ["migrate"]:
        sys.dont_write_bytecode = True
        return int(importlib.import_module("concourse_database").migrate(VERSION, arguments[1:]))
    print(f"unknown command: {' '.join(arguments)}", file=sys.stderr)
    return 1


class Worker:
    """A running worker."""

    def __init__(self) -> None:
        self._ending = ""
        self._connection: socket.socket | None = None
        self._containerd: subprocess.Popen[bytes] | None = None

    def run(self) -> int:
        """Run until landed, retired or stopped."""
        self._check()
        for number, order in (
            (signal.SIGUSR1, "land"),
            (signal.SIGUSR2, "retire"),
            (signal.SIGTERM, "stop"),
            (signal.SIGINT, "stop"),
        ):
            signal.signal(number, lambda *_, order=order: self._on_signal(order))
        self._start_containerd()
        self._serve_health()
        while self._ending != "stop":
            try:
                self._register()
                log("info", "beacon-runner.exiting", reason="registration process exited")
                break
            except OSError as error:
                if self._ending:
                    break
                log("error", "beacon-runner.failed", error=str(error))
                time.sleep(PAUSE)
                log("info", "beacon-runner.restarting")
        if self._containerd:
            self._containerd.terminate()
            self._containerd.wait(timeout=10)
        return 0

    def _check(self) -> None:
        wrong = [name for name in os.environ if name.startswith("CONCOURSE_GARDEN_")]
        if wrong:
            die(f"cannot use CONCOURSE_GARDEN_* with the containerd runtime: {wrong[0]}")
        if setting("RUNTIME", "containerd") != "containerd":
            die("the stand-in knows the containerd runtime only")
        for name in ("TSA_PUBLIC_KEY", "TSA_WORKER_PRIVATE_KEY"):
            if not os.access(setting(name), os.R_OK):
                die(f"CONCOURSE_{name}: cannot be read: {setting(name)!r}")
        if not setting("WORK_DIR") or not setting("NAME"):
            die("CONCOURSE_WORK_DIR and CONCOURSE_NAME are needed")

    def _start_containerd(self) -> None:
        """Start the containerd that comes first in PATH, which is the release's own."""
        prefix = Path(__file__).resolve().parent
        os.environ["PATH"] = f"{prefix}:{os.environ['PATH']}"
        work = Path(setting("WORK_DIR"))
        config = setting("CONTAINERD_CONFIG")
        if not config:
            config = str(work / "containerd.toml")
            Path(config).write_text(CONFIG)
        (work / "containerd").mkdir(parents=True, exist_ok=True)
        argv = ["setpriv", "--pdeathsig", "KILL", setting("CONTAINERD_BIN", "containerd")]
        argv += [f"--address={SOCKET}", f"--root={work}/containerd", f"--config={config}"]
        argv += [f"--log-level={setting('CONTAINERD_LOG_LEVEL', 'info')}"]
        self._containerd = subprocess.Popen(argv, start_new_session=True)
        for _ in range(200):
            if self._answers():
                return
            if self._containerd.poll() is not None:
                die(f"containerd ended with status {self._containerd.returncode}")
            time.sleep(0.05)
        die("containerd does not answer")

    def _answers(self) -> bool:
        with socket.socket(socket.AF_UNIX) as probe:
            try:
                probe.connect(SOCKET)
            except OSError:
                return False
        return self._containerd is not None and self._containerd.poll() is None

    def _serve_health(self) -> None:
        worker = self

        class Health(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(200 if worker._answers() else 503)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        where = setting("HEALTHCHECK_BIND_IP", "0.0.0.0"), 8888
        server = ThreadingHTTPServer(where, Health)
        threading.Thread(target=server.serve_forever, daemon=True).start()

    def _register(self) -> None:
        """Register with a web and stay so until it ends the connection."""
        private = setting("TSA_WORKER_PRIVATE_KEY")
        public = subprocess.run(
            ["ssh-keygen", "-y", "-f", private], capture_output=True, text=True, check=True
        ).stdout.split()
        expected = Path(setting("TSA_PUBLIC_KEY")).read_text().split()[:2]
        host, _, port = setting("TSA_HOST").split(",")[0].rpartition(":")
        with socket.create_connection((host.strip("[]"), int(port)), timeout=10) as connection:
            lines = connection.makefile("r", encoding="utf-8")
            greeting = json.loads(lines.readline() or "{}")
            if greeting.get("host-key", "").split()[:2] != expected:
                raise OSError("ssh: handshake failed: remote host public key mismatch")
            tags = [tag for tag in setting("TAG").split(",") if tag]
            request = {"name": setting("NAME"), "tags": tags, "public-key": " ".join(public[:2])}
            connection.sendall((json.dumps(request) + "\n").encode())
            if json.loads(lines.readline() or "{}").get("answer") != "registered":
                raise OSError("ssh: unable to authenticate")
            log("info", "beacon-runner.beacon.registered", session="4.1")
            self._connection = connection
            connection.settimeout(None)
            said = lines.readline()  # nothing, until the web lets the worker go
            if not said and self._ending != "stop":
                raise OSError("connection to the web lost")

    def _on_signal(self, order: str) -> None:
        self._ending = order
        if order == "stop":
            log("info", "beacon-runner.beacon.signal.signalled")
        else:
            log("info", f"beacon-runner.beacon.drain.{order.removesuffix('e')}ing-worker")
        if self._connection is None:
            sys.exit(0)  # no web to tell, no build to finish
        if order == "stop":
            self._connection.shutdown(socket.SHUT_RDWR)
        else:
            threading.Thread(target=self._leave, args=(order,), daemon=True).start()

    def _leave(self, order: str) -> None:
        """Ask the web to let the worker go, once its builds are done."""
        while order == "land" and any(path.name != "init.pid" for path in TASKS.glob("*/*.pid")):
            time.sleep(0.1)
        if self._connection:
            with suppress(OSError):  # it has ended meanwhile
                self._connection.sendall((json.dumps({"order": order}) + "\n").encode())


def die(text: str) -> NoReturn:
    """End as a worker does that can't start."""
    log("fatal", "failed-to-start", error=text)
    print(text, file=sys.stderr)
    sys.exit(1)


if __name__ == "__main__":
    sys.exit(main())
