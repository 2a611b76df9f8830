"""Stand-in for `concourse web`: its API, its gateway for workers (TSA), its database.

It takes the environment of Concourse 8 and refuses to start without what the real one needs,
keeps its workers in a real PostgreSQL, reached by `psql` with the credentials it was given,
and logs and ends as the real one does (atc/atccmd/command.go, atc/db/open.go,
tsa/tsacmd/command.go).  The gateway speaks one line of JSON each way in SSH's place.
"""

from __future__ import annotations

import base64
import hmac
import importlib
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import threading
import time
from datetime import datetime, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

PAUSE = 2  # seconds between two tries to open the database
NEEDED = (
    "EXTERNAL_URL",
    "POSTGRES_HOST",
    "POSTGRES_USER",
    "POSTGRES_PASSWORD",
    "POSTGRES_DATABASE",
    "SESSION_SIGNING_KEY",
    "TSA_HOST_KEY",
    "TSA_AUTHORIZED_KEYS",
    "ADD_LOCAL_USER",
    "MAIN_TEAM_LOCAL_USER",
)
FLY = "Basic " + base64.b64encode(b"fly:Zmx5").decode()
REGISTER = (
    "INSERT INTO workers VALUES (:'name', :'tags', 'running', :'web') ON CONFLICT (name) "
    "DO UPDATE SET tags = :'tags', state = 'running', web = :'web'"
)


def setting(name: str, default: str = "") -> str:
    """Return one setting of the web's environment."""
    return os.environ.get(f"CONCOURSE_{name}", default)


def log(level: str, message: str, **data: Any) -> None:
    """Log a line as lager does."""
    now = datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    record = {"timestamp": now, "level": level, "source": "atc", "message": f"atc.{message}"}
    print(json.dumps({**record, "data": data}, separators=(",", ":")), flush=True)


database: Any = importlib.import_module("concourse_database")  # beside it, in a release


