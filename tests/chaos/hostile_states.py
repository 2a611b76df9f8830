"""Units under ops.testing whose options and relations hold what a test says."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ops import testing

import charm
from tests.unit.charm_fakes import key
from tests.unit.webs import rsa_line

Context = testing.Context[charm.ConcourseCharm]
APP, UNIT, PEER = "concourse-ci-machine", "concourse-ci-machine/0", "concourse-ci-machine/1"
# What each mode has a unit run that leads and has not chosen anybody yet.
ROLES = {"worker": {"worker"}, "web": {"web"}, "all": {"web", "worker"}, "auto": {"web"}}
TSA = {
    "tsa-host-public-key": key(),
    "concourse-version": "8.3.0",
    "tsa-host": "10.0.0.2",
    "tsa-port": "2222",
}
DATABASE = {"endpoints": "10.0.0.5:5432", "username": "u", "password": "p", "database": "d"}
PGSQL = {
    "master": "host=10.0.0.5 port=5432 dbname=d user=u password=p sslmode=disable",
    "database": "d",
    "allowed-units": UNIT,
    "allowed-subnets": "192.0.2.0/24",
    "state": "master",
}
WORKER = {"worker-name": "worker-0", "worker-public-key": rsa_line()}


def state(config: Mapping[str, Any], relations: list[Any], **more: Any) -> testing.State:
    """Return a unit's state; it leads unless `more` says otherwise."""
    resource = testing.Resource(name="concourse", path="/dev/null")
    return testing.State(
        **{"leader": True, **more},
        config=dict(config),
        relations=relations,
        resources={resource},
    )


def tsa(**fields: str) -> testing.Relation:
    said = TSA | fields
    app = {name: said[name] for name in ("tsa-host-public-key", "concourse-version")}
    unit = {name: value for name, value in said.items() if name not in app}
    return testing.Relation("worker-tsa", interface="concourse-tsa", remote_app_name="web",
                            remote_app_data=app, remote_units_data={0: unit})  # fmt: skip


def database(**fields: str) -> testing.Relation:
    return testing.Relation("database", interface="postgresql_client",
                            remote_app_name="postgresql", remote_app_data=DATABASE | fields,
                            remote_units_data={0: {}})  # fmt: skip


def pgsql(**fields: str) -> testing.Relation:
    return testing.Relation("postgresql", interface="pgsql", remote_app_name="postgresql",
                            remote_units_data={0: PGSQL | fields})  # fmt: skip


def workers(**fields: str) -> testing.Relation:
    return testing.Relation("web-tsa", interface="concourse-tsa", remote_app_name="worker",
                            remote_units_data={0: WORKER | fields})  # fmt: skip


def certificates(**fields: str) -> testing.Relation:
    return testing.Relation("certificates", interface="tls-certificates", remote_app_name="ca",
                            remote_app_data=fields)  # fmt: skip


def peers(
    *,
    app: Mapping[str, str] | None = None,
    own: Mapping[str, str] | None = None,
    **fields: str,
) -> testing.PeerRelation:
    """Return the peer relation of two units.

    Args:
        app: the application's bag.
        own: this unit's.
        fields: the other unit's.
    """
    return testing.PeerRelation(
        "concourse-peer",
        peers_data={1: fields},
        local_app_data=dict(app or {}),
        local_unit_data=dict(own or {}),
    )
