"""Units of the web for the tests of the charm: their relations, their state, a web that runs."""

from __future__ import annotations

from typing import Any

from ops import testing

import charm
from concourse.web import WebState
from tests.unit.charm_fakes import PEERS_ID, key
from web_workload import WebSeen

RUNNING_WEB = WebSeen(WebState("active", up_to_date=True, answers=True, version="8.3.0"), 2, 1)
Context = testing.Context[charm.ConcourseCharm]


def peers(units: int = 0, **app: str) -> testing.PeerRelation:
    shared = {name.replace("_", "-"): value for name, value in app.items()}
    others = {number + 1: {} for number in range(units)}
    return testing.PeerRelation(
        "concourse-peer", peers_data=others, local_app_data=shared, id=PEERS_ID
    )


def postgresql() -> testing.Relation:
    return testing.Relation(
        "database",
        interface="postgresql_client",
        remote_app_name="postgresql",
        remote_app_data={
            "endpoints": "10.0.0.5:5432",
            "username": "concourse",
            "password": "database-password",
            "database": "concourse",
        },
        remote_units_data={0: {}},
    )


def workers(*names: str) -> testing.Relation:
    return testing.Relation(
        "web-tsa",
        interface="concourse-tsa",
        remote_app_name="worker",
        remote_units_data={
            number: {"worker-name": name, "worker-public-key": key()}
            for number, name in enumerate(names)
        },
    )


def state(*relations: Any, leader: bool = True, mode: str = "web", **config: Any) -> testing.State:
    options = {name.replace("_", "-"): value for name, value in config.items()}
    return testing.State(
        leader=leader,
        config={"deployment-mode": mode, **options},
        relations=list(relations),
        resources={testing.Resource(name="concourse", path="/dev/null")},
    )
