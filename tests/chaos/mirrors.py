"""What can be wrong around a machine: slow, silent and lying mirrors, mute name servers.

Each is a cause as in `causes`: it lasts for a `with` block.
"""

from __future__ import annotations

import fnmatch
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from rehearsal.standins import packages
from tests.chaos.causes import Cause, Site, running

PORT = 8010
_HEAD = "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {}\r\n\r\n"
_EVERY = 0.5  # seconds between two bytes of what drips: nobody can call that silence
# Takes what a resolver asks, and never answers.
_SWALLOWS = """
import socket, time
swallows = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
swallows.bind(("127.0.0.2", 53))
open("/run/swallows", "w").close()
time.sleep(600)
"""
Answer = Callable[[Site, socket.socket], None]


def toolkit(site: Site) -> str:
    """Return the toolkit's repository, below the folder that is served."""
    return f"{packages.TOOLKIT}/{site.machine.shell('dpkg --print-architecture').strip()}"


def damaged(pattern: str, how: Callable[[bytes], bytes]) -> Cause:
    """Have the world serve other bytes than it says."""

    @contextmanager
    def cause(site: Site) -> Iterator[None]:
        found = [path for path in site.world.folder.rglob(pattern) if path.is_file()]
        assert found, pattern
        kept = {path: path.read_bytes() for path in found}
        try:
            for path, content in kept.items():
                assert how(content) != content, path
                path.write_bytes(how(content))
            yield
        finally:
            for path, content in kept.items():
                path.write_bytes(content)

    return cause


def garbled(content: bytes) -> bytes:
    """Return as many bytes, of which the last 900 are others."""
    return content[:-900] + bytes(byte ^ 0xFF for byte in content[-900:])


def shortened(content: bytes) -> bytes:
    """Return all but the last 900 bytes."""
    return content[:-900]


def silent(_: Site, connection: socket.socket) -> None:
    """Take a request and say nothing."""
    while connection.recv(65536):
        pass


def dripping(_: Site, connection: socket.socket) -> None:
    """Answer whatever is asked for with what never comes to its end."""
    connection.recv(65536)
    _drip(connection, bytes(1_000_000))


def dripping_for(pattern: str) -> Answer:
    """Return who serves the world's files at once, but for those of a pattern, which drip."""

    def answer(site: Site, connection: socket.socket) -> None:
        asked = re.match(r"GET /(\S*)", connection.recv(65536).decode())
        assert asked
        content = (site.world.folder / asked[1]).read_bytes()
        if fnmatch.fnmatch(asked[1], pattern):
            _drip(connection, content)
        connection.sendall(_HEAD.format(len(content)).encode() + content)

    return answer


def served(answer: Answer) -> Cause:
    """Have another server on the machine's port PORT."""

    def meet(site: Site, connection: socket.socket) -> None:
        with connection, suppress(OSError):
            answer(site, connection)

    def accept(site: Site, listener: socket.socket) -> None:
        with suppress(OSError):  # the listener is closed
            while True:
                argv = (site, listener.accept()[0])
                threading.Thread(target=meet, args=argv, daemon=True).start()

    @contextmanager
    def cause(site: Site) -> Iterator[None]:
        listener = site.machine.listen(PORT)
        threading.Thread(target=accept, args=(site, listener), daemon=True).start()
        try:
            yield
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            listener.close()

    return cause


def _drip(connection: socket.socket, content: bytes) -> None:
    connection.sendall(_HEAD.format(len(content)).encode())
    for number in range(len(content)):
        time.sleep(_EVERY)
        connection.sendall(content[number : number + 1])


@contextmanager
def questions_are_swallowed(site: Site) -> Iterator[None]:
    """Have a name server that takes every question and answers none.

    The resolver's own limits are scaled down as well: four seconds in place of ten.
    """
    place, kept = "/etc/resolv.conf", "/run/resolv.conf.kept"
    lines = "nameserver 127.0.0.2\noptions timeout:2 attempts:2\n"
    with running(site, _SWALLOWS, "/run/swallows"):
        site.machine.shell(f"cp -a {place} {kept}; rm {place}; printf '{lines}' >{place}")
        try:
            yield
        finally:
            site.machine.shell(f"rm {place}; cp -a {kept} {place}")
