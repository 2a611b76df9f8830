"""A plain HTTP proxy through which apt in the machine reaches what this machine reaches.

The machine's network is its own and holds loopback alone, so that no port, no
firewall rule and no address of the host is touched.  This is its one door.
"""

from __future__ import annotations

import os
import select
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from urllib.parse import urlsplit

PORT = 3128
_IDLE = 120.0  # seconds without a byte in either direction


@contextmanager
def serve(listener: socket.socket) -> Iterator[None]:
    """Relay what comes in at a listening socket for the length of a `with` block."""
    thread = threading.Thread(target=_accept, args=(listener, _upstream()), daemon=True)
    thread.start()
    try:
        yield
    finally:
        with suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
        listener.close()


def _upstream() -> tuple[str, int] | None:
    """Return the proxy that apt on this machine uses, if any."""
    done = subprocess.run(
        ["apt-config", "shell", "p", "Acquire::http::Proxy"],
        capture_output=True,
        text=True,
        timeout=10,
        check=False,
    )
    configured = done.stdout.strip().removeprefix("p=").strip("'")
    address = configured or os.environ.get("http_proxy", "")
    parts = urlsplit(address)
    if not parts.hostname:
        return None
    return parts.hostname, parts.port or 3128


def _accept(listener: socket.socket, upstream: tuple[str, int] | None) -> None:
    while True:
        try:
            client, _ = listener.accept()
        except OSError:
            return
        threading.Thread(target=_relay, args=(client, upstream), daemon=True).start()


def _relay(client: socket.socket, upstream: tuple[str, int] | None) -> None:
    with client, suppress(OSError, ValueError, IndexError):
        client.settimeout(_IDLE)
        head = b""
        while b"\r\n\r\n" not in head:
            chunk = client.recv(65536)
            if not chunk or len(head) > 100_000:
                return
            head += chunk
        method, target = head.split(b" ", 2)[:2]
        try:
            server = socket.create_connection(
                upstream or destination(method.decode(), target.decode()), timeout=20
            )
        except OSError as error:
            client.sendall(f"HTTP/1.1 502 {error}\r\nContent-Length: 0\r\n\r\n".encode())
            return
        with server:
            if method == b"CONNECT" and upstream is None:
                client.sendall(b"HTTP/1.1 200 Connected\r\n\r\n")
            else:
                server.sendall(head)  # a server must take a whole URL too (RFC 9112, 3.2.2)
            _splice(client, server)


def destination(method: str, target: str) -> tuple[str, int]:
    """Return host and port of a proxy request's target.

    Raises:
        ValueError: it names none.
    """
    parts = urlsplit(f"//{target}" if method == "CONNECT" else target)
    if not parts.hostname:
        raise ValueError(f"no host in {target}")
    return parts.hostname, parts.port or (443 if method == "CONNECT" else 80)


def _splice(one: socket.socket, two: socket.socket) -> None:
    other = {one: two, two: one}
    while True:
        ready, _, _ = select.select([one, two], [], [], _IDLE)
        if not ready:
            return
        for source in ready:
            data = source.recv(65536)
            if not data:
                return
            other[source].sendall(data)
