"""The legacy `pgsql` interface, requirer's side, as `postgresql:db` on 14 speaks it.

From canonical/ops-lib-pgsql (pgsql/client.py) and canonical/postgresql-operator's
src/relations/db.py (branch main, which is 14).

| bag | key | what |
|---|---|---|
| requirer, application and every unit | database | the database that is wanted |
| requirer, every unit | egress-subnets | Juju's: where the unit's connections come from |
| provider, every unit | database | the database that was made |
| provider, every unit | master | the primary's libpq connection string, password in it |
| provider, every unit | allowed-subnets | "CIDR,CIDR": who has been let in |
| provider, every unit | allowed-units | the same as unit names, separated by spaces |
| provider, every unit | state | "master", "standalone" or "hot standby" |

`roles` and `extensions` are not written at all, not even empty: the provider blocks
itself at the sight of the first.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping

import ops

import conninfo
from database_fields import (
    SSL_MODES,
    Database,
    Malformed,
    Waiting,
    endpoint,
    host,
    port,
    text,
)

RELATION = "postgresql"
_LONGEST = 16 * 1024


def request(charm: ops.CharmBase, relation: ops.Relation, name: str) -> None:
    """Ask for a database: 14 reads the application's bag, what came before it the units'."""
    relation.data[charm.unit]["database"] = name
    if charm.unit.is_leader():
        relation.data[charm.app]["database"] = name


def read(charm: ops.CharmBase, relation: ops.Relation, name: str) -> Database:
    """Return the database that the provider made.

    Raises:
        Waiting: something is still missing.
        Malformed: a field holds what it can't.
    """
    units = sorted(relation.units, key=lambda unit: unit.name)
    bags: list[Mapping[str, str]] = [relation.data[unit] for unit in units]
    if relation.app:
        bags.append(relation.data[relation.app])
    # Until it has seen the name that is asked for, 14 makes one after the application.
    answers = [bag for bag in bags if bag.get("master") and bag.get("database", name) == name]
    if not answers:
        raise Waiting("Waiting for the database's credentials")
    own = relation.data[charm.unit].get("egress-subnets", "")
    open_to_us = [bag for bag in answers if _admits(bag, own, charm.unit.name)]
    if not open_to_us:
        raise Waiting("Waiting for the database to let this unit in")
    # Every unit names the primary, some of them the last one for a while after it moved.
    open_to_us.sort(key=lambda bag: bag.get("state") not in ("master", "standalone"))
    return _database(open_to_us[0]["master"])


def _admits(bag: Mapping[str, str], egress: str, unit: str) -> bool:
    """Return whether a provider's unit has let this unit in, by its networks or its name."""
    if unit in bag.get("allowed-units", "").split():
        return True
    allowed, own = _networks(bag.get("allowed-subnets", "")), _networks(egress)
    return bool(own) and all(any(_within(one, other) for other in allowed) for one in own)


_Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def _networks(value: str) -> list[_Network]:
    found = []
    for part in value.split(",")[:256]:
        try:
            found.append(ipaddress.ip_network(part.strip(), strict=False))
        except ValueError:
            continue  # a host name, or nothing that could let anybody in
    return found


def _within(one: _Network, other: _Network) -> bool:
    if isinstance(one, ipaddress.IPv4Network):
        return isinstance(other, ipaddress.IPv4Network) and one.subnet_of(other)
    return isinstance(other, ipaddress.IPv6Network) and one.subnet_of(other)


def _database(master: str) -> Database:
    if len(master) > _LONGEST:
        raise Malformed("master", "is too long")
    try:
        found = conninfo.parse(master)
    except ValueError as error:
        raise Malformed("master", str(error)) from None
    hosts = _hosts(found)
    return Database(
        host=hosts[0][0],
        port=hosts[0][1],
        user=_required(found, "user"),
        password=_required(found, "password"),
        name=_required(found, "dbname", longest=63),
        sslmode=_sslmode(found.get("sslmode") or "prefer"),
        endpoints=tuple(endpoint(*each) for each in hosts),
    )


def _required(found: dict[str, str], key: str, longest: int = 1024) -> str:
    return text(f"master: {key}", found.get(key, ""), longest)


def _hosts(found: dict[str, str]) -> list[tuple[str, int]]:
    """Read one host and port or several, in libpq's order: one port may serve all hosts."""
    hosts = (found.get("host") or found.get("hostaddr") or "").split(",")
    ports = (found.get("port") or "5432").split(",")
    if len(ports) == 1:
        ports *= len(hosts)
    if len(ports) != len(hosts):
        raise Malformed("master: port", "doesn't fit the hosts")
    return [
        (host("master: host", name.strip()), port("master: port", number.strip() or "5432"))
        for name, number in zip(hosts, ports, strict=True)
    ]


def _sslmode(mode: str) -> str:
    if mode == "allow":  # like prefer, the server decides
        return "prefer"
    if mode in SSL_MODES:
        return mode
    raise Malformed("master: sslmode", "is none that libpq knows")
