"""Asks a web on this machine: its version, its health, and its workers.

Everything goes to its port for plain http, which is there beside https, too (the web
registers its own workers there), and is the only one that stays open while the web reads
a new certificate.
"""

from __future__ import annotations

import base64
import http.client
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from concourse.errors import ConcourseError

_LIMIT = 5.0  # seconds for one answer
# The client that fly signs in as, and the scopes that it asks for (v8.3.0,
# skymarshal: flyClientID and flyClientSecret in atc/atccmd/command.go; fly/commands/login.go).
_FLY = base64.b64encode(b"fly:Zmx5").decode()
_SCOPES = "openid profile email federated:id groups"


@dataclass(frozen=True)
class Address:
    """Where a web answers on this machine.

    Attributes:
        port: the port for plain http.
        host: an address of this machine.
    """

    port: int
    host: str = "127.0.0.1"


@dataclass(frozen=True)
class Health:
    """How a web finds its cluster (since 8.3.0).

    Attributes:
        status: "ok", "degraded" or "failing"; it is failing without a running worker.
        database: "healthy", or what is wrong with it.
        workers: how many workers the web has.
        running: how many of them run.
    """

    status: str
    database: str
    workers: int
    running: int


@dataclass(frozen=True)
class Worker:
    """A worker as a web has it.

    Attributes:
        name: what it registered as.
        state: "running", "stalled", "landing", "landed" or "retiring".
        tags: with any, it takes only steps that ask for one of them.
        version: of the worker's protocol, not of Concourse.
        team: whose it is alone; "" for everybody's.
    """

    name: str
    state: str
    tags: tuple[str, ...] = ()
    version: str = ""
    team: str = ""


def address(environment: Mapping[str, str]) -> Address | None:
    """Return where a web that was started with an environment answers."""
    host = environment.get("CONCOURSE_BIND_IP", "0.0.0.0")  # noqa: S104 - Concourse's default
    host = "127.0.0.1" if host in ("0.0.0.0", "") else host  # noqa: S104
    plain = environment.get("CONCOURSE_BIND_PORT", "8080")
    return Address(int(plain), host) if plain.isdecimal() else None


def version(where: Address) -> str:
    """Return the release that a web runs, X.Y.Z; "" if it doesn't answer."""
    try:
        found = _ask(where, "GET", "/api/v1/info")
    except ConcourseError:
        return ""
    return str(found.get("version", "")) if isinstance(found, dict) else ""


def health(where: Address) -> Health | None:
    """Return how a web finds its cluster; None if it doesn't say, or not within five seconds.

    A web whose database is gone answers `version` on, but not this.
    """
    try:
        found = _ask(where, "GET", "/api/v1/health", good=(200, 503))
    except ConcourseError:
        return None
    if not isinstance(found, dict):
        return None
    database, counted = found.get("database") or {}, found.get("workers") or {}
    return Health(
        status=str(found.get("status", "")),
        database=str(database.get("error") or database.get("status", "")),
        workers=int(counted.get("total", 0)),
        running=int(counted.get("running", 0)),
    )


def workers(where: Address, user: str, password: str) -> tuple[Worker, ...]:
    """Return every worker that a web has, whatever its state.

    Args:
        where: the web.
        user: a local user who belongs to the main team.
        password: the user's.

    Raises:
        ConcourseError: the web doesn't answer, or doesn't let the user in.
    """
    form = urlencode(
        {"grant_type": "password", "username": user, "password": password, "scope": _SCOPES}
    )
    headers = {
        "Authorization": f"Basic {_FLY}",
        "Content-Type": "application/x-www-form-urlencoded",
    }
    signed_in = _ask(where, "POST", "/sky/issuer/token", form, headers)
    token = signed_in.get("access_token", "") if isinstance(signed_in, dict) else ""
    bearer = {"Authorization": f"Bearer {token}"}
    found = _ask(where, "GET", "/api/v1/workers", headers=bearer)
    if not isinstance(found, list):
        raise ConcourseError("the web's list of workers can't be read", retry=True)
    return tuple(_worker(entry) for entry in found if isinstance(entry, dict))


def _worker(entry: Mapping[str, Any]) -> Worker:
    return Worker(
        name=str(entry.get("name", "")),
        state=str(entry.get("state", "")),
        tags=tuple(str(tag) for tag in entry.get("tags") or ()),
        version=str(entry.get("version", "")),
        team=str(entry.get("team", "")),
    )


def _ask(
    where: Address,
    method: str,
    path: str,
    body: str | None = None,
    headers: Mapping[str, str] | None = None,
    good: tuple[int, ...] = (200,),
) -> object:
    """Return a web's JSON answer; ConcourseError says which path failed, and no secret."""
    connection = http.client.HTTPConnection(where.host, where.port, timeout=_LIMIT)
    try:
        connection.request(method, path, body, dict(headers or {}))
        answer = connection.getresponse()
        text = answer.read(16 * 1024 * 1024)
    except (OSError, http.client.HTTPException) as error:
        raise ConcourseError(f"the web doesn't answer {path} ({error})", retry=True) from error
    finally:
        connection.close()
    if answer.status not in good:
        raise ConcourseError(f"the web answers {path} with status {answer.status}", retry=True)
    try:
        found: object = json.loads(text)
    except ValueError as error:
        raise ConcourseError(f"the web's answer to {path} is no JSON", retry=True) from error
    return found
