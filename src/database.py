"""The web's PostgreSQL, over either of two relations.

`database` (interface postgresql_client, charmed PostgreSQL 14 and 16) is the documented
one: credentials come as Juju secrets, and TLS with the CA to verify it by.  `postgresql`
(interface pgsql, `postgresql:db` on 14) is there for what is deployed already.

Observe, for both: relation_created, relation_changed, relation_departed, relation_broken,
secret_changed and leader_elected; call `request`, then `read`, on each.
"""

from __future__ import annotations

import hashlib
import re

import ops

import database_client
import database_pgsql
from database_fields import Database, DatabaseTrouble, Lack, Malformed, Waiting

__all__ = ["RELATIONS", "Database", "DatabaseTrouble", "Lack", "database_name", "read", "request"]

RELATIONS = (database_client.RELATION, database_pgsql.RELATION)
_REQUEST = {
    database_client.RELATION: database_client.request,
    database_pgsql.RELATION: database_pgsql.request,
}
_READ = {
    database_client.RELATION: database_client.read,
    database_pgsql.RELATION: database_pgsql.read,
}
_LONGEST_NAME = 49  # charmed PostgreSQL 16 derives the names of roles from it


def request(charm: ops.CharmBase) -> None:
    """Ask the related PostgreSQL for a database; asking again changes nothing.

    To be called on every unit: the leader may be none that runs a web, and the legacy
    interface wants to hear it from each.  With two PostgreSQLs related, neither is asked.
    """
    relations = _relations(charm)
    if len(relations) == 1:
        _REQUEST[relations[0].name](charm, relations[0], database_name(charm))


def read(charm: ops.CharmBase) -> Database | DatabaseTrouble:
    """Return the database to use, or why there is none.

    `Lack.WAITING` says nothing about a database that was read before: a web that runs
    keeps the settings it has, while a primary is elected for example.
    """
    relations = _relations(charm)
    app = charm.app.name
    if not relations:
        remedy = f"juju relate {app}:{database_client.RELATION} postgresql:database"
        return DatabaseTrouble(Lack.UNRELATED, f"No database: {remedy}")
    if len(relations) > 1:
        both = ", or ".join(f"{app}:{each.name} {_remote(each)}" for each in relations)
        sentence = f"Related to two databases: juju remove-relation {both}"
        return DatabaseTrouble(Lack.TWICE, sentence)
    relation = relations[0]
    try:
        return _READ[relation.name](charm, relation, database_name(charm))
    except Waiting as waiting:
        return DatabaseTrouble(Lack.WAITING, str(waiting))
    except Malformed as malformed:
        sentence = f"{_remote(relation)} gives {app}:{relation.name} no usable data: {malformed}"
        return DatabaseTrouble(Lack.MALFORMED, sentence)


def database_name(charm: ops.CharmBase) -> str:
    """Return the name of this application's database, the same on every unit, for ever.

    The model is in it as well as the application: two of them related to one PostgreSQL,
    from two models perhaps, must not end up in one database, and one that is set up again
    under the same names, or whose PostgreSQL is restored from a backup, finds its own.
    """
    full = re.sub(r"[^a-z0-9]+", "_", f"concourse_{charm.model.name}_{charm.app.name}".lower())
    if len(full) <= _LONGEST_NAME:
        return full
    digest = hashlib.sha256(f"{charm.model.name}/{charm.app.name}".encode()).hexdigest()[:8]
    return f"{full[: _LONGEST_NAME - 9]}_{digest}"


def _relations(charm: ops.CharmBase) -> list[ops.Relation]:
    """Return the relations to a PostgreSQL, without one that is being broken."""
    return [
        relation
        for name in RELATIONS
        for relation in charm.model.relations[name]
        if relation.active
    ]


def _remote(relation: ops.Relation) -> str:
    return relation.app.name if relation.app else "PostgreSQL"
