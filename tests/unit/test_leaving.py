"""Workers that leave: the web is to forget them, and only then do their keys go."""

from __future__ import annotations

import http.server
import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from concourse import authorized, worker
from concourse.api import Address
from concourse.web_environment import WebSecrets
from files import write_file
from host import Layout
from tests.unit.webs import Programs, rsa_line
from tests.unit.workers import REGISTERED, Systemd, connected, process
from web_desired import WebSide
from web_workload import WebWorkload

SECRETS = WebSecrets("session key", "host key", "a-password")
RETIRE = "kill --kill-who=main --signal=SIGUSR2 concourse-worker.service"
DISABLE = "disable concourse-worker.service"


def test_a_worker_that_loses_its_relation_retires(layout: Layout, systemd: Systemd) -> None:
    systemd.runs()
    process(layout, {"CONCOURSE_TSA_HOST": "web:2222"})
    connected(layout)
    systemd.answer("journal", REGISTERED)
    assert worker.dismiss(layout, keep_config=False)
    assert systemd.asked() == [RETIRE, DISABLE]
    systemd.runs(UnitFileState="disabled")
    assert not worker.dismiss(layout, keep_config=False)
    assert systemd.asked() == []


def test_a_worker_that_no_web_has_just_stops(layout: Layout, systemd: Systemd) -> None:
    systemd.runs()
    process(layout, {"CONCOURSE_TSA_HOST": "web:2222"})
    assert worker.dismiss(layout, keep_config=False)
    assert systemd.asked() == [DISABLE, "stop --no-block concourse-worker.service"]


class Api(http.server.BaseHTTPRequestHandler):
    """A web's API: lets anybody in, and has these workers."""

    names: tuple[str, ...] = ()
    status = 200

    def do_GET(self) -> None:
        self._say([{"name": name, "state": "running"} for name in self.names])

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self._say({"access_token": "token"})

    def _say(self, content: object) -> None:
        body = json.dumps(content).encode()
        self.send_response(self.status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def api() -> Iterator[tuple[type[Api], int]]:
    handler: type[Api] = type("Handler", (Api,), {})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield handler, server.server_address[1]
    server.shutdown()
    server.server_close()


def side(port: int) -> WebSide:
    return WebSide(port, "http://web", "10.0.0.1", "admin", False, (), (0, 0, 0), {})


@pytest.mark.parametrize(
    ("has", "status", "stay"),
    [
        (("stays", "leaves"), 200, {"stays", "leaves"}),
        (("stays",), 200, {"stays"}),
        ((), 200, {"stays"}),
        ((), 503, {"stays", "leaves"}),
    ],
    ids=["still has it", "forgot it", "has nobody: those that are there stay", "does not say"],
)
def test_a_key_goes_once_the_web_has_its_worker_no_more(
    tmp_path: Path,
    api: tuple[type[Api], int],
    has: tuple[str, ...],
    status: int,
    stay: set[str],
) -> None:
    machine = Layout(tmp_path)
    Programs(machine)
    write_file(machine.concourse / "bin/concourse", "")
    keys = {"stays": rsa_line(1), "leaves": rsa_line(2)}
    authorized.ensure(machine, keys, now=time.time())
    seen = authorized.update(machine, left=("leaves",), now=time.time())
    handler, port = api
    handler.names, handler.status = has, status
    workload = WebWorkload(machine, lambda _: None)
    workload.forget_retired(Address(port), side(port), SECRETS, seen.leaving)
    assert set(authorized.read(machine)) == stay
