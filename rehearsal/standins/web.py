"""Stand-ins for the world around a machine: a file server, and the web's SSH gateway (TSA).

Both are served from this process on the loopback of the machine's own network, so
that downloads, Range requests, connections and refusals are real in it.  The gateway
speaks one line of JSON each way in SSH's place.
"""

from __future__ import annotations

import base64
import json
import re
import secrets
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from rehearsal.machine import Machine

FILES_PORT = 8000
TSA_PORT = 2222
URL = f"http://127.0.0.1:{FILES_PORT}"


@dataclass
class Web:
    """The related web as far as a worker meets it.

    Attributes:
        host_key: its public host key, one line.
        authorized: asked whether a worker of this name may register with this public key.
        workers: the registered workers' tags, by name.
        busy: while set, a landing worker has builds to finish.
        orders: every "land" and "retire" that came, in order.
    """

    authorized: Callable[[str, str], bool]
    host_key: str = ""
    workers: dict[str, tuple[str, ...]] = field(default_factory=dict)
    busy: threading.Event = field(default_factory=threading.Event)
    orders: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.host_key = self.host_key or public_key()

    def meet(self, connection: socket.socket) -> None:
        """Speak with one worker until either side ends it."""
        name = ""
        with connection, suppress(OSError, ValueError, KeyError):
            lines = connection.makefile("r", encoding="utf-8")
            _send(connection, {"host-key": self.host_key})
            request = json.loads(lines.readline())
            if not self.authorized(request["name"], request["public-key"]):
                _send(connection, {"answer": "refused"})
                return
            name = request["name"]
            self.workers[name] = tuple(request["tags"])
            _send(connection, {"answer": "registered"})
            order = json.loads(lines.readline())["order"]
            self.orders.append(order)
            while self.busy.is_set():
                self.busy.wait(0.1)
                threading.Event().wait(0.1)
            _send(connection, {"answer": f"{order}ed"})
        self.workers.pop(name, None)


def public_key() -> str:
    """Return an OpenSSH public-key line that nobody has the private half of."""
    blob = b"".join(
        struct.pack(">I", len(part)) + part for part in (b"ssh-ed25519", secrets.token_bytes(32))
    )
    return f"ssh-ed25519 {base64.b64encode(blob).decode()}"


def _send(connection: socket.socket, message: dict[str, str]) -> None:
    connection.sendall((json.dumps(message) + "\n").encode())


@contextmanager
def serve(machine: Machine, web: Web, folder: Path) -> Iterator[None]:
    """Serve a folder's files and a web's gateway to a machine for a `with` block's length."""
    gateway = machine.listen(TSA_PORT)
    threading.Thread(target=_accept, args=(gateway, web), daemon=True).start()
    try:
        with serve_files(machine, folder):
            yield
    finally:
        with suppress(OSError):
            gateway.shutdown(socket.SHUT_RDWR)
        gateway.close()


@contextmanager
def serve_files(machine: Machine, folder: Path) -> Iterator[None]:
    """Serve a folder's files to a machine for the length of a `with` block."""
    handler = type("Files", (_Files,), {"folder": folder})
    listener = machine.listen(FILES_PORT)
    server = ThreadingHTTPServer(("127.0.0.1", FILES_PORT), handler, bind_and_activate=False)
    server.socket.close()
    server.socket = listener
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()


def _accept(gateway: socket.socket, web: Web) -> None:
    while True:
        try:
            connection, _ = gateway.accept()
        except OSError:
            return
        threading.Thread(target=web.meet, args=(connection,), daemon=True).start()


class _Files(BaseHTTPRequestHandler):
    """Serves files whole or, asked by Range, from a byte on."""

    folder = Path("/nonexistent")
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        path = self.folder / re.sub(r"^/+|\.\./", "", self.path.partition("?")[0])
        if not path.is_file():
            self.send_error(404)
            return
        size = path.stat().st_size
        first = self._first(size)
        if first > size:
            self.send_error(416)
            return
        self.send_response(206 if first else 200)
        if first:
            self.send_header("Content-Range", f"bytes {first}-{size - 1}/{size}")
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(size - first))
        self.send_header("ETag", f'"{size:x}-{path.stat().st_mtime_ns:x}"')
        self.end_headers()
        if self.command == "HEAD":
            return
        with path.open("rb") as file, suppress(ConnectionError):
            file.seek(first)
            while chunk := file.read(1 << 18):
                self.wfile.write(chunk)

    do_HEAD = do_GET  # noqa: N815

    def _first(self, size: int) -> int:
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        condition = self.headers.get("If-Range")
        return int(asked[1]) if asked and (not condition or size) else 0

    def log_message(self, *_: object) -> None:
        pass