class Web:
    """A running web.

    Args:
        version: the release that it says it is.
    """

    def __init__(self, version: str) -> None:
        self.version = version
        self.token = secrets.token_hex(16)
        self.external_url = setting("EXTERNAL_URL")
        self._me = setting("PEER_ADDRESS", "127.0.0.1")
        self._keys: frozenset[str] = frozenset()
        self._host_key = ""
        self._https: Any = None

    def run(self) -> int:
        """Run until it is told to stop."""
        missing = [name for name in NEEDED if not setting(name)]
        tls = setting("TLS_BIND_PORT"), setting("TLS_CERT"), setting("TLS_KEY")
        flaw = f"CONCOURSE_{missing[0]} is needed" if missing else ""
        beside = importlib.import_module("concourse_tls")
        if flaw := flaw or beside.flaw(*tls, self.external_url):
            print(f"error: {flaw}", file=sys.stderr)
            return 1
        try:
            Path(setting("SESSION_SIGNING_KEY")).read_text()
            self._host_key = _public_half(setting("TSA_HOST_KEY"))
            self._read_keys()
        except (OSError, subprocess.CalledProcessError) as error:
            print(f"error: a key can't be read: {error}", file=sys.stderr)
            return 1
        signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
        self._open()
        signal.signal(signal.SIGHUP, lambda *_: self._read_again())
        gateway = socket.create_server(("0.0.0.0", int(setting("TSA_BIND_PORT", "2222"))))
        threading.Thread(target=self._accept, args=(gateway,), daemon=True).start()
        where = setting("BIND_IP", "0.0.0.0"), int(setting("BIND_PORT", "8080"))
        answers = type("Api", (_Api,), {"web": self})
        if tls[0]:
            self._https = beside.Https((where[0], int(tls[0])), *tls[1:], answers)
            self._https.start()
        api = ThreadingHTTPServer(where, answers)
        threading.Thread(target=api.serve_forever, daemon=True).start()
        log("info", "listening", web=f"{where[0]}:{where[1]}")
        while True:
            signal.pause()

    def _open(self) -> None:
        """Open the database, however long it takes."""
        while True:
            try:
                database.bring_up(self.version)
                database.sql(
                    "UPDATE workers SET state = 'stalled' WHERE web = :'web'", web=self._me
                )
                return
            except database.DatabaseError as error:
                said = f"failed to connect to database: {error}"
                log("error", "db.failed-to-open-db-retrying", error=said)
                time.sleep(PAUSE)

    def _read_again(self) -> None:
        self._read_keys()
        if self._https:
            self._https.read_again()

    def _read_keys(self) -> None:
        """Read whom to let in; as with Concourse, one bad line ends the reading."""
        found = []
        for line in Path(setting("TSA_AUTHORIZED_KEYS")).read_text().splitlines():
            if line.startswith("#") or not line:
                continue
            if len(line.split()) < 2:
                break
            found.append(" ".join(line.split()[:2]))
        self._keys = frozenset(found)
        log("info", "tsa.keys-read", count=len(found))

    def _accept(self, gateway: socket.socket) -> None:
        while True:
            connection, _ = gateway.accept()
            threading.Thread(target=self._meet, args=(connection,), daemon=True).start()

    def _meet(self, connection: socket.socket) -> None:
        """Speak with one worker until either side ends it."""
        with connection:
            try:
                self._serve(connection)
            except (OSError, ValueError, KeyError, database.DatabaseError) as error:
                log("error", "tsa.connection-failed", error=str(error))

    def _serve(self, connection: socket.socket) -> None:
        lines = connection.makefile("r", encoding="utf-8")
        _send(connection, {"host-key": self._host_key})
        request = json.loads(lines.readline())
        name, key = request["name"], " ".join(request["public-key"].split()[:2])
        if key not in self._keys:
            _send(connection, {"answer": "refused"})
            return
        database.sql(REGISTER, name=name, tags=",".join(request["tags"]), web=self._me)
        _send(connection, {"answer": "registered"})
        line = lines.readline()
        # Landing and retiring are connections of their own: the key has to be there still.
        if not line or key not in self._keys:
            database.sql("UPDATE workers SET state = 'stalled' WHERE name = :'name'", name=name)
            return
        order = json.loads(line)["order"]
        if order == "retire":
            database.sql("DELETE FROM workers WHERE name = :'name'", name=name)
        else:
            database.sql("UPDATE workers SET state = 'landed' WHERE name = :'name'", name=name)
        _send(connection, {"answer": f"{order}ed"})

    def workers(self) -> list[dict[str, Any]]:
        """Return the workers as the API shows them."""
        rows = database.sql("SELECT name, tags, state FROM workers ORDER BY name")
        return [
            {"name": name, "tags": tags.split(",") if tags else [], "state": state}
            for name, tags, state in rows
        ]

    def lets_in(self, user: str, password: str) -> bool:
        """Return whether this is one of the local users."""
        users = [entry.partition(":")[::2] for entry in setting("ADD_LOCAL_USER").split(",")]
        return any(user == name and hmac.compare_digest(password, wanted) for name, wanted in users)


class _Api(BaseHTTPRequestHandler):
    """The few answers that the charm and an operator ask for."""

    web: Web

    def do_GET(self) -> None:
        if self.path == "/api/v1/info":
            facts = {"version": self.web.version, "external_url": self.web.external_url}
            self._answer(200, {**facts, "cluster_name": setting("CLUSTER_NAME")})
        elif self.path == "/api/v1/workers":
            self._workers()
        else:
            self._answer(404, {})

    def do_POST(self) -> None:
        text = self.rfile.read(int(self.headers.get("Content-Length", "0"))).decode()
        form = {name: values[0] for name, values in parse_qs(text).items()}
        known = self.headers.get("Authorization") == FLY
        if self.path != "/sky/issuer/token" or not known:
            self._answer(401, {})
        elif self.web.lets_in(form.get("username", ""), form.get("password", "")):
            self._answer(200, {"access_token": self.web.token, "token_type": "bearer"})
        else:
            self._answer(401, {"error": "access_denied"})

    def _workers(self) -> None:
        if self.headers.get("Authorization") != f"Bearer {self.web.token}":
            self._answer(401, {})
            return
        try:
            self._answer(200, self.web.workers())
        except database.DatabaseError as error:
            log("error", "list-workers.failed", error=str(error))
            self._answer(500, {})

    def _answer(self, status: int, content: object) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


def _public_half(private: str) -> str:
    argv = ["ssh-keygen", "-y", "-f", private]
    said = subprocess.run(argv, capture_output=True, text=True, check=True, timeout=20).stdout
    return " ".join(said.split()[:2])


def _send(connection: socket.socket, message: dict[str, str]) -> None:
    connection.sendall((json.dumps(message) + "\n").encode())
