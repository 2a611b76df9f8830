"""The web's side of the charm under ops.testing: secrets, database, workers' keys."""

from __future__ import annotations

from dataclasses import replace

import pytest
from ops import testing

from concourse.web import WebState
from tests.unit.charm_fakes import PEERS_ID, SECRETS, SEEN, FakeWorkload, key
from tests.unit.charm_webs import RUNNING_WEB, Context, peers, postgresql, state, workers
from web_workload import WebSeen


def test_a_web_with_database_and_worker_is_ready(
    context: Context,
    workload: FakeWorkload,
) -> None:
    workload.seen = replace(SEEN, web=RUNNING_WEB)
    related = workers("worker-0")
    out = context.run(context.on.config_changed(), state(peers(), postgresql(), related))
    assert out.unit_status == testing.ActiveStatus("Web ready")
    assert workload.wish.roles == {"web"}
    assert workload.workers == {"worker-0": key()}
    assert {port.port for port in out.opened_ports} == {8080, 2222}
    assert out.get_relation(related.id).local_unit_data["tsa-port"] == "2222"
    assert out.get_relation(related.id).local_app_data["concourse-version"] == "8.3.0"
    asked = next(each for each in out.relations if each.endpoint == "database")
    assert asked.local_app_data["database"]


def test_the_leader_makes_the_shared_secret_once(
    context: Context,
    workload: FakeWorkload,
) -> None:
    out = context.run(context.on.config_changed(), state(peers(), postgresql()))
    (secret,) = out.secrets
    assert secret.owner == "app"
    assert secret.tracked_content["admin-password"] == SECRETS.admin_password
    assert out.get_relation(PEERS_ID).local_app_data["web-secret"] == secret.id
    again = context.run(context.on.update_status(), out)
    assert {each.id for each in again.secrets} == {secret.id}
    side = workload.wish.web_side
    assert side is not None
    assert side.secrets == SECRETS


def test_another_unit_waits_for_the_leader(context: Context) -> None:
    out = context.run(context.on.config_changed(), state(peers(), postgresql(), leader=False))
    assert not out.secrets
    assert out.unit_status == testing.WaitingStatus("Waiting for the leader to make the web's keys")


@pytest.mark.parametrize(
    ("relations", "status"),
    [
        (
            [],
            testing.BlockedStatus(
                "No database: juju relate concourse-ci-machine:database postgresql:database"
            ),
        ),
        (
            [testing.Relation("database", interface="postgresql_client")],
            testing.WaitingStatus("Waiting for the database's credentials"),
        ),
    ],
    ids=["none related", "related, nothing said yet"],
)
def test_a_web_says_what_its_database_lacks(
    relations: list[testing.Relation],
    status: testing.BlockedStatus | testing.WaitingStatus,
    context: Context,
) -> None:
    out = context.run(context.on.config_changed(), state(peers(), *relations))
    assert out.unit_status == status


@pytest.mark.parametrize(
    ("seen", "status"),
    [
        (WebSeen(WebState("failed")), "concourse-web.service failed: see journalctl"),
        (WebSeen(WebState("activating")), "Web is starting"),
        (replace(RUNNING_WEB, workers=0, untagged=0), "Web ready; no worker yet"),
        (replace(RUNNING_WEB, untagged=0), "Web ready; every worker has tags"),
        (replace(RUNNING_WEB, workers=-1, untagged=-1), "Web ready"),
    ],
    ids=["failed", "starting", "no worker", "only tagged workers", "can't be asked"],
)
def test_a_web_says_how_it_is(
    seen: WebSeen,
    status: str,
    context: Context,
    workload: FakeWorkload,
) -> None:
    workload.seen = replace(SEEN, web=seen)
    first = context.run(context.on.config_changed(), state(peers(), postgresql()))
    assert first.unit_status.message.startswith(status)


def test_one_more_worker_is_let_in_by_one_read(
    context: Context,
    workload: FakeWorkload,
) -> None:
    related = workers("worker-0", "worker-1")
    given = state(peers(), postgresql(), related)
    context.run(context.on.relation_changed(related, remote_unit=1), given)
    assert workload.admitted == [({"worker-1": key()}, ())]
    assert not workload.wishes
    context.run(context.on.relation_departed(related, remote_unit=0, departing_unit=0), given)
    assert workload.admitted[-1] == ({}, ("worker-0",))


def test_update_status_reads_no_workers_key(context: Context, workload: FakeWorkload) -> None:
    given = state(peers(), postgresql(), workers("worker-0"))
    context.run(context.on.update_status(), given)
    assert workload.workers == {}
    context.run(context.on.config_changed(), given)
    assert workload.workers == {"worker-0": key()}


def test_the_peers_remember_the_newest_release_that_migrated_the_database(
    context: Context,
    workload: FakeWorkload,
) -> None:
    out = context.run(context.on.config_changed(), state(peers(1), postgresql()))
    shared = out.get_relation(PEERS_ID)
    assert isinstance(shared, testing.PeerRelation)
    assert shared.local_unit_data["migrated"] == "8.3.0"
    assert shared.local_app_data["migrated"] == "8.3.0"
    newer = replace(shared, peers_data={1: {"migrated": "8.10.0"}})
    given = replace(state(newer, postgresql()), secrets=out.secrets)
    out = context.run(context.on.relation_changed(newer, remote_unit=1), given)
    assert out.get_relation(PEERS_ID).local_app_data["migrated"] == "8.10.0"
    assert workload.wish.web_side is not None
    assert workload.wish.web_side.migrated == "8.10.0"


def test_a_web_that_does_not_lead_says_what_it_ran_in_its_own_bag(
    context: Context,
    workload: FakeWorkload,
) -> None:
    first = context.run(context.on.config_changed(), state(peers(), postgresql()))
    shared = first.get_relation(PEERS_ID)
    assert isinstance(shared, testing.PeerRelation)
    fresh = replace(
        shared,
        local_unit_data={},
        local_app_data={"web-secret": shared.local_app_data["web-secret"], "migrated": "8.2.5"},
    )
    given = replace(state(fresh, postgresql(), leader=False), secrets=first.secrets)
    out = context.run(context.on.config_changed(), given)
    after = out.get_relation(PEERS_ID)
    assert after.local_unit_data["migrated"] == "8.3.0"
    assert after.local_app_data["migrated"] == "8.2.5"
    context.run(context.on.update_status(), replace(given, relations=out.relations))
    assert workload.wish.web_side is not None
    assert workload.wish.web_side.migrated == "8.3.0"
