"""What the tests of the web wish for and read back, and a web that answers."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Iterator
from dataclasses import replace

import pytest

from concourse.paths import WebPaths
from concourse.web import Postgres, Tls, WebSecrets, WebWish
from host import Layout
from tests.unit.systemd_env import read_environment_file

SECRETS = WebSecrets("session-pem", "host-pem", "adminpw", "e" * 32)
POSTGRES = Postgres("10.0.0.9", 5432, "relation-3", 'p"w,$x \\', "concourse")
WISH = WebWish("http://10.0.0.1:8080", 8080, "10.0.0.1", "ci", POSTGRES, SECRETS, encrypted=True)
TLS = replace(WISH, external_url="https://ci.example", port=443, tls=Tls("cert-pem", "key-pem"))


def variables(layout: Layout) -> dict[str, str]:
    return read_environment_file(WebPaths(layout).environment.read_text())


def started(layout: Layout, **more: str) -> dict[str, str]:
    """The environment that a web started now would have."""
    second = read_environment_file(WebPaths(layout).reread.read_text())
    return {**variables(layout), **second, **more}


HEALTH = {
    "status": "failing",
    "database": {"status": "healthy"},
    "workers": {"status": "unhealthy", "total": 2, "running": 1},
}
WORKERS = [
    {"name": "w-0", "state": "running", "tags": ["gpu"], "version": "3.0", "team": ""},
    {"name": "w-1", "state": "stalled", "tags": None},
]


@pytest.fixture
def port() -> Iterator[int]:
    """A web that answers, on a port of this machine."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            ok = self.path == "/api/v1/info" or self.headers.get("Authorization") == "Bearer t0"
            found: object = {"version": "8.3.0"} if self.path.endswith("info") else WORKERS
            if self.path == "/api/v1/health":
                self.answer(503, HEALTH)
                return
            self.answer(200 if ok else 401, found)

        def do_POST(self) -> None:
            form = self.rfile.read(int(self.headers["Content-Length"])).decode()
            good = "username=admin&password=a%26b" in form
            self.answer(200 if good else 401, {"access_token": "t0"})

        def answer(self, status: int, body: object) -> None:
            self.send_response(status)
            self.end_headers()
            self.wfile.write(json.dumps(body).encode())

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_port
    server.shutdown()
    server.server_close()
