"""Stand-in for Juju's agent: answers the hook tools of one hook from a model.

As with Juju, status, workload version and log lines count at once; what a hook writes
to databags, ports, secrets and state counts only when it ends with status 0.
"""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from . import tools
from .arguments import Arguments, parse
from .model import Model, Relation, Secret, ToolError


@dataclass
class Hook:
    """One hook or action, while it runs.

    Attributes:
        model: what Juju knows.
        event: told ("status", "active: …") and ("log", "INFO …") as they come.
        relation: the relation that the hook is about.
        action: the name of the action, if it is one.
        results: what action-set gave.
        failure: what action-fail said; None if it wasn't called.
    """

    model: Model
    event: Callable[[str, str], None]
    relation: Relation | None = None
    action: str = ""
    parameters: dict[str, Any] = field(default_factory=dict)
    results: dict[str, str] = field(default_factory=dict)
    failure: str | None = None
    _pending: list[Callable[[], None]] = field(default_factory=list)
    made: dict[str, Secret] = field(default_factory=dict)
    written: dict[tuple[str, str], dict[str, str]] = field(default_factory=dict)

    def flush(self) -> None:
        """Make what was written count: the hook has ended well."""
        for change in self._pending:
            change()
        self._pending.clear()

    def answer(self, tool: str, arguments: list[str], stdin: str) -> str:
        """Return what a tool prints.

        Raises:
            ToolError: it complains.
        """
        known = tools.TOOLS.get(tool)
        if known is None:
            raise ToolError(f"the stand-in knows no {tool}")
        try:
            reply = known(self, parse(arguments), stdin)
        except (KeyError, IndexError) as error:
            raise ToolError(f"{tool}: not found: {error}") from error
        return reply if isinstance(reply, str) else json.dumps(reply) + "\n"

    def later(self, change: Callable[[], None]) -> str:
        self._pending.append(change)
        return ""

    def related(self, given: Arguments) -> Relation:
        identity = given.option("r")
        if identity:
            return self.model.relation(identity)
        if self.relation is None:
            raise ToolError("no relation id specified")
        return self.relation


@contextmanager
def serve(path: Path, hook: Hook) -> Iterator[None]:
    """Answer the tools of one hook at a unix socket for the length of a `with` block."""
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen()
    threading.Thread(target=_accept, args=(listener, hook), daemon=True).start()
    try:
        yield
    finally:
        with suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        path.unlink(missing_ok=True)


def _accept(listener: socket.socket, hook: Hook) -> None:
    while True:
        try:
            connection, _ = listener.accept()
        except OSError:
            return
        with connection, suppress(OSError, ValueError):
            asked = connection.makefile("rb").read().decode()
            tool, stdin, *arguments = asked.split("\0")
            try:
                reply = ("0", hook.answer(tool, arguments, stdin), "")
            except ToolError as error:
                reply = ("1", "", f"ERROR {error}\n")
            connection.sendall("\0".join(reply).encode())
