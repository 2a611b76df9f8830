"""The `concourse-tsa` interface: what a web and its workers tell each other.

| bag | key | what |
|---|---|---|
| provider, application | tsa-host-public-key | the TSA's host key, one OpenSSH public-key line |
| provider, application | concourse-version | the release that the web runs, X.Y.Z |
| provider, unit | tsa-host | where this web unit's TSA answers: a host name or an address |
| provider, unit | tsa-port | its port, 1 to 65535 |
| requirer, unit | worker-name | the name that the worker registers under |
| requirer, unit | worker-public-key | the worker's own key, one OpenSSH public-key line |

Over the peer relation (deployment-mode=auto) the web unit says all four in its own bag,
as the application's belongs to the leader, who may be a worker.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import ops

from concourse.keys import is_public_key
from words import shown

_HOST_KEY, _VERSION_KEY = "tsa-host-public-key", "concourse-version"
_OF_A_WEB = ("tsa-host", "tsa-port", _HOST_KEY, _VERSION_KEY)
_OF_A_WORKER = ("worker-name", "worker-public-key")
_HOST = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9.:-]{0,252}[A-Za-z0-9])?")
_VERSION = re.compile(r"\d{1,4}\.\d{1,4}\.\d{1,4}", re.ASCII)


@dataclass(frozen=True)
class Web:
    """A web as its workers need it.

    Attributes:
        hosts: "host:port" of every web unit's TSA, sorted; an IPv6 address in brackets.
        host_key: the TSA's host key, "TYPE BASE64", without a comment.
        version: the release that it runs, X.Y.Z; "" if it doesn't say.
    """

    hosts: tuple[str, ...]
    host_key: str
    version: str = ""


def read_web(relation: ops.Relation, unit: str = "") -> Web | None:
    """Return what the related web has published, or None while something is missing.

    Args:
        relation: the relation to the web.
        unit: the one unit that runs it, whose bag alone is read; "" for all of the other side.

    Raises:
        ValueError: a field holds something else than the interface says; the text is one
            sentence that names the field.
    """
    bags = [relation.data[each] for each in relation.units if unit in ("", each.name)]
    said = [*([relation.data[relation.app]] if relation.app else []), *bags]
    key = next((bag[_HOST_KEY] for bag in said if _HOST_KEY in bag), "")
    version = next((bag[_VERSION_KEY] for bag in said if _VERSION_KEY in bag), "")
    hosts = [_host(bag) for bag in bags]
    known = tuple(sorted(host for host in hosts if host))
    if not key or not known:
        return None
    if version and not _VERSION.fullmatch(version):
        raise ValueError(f"concourse-version is no release: {shown(version)}")
    return Web(known, public_key(key, _HOST_KEY), version)


def publish_worker(relation: ops.Relation, unit: ops.Unit, name: str, key: str) -> bool:
    """Tell the related web this worker's name and public key; True if they are news."""
    return _tell(relation.data[unit], {"worker-name": name, "worker-public-key": key})


def publish_web(bag: ops.RelationDataContent, host: str, port: int) -> None:
    """Tell workers, in a unit's bag, where this web unit's TSA answers."""
    _tell(bag, {"tsa-host": host, "tsa-port": str(port)})


def publish_web_identity(bag: ops.RelationDataContent, host_key: str, version: str) -> None:
    """Tell workers how to know the web: its host key, and the release that it runs."""
    _tell(bag, {_HOST_KEY: host_key, _VERSION_KEY: version})


def withdraw(bag: ops.RelationDataContent, *, web: bool) -> None:
    """Take back all that a unit's bag says of its web, or else of its worker."""
    for field in _OF_A_WEB if web else _OF_A_WORKER:
        if field in bag:
            del bag[field]


def workers(relation: ops.Relation) -> dict[str, str]:
    """Return the public keys of a relation's workers by name, as they say them, unchecked."""
    said = (worker(relation.data[unit]) for unit in relation.units)
    return dict(each for each in said if each)


def worker(bag: ops.RelationDataContent) -> tuple[str, str] | None:
    """Return what one worker says: its name and its key, unchecked; None if not both."""
    name, key = bag.get("worker-name", ""), bag.get("worker-public-key", "")
    return (name, key) if name and key else None


def public_key(line: str, field: str) -> str:
    """Return the one OpenSSH public key that `line` holds, as "TYPE BASE64".

    Raises:
        ValueError: it holds none, several, or options.
    """
    stripped = line.strip()
    if not is_public_key(stripped):
        raise ValueError(f"{field} is not one public-key line: {shown(line)}")
    return " ".join(stripped.split()[:2])


def _tell(bag: ops.RelationDataContent, told: dict[str, str]) -> bool:
    if all(bag.get(field) == value for field, value in told.items()):
        return False
    bag.update(told)
    return True


def _host(bag: ops.RelationDataContent) -> str:
    host, port = bag.get("tsa-host", ""), bag.get("tsa-port", "")
    if not host or not port:
        return ""
    if not _HOST.fullmatch(host):
        raise ValueError(f"tsa-host is neither a host name nor an address: {shown(host)}")
    if not re.fullmatch("[0-9]{1,5}", port) or not 0 < int(port) < 65536:
        raise ValueError(f"tsa-port is no port: {shown(port)}")
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
