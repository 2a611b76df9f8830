"""A charm that reads its database, and relations of both interfaces to give it one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ops
import pytest
import yaml
from ops import testing

import database
from database import Database, DatabaseTrouble

METADATA = yaml.safe_load((Path(__file__).parents[2] / "metadata.yaml").read_text())
META = {"name": "concourse-ci-machine", "requires": METADATA["requires"]}
PASSWORD = "s3cr3t-Pa55word"
NAME = "concourse_ci_web"
MODEL = testing.Model("ci", uuid="6f1cbd6e-6b1d-4a9c-8a3f-000000000001")
# A self-signed certificate (EC, CN=unit-test-ca), good until 2126.
CA = """-----BEGIN CERTIFICATE-----
MIIBhjCCASugAwIBAgIUahNm3W8pgc/FdYVJ+Rna1dRgAzwwCgYIKoZIzj0EAwIw
FzEVMBMGA1UEAwwMdW5pdC10ZXN0LWNhMCAXDTI2MTEyMzE1NDkwOVoYDzIxMjYx
MDMwMTU0OTA5WjAXMRUwEwYDVQQDDAx1bml0LXRlc3QtY2EwWTATBgcqhkjOPQIB
BggqhkjOPQMBBwNCAASh2Zd95Kuwh3Rp9Y5oAgpqO0if/igeyiq2U72wkWZ+GuWS
5QbFQNv4R0MNyZRmNBoi+/OitqWhFA0CBJ+MMWtto1MwUTAdBgNVHQ4EFgQU6ChL
HBeJZuD/nbVSiedzHbIRzUMwHwYDVR0jBBgwFoAU6ChLHBeJZuD/nbVSiedzHbIR
zUMwDwYDVR0TAQH/BAUwAwEB/zAKBggqhkjOPQQDAgNJADBGAiEAiVrdf7i/4AJ+
t9ktBgXfalIZjIoUbaHdw8ZQ0R3c5xgCIQDvr6T0B07+0UCUVWvNY6iAfGoDt26Q
IE2kVnRzzBMhZA==
-----END CERTIFICATE-----
"""


class Web(ops.CharmBase):
    """Does what the charm does on every event: asks, then reads."""

    def __init__(self, framework: ops.Framework) -> None:
        super().__init__(framework)
        events = [self.on.config_changed, self.on.secret_changed, self.on.leader_elected]
        for name in database.RELATIONS:
            on = self.on[name]
            events += [on.relation_created, on.relation_changed, on.relation_broken]
        for event in events:
            framework.observe(event, self._on_change)

    def _on_change(self, _: ops.EventBase) -> None:
        database.request(self)
        self.found = database.read(self)


@pytest.fixture
def context() -> testing.Context[Web]:
    return testing.Context(Web, meta=META, app_name="web", unit_id=3)


def state(*relations: testing.Relation, leader: bool = True, **more: Any) -> testing.State:
    return testing.State(relations=list(relations), leader=leader, model=MODEL, **more)


def run(
    context: testing.Context[Web], given: testing.State, event: Any = None
) -> tuple[testing.State, Database | DatabaseTrouble]:
    with context(event or context.on.config_changed(), given) as manager:
        out = manager.run()
        return out, manager.charm.found


def read(context: testing.Context[Web], given: testing.State) -> Database | DatabaseTrouble:
    return run(context, given)[1]


def client(login: testing.Secret | None = None, **bag: str) -> testing.Relation:
    shown = {"database": NAME, "endpoints": "10.1.2.3:5432", "version": "16.9"}
    if login:
        shown["secret-user"] = login.id
    shown.update({name.replace("_", "-"): value for name, value in bag.items()})
    return testing.Relation(
        "database",
        remote_app_name="pg16",
        remote_app_data={name: value for name, value in shown.items() if value},
    )


def plain(**bag: str) -> testing.Relation:
    return client(username="relation-7", password=bag.pop("password", PASSWORD), **bag)


def master(host: str = "10.1.2.3", password: str = PASSWORD, **more: str) -> str:
    pairs = {"host": host, "dbname": NAME, "port": "5432", "user": "relation-9", **more}
    return f"password='{password}' " + " ".join(
        f"{key}={value}" for key, value in pairs.items() if value
    )


def answer(connection: str | None = None, **more: str) -> dict[str, str]:
    bag = {
        "allowed-subnets": "192.0.2.0/32",
        "allowed-units": "web/3",
        "database": NAME,
        "master": master() if connection is None else connection,
        "password": PASSWORD,
        "standbys": "",
        "state": "standalone",
        **{name.replace("_", "-"): value for name, value in more.items()},
    }
    return {name: value for name, value in bag.items() if value}


def pgsql(*units: dict[str, str], **more: Any) -> testing.Relation:
    bags = dict(enumerate(units)) or {0: {}}
    return testing.Relation("postgresql", remote_app_name="pg14", remote_units_data=bags, **more)
