"""The `postgresql_client` interface, requirer's side, as charmed PostgreSQL 14 and 16 speak it.

The databag protocol is version 0 of canonical/data-platform-libs' data_interfaces
(library patch 59); what the providers put into it is canonical/postgresql-operator's
src/relations/postgresql_provider.py (branches main, which is 14, and 16/edge).

| bag | key | what |
|---|---|---|
| requirer, application | database | the database that is wanted |
| requirer, application | requested-secrets | JSON list of fields to give as Juju secrets |
| provider, application | database | the database that was made |
| provider, application | endpoints | "host:port,…", read-write |
| provider, application | secret-user | a secret with username, password |
| provider, application | secret-tls | a secret with tls ("True", "False"), tls-ca (PEM) |
| provider, application | username, password, tls, tls-ca | the same, without secrets |
| provider, application | subordinated | "true": a unit answers once its own bag says state=ready |
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Mapping

import ops

from database_fields import (
    Database,
    Malformed,
    Waiting,
    certificates,
    endpoint,
    host,
    is_address,
    port,
    text,
)

log = logging.getLogger(__name__)

RELATION = "database"
# With "uris" asked for too: a field that isn't goes into the databag in plain, and the
# providers write a URI, which holds the password, whether somebody wants it or not.
_SECRETS = json.dumps(["username", "password", "tls", "tls-ca", "uris"])
_SECRET = re.compile(r"secret:(?://[0-9a-f-]{36}/)?[A-Za-z0-9-]{1,64}", re.ASCII)
_ENDPOINTS = 64


def request(charm: ops.CharmBase, relation: ops.Relation, name: str) -> None:
    """Ask for a database; only the leader can, whichever unit is the web."""
    if charm.unit.is_leader():
        # Both in one hook: a provider that sees no requested-secrets answers in plain,
        # and stays with it.
        relation.data[charm.app].update({"requested-secrets": _SECRETS, "database": name})


def read(charm: ops.CharmBase, relation: ops.Relation, name: str) -> Database:
    """Return the database that the provider made.

    A Juju secret is read at its latest revision, and tracked at it from then on: the
    provider changes the password in PostgreSQL in the hook that writes the new revision,
    so an older one is worth nothing, and only an observer that has moved on is told of
    the next one and lets the owner remove what nobody tracks.

    Raises:
        Waiting: something is still missing.
        Malformed: a field holds what it can't.
    """
    bag: Mapping[str, str] = relation.data[relation.app] if relation.app else {}
    if bag.get("subordinated") == "true" and not any(
        relation.data[unit].get("state") == "ready" for unit in relation.units
    ):
        raise Waiting("Waiting for the database's proxy on this machine")
    login = _group(charm.model, bag, "secret-user", ("username", "password"))
    if not login.get("username") or not login.get("password"):
        raise Waiting("Waiting for the database's credentials")
    encryption = _group(charm.model, bag, "secret-tls", ("tls", "tls-ca"))
    hosts = _endpoints(bag.get("endpoints", ""))
    address, number = hosts[0]
    ca = certificates("tls-ca", encryption.get("tls-ca", ""))
    return Database(
        host=address,
        port=number,
        user=text("username", login["username"]),
        password=text("password", login["password"]),
        name=text("database", bag.get("database") or name, longest=63),
        sslmode=_sslmode(encryption.get("tls", ""), ca, address),
        ca=ca,
        endpoints=tuple(endpoint(*each) for each in hosts),
    )


def _group(
    model: ops.Model,
    bag: Mapping[str, str],
    key: str,
    fields: tuple[str, ...],
) -> dict[str, str]:
    """Return some fields from the secret that the bag names, else from the bag itself."""
    address = bag.get(key, "")
    if not address:
        return {name: bag.get(name, "") for name in fields}
    if not _SECRET.fullmatch(address):
        raise Malformed(key, "is not a secret")
    try:
        content = model.get_secret(id=address).get_content(refresh=True)
    except ops.ModelError as error:  # not granted yet, or its owner is going away
        log.debug("%s can't be read: %s", key, error)
        raise Waiting("Waiting for the database's credentials") from None
    return {name: content.get(name, "") for name in fields}


def _endpoints(value: str) -> list[tuple[str, int]]:
    """Read "host:port,…", sorted: one that comes in another order is no other database."""
    if not value.strip():
        raise Waiting("Waiting for the database's primary")  # 16 names none during an election
    parts = [part.strip() for part in value.split(",")]
    if len(parts) > _ENDPOINTS:
        raise Malformed("endpoints", "holds too many hosts")
    found = set()
    for part in parts:
        name, _, number = part.rpartition(":")
        found.add((host("endpoints", name), port("endpoints", number)))
    return sorted(found)


def _sslmode(tls: str, ca: str, address: str) -> str:
    """Return how far the server can be verified.

    An endpoint that is an address gets "verify-ca": the certificates of charmed PostgreSQL
    carry the unit's names, and the address of its peer network, while the endpoint is its
    address on the relation's network; "verify-full" would lock the web out of the very
    server that it is related to.  The CA is the one that the provider hands over.
    """
    if tls.lower() not in ("true", "false", ""):
        raise Malformed("tls", "is neither True nor False")
    if tls.lower() != "true":
        return "disable"
    if not ca:
        return "require"
    return "verify-ca" if is_address(address) else "verify-full"
