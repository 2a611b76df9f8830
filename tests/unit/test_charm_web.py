"""The web's side of the charm under ops.testing: modes, secrets, database, workers' keys."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from ops import testing

import charm
from concourse.web import WebState
from tests.unit.charm_fakes import PEERS_ID, SECRETS, SEEN, FakeWorkload, key, web
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


def test_mode_all_runs_both_and_needs_no_relation_to_itself(
    context: Context,
    workload: FakeWorkload,
) -> None:
    workload.seen = replace(SEEN, web=RUNNING_WEB)
    given = state(peers(), postgresql(), mode="all", enable_gpu=True)
    out = context.run(context.on.config_changed(), given)
    assert workload.wish.roles == {"web", "worker"}
    assert out.unit_status.message == "Web ready, Worker ready (GPU: 1x NVIDIA)"


@pytest.mark.parametrize(
    ("chosen", "leader", "role", "written"),
    [
        ("", True, {"web"}, "concourse-ci-machine/0"),
        ("", False, set(), ""),
        ("concourse-ci-machine/1", True, {"worker"}, "concourse-ci-machine/1"),
        ("concourse-ci-machine/0", False, {"web"}, "concourse-ci-machine/0"),
    ],
    ids=[
        "the leader chooses the lowest",
        "nobody else chooses",
        "a choice stays, whoever leads",
        "the chosen need not lead",
    ],
)
def test_mode_auto_has_one_web(
    chosen: str,
    leader: bool,
    role: set[str],
    written: str,
    context: Context,
    workload: FakeWorkload,
) -> None:
    known = {"web_unit": chosen} if chosen else {}
    given = state(peers(2, **known), postgresql(), mode="auto", leader=leader)
    out = context.run(context.on.update_status(), given)
    assert (workload.wish.roles if workload.wishes else set()) == role
    assert out.get_relation(PEERS_ID).local_app_data.get("web-unit", "") == written


def test_in_mode_auto_web_and_workers_meet_over_the_peer_relation(
    context: Context,
    workload: FakeWorkload,
) -> None:
    shared = replace(
        peers(web_unit="concourse-ci-machine/1"),
        peers_data={
            1: {
                "tsa-host": "10.0.0.9",
                "tsa-port": "2222",
                "tsa-host-public-key": key(),
                "concourse-version": "8.3.0",
            }
        },
    )
    out = context.run(context.on.update_status(), state(shared, mode="auto", leader=False))
    assert workload.wish.web is not None
    assert workload.wish.web.hosts == ("10.0.0.9:2222",)
    assert out.get_relation(PEERS_ID).local_unit_data["worker-public-key"] == key()


def test_a_chosen_unit_on_its_way_out_is_replaced(context: Context) -> None:
    shared = peers(2, web_unit="concourse-ci-machine/1")
    given = state(shared, mode="auto")
    out = context.run(context.on.relation_departed(shared, remote_unit=1, departing_unit=1), given)
    assert out.get_relation(PEERS_ID).local_app_data["web-unit"] == "concourse-ci-machine/0"


def test_a_web_on_its_way_out_hands_over_and_takes_on_no_other_role(
    workload: FakeWorkload,
) -> None:
    context = Context(charm.ConcourseCharm, unit_id=3)  # ops.testing takes 0 for no unit
    shared = peers(2, web_unit="concourse-ci-machine/3")
    given = state(shared, postgresql(), mode="auto")
    out = context.run(context.on.relation_departed(shared, remote_unit=1, departing_unit=3), given)
    assert out.get_relation(PEERS_ID).local_app_data["web-unit"] == "concourse-ci-machine/1"
    assert not workload.wishes


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


WEB_BAD = {
    "web-port": [0, 65536, -1],
    "external-url": ["ci.example.com", "https://", "https://a b"],
    "initial-admin-username": ["", "a b", "a:b", "a,b"],
    "container-placement-strategy": ["round-robin", "random,magic"],
    "max-active-tasks-per-worker": [-1],
    "web-env": ["CONCOURSE_POSTGRES_HOST=x", "no equals", "PATH=/x", "CONCOURSE_X=\x01"],
    "worker-env": ["CONCOURSE_TSA_HOST=x", "CONCOURSE_GARDEN_NETWORK_POOL=1.2.3.0/24"],
}


@pytest.mark.parametrize(
    ("option", "value"), [(option, value) for option in WEB_BAD for value in WEB_BAD[option]]
)
def test_a_bad_option_of_the_web_gets_one_sentence(
    option: str,
    value: str | int,
    context: Context,
    workload: FakeWorkload,
) -> None:
    given = state(peers(), postgresql())
    given = replace(given, config={**given.config, option: value})
    out = context.run(context.on.config_changed(), given)
    assert not workload.wishes
    assert isinstance(out.unit_status, testing.BlockedStatus)
    assert option in out.unit_status.message
    assert "\n" not in out.unit_status.message


def test_options_reach_the_wish(
    context: Context,
    workload: FakeWorkload,
) -> None:
    secret = testing.Secret({"github-client-secret": "hush"}, id="secret:abcdefghijklmnopqrst")
    given = state(
        peers(),
        postgresql(),
        web_port=80,
        external_url="https://ci.example.com/",
        initial_admin_username="root",
        enable_metrics=True,
        container_placement_strategy="limit-active-tasks, random",
        max_active_tasks_per_worker=4,
        web_env="# a comment\nCONCOURSE_GITHUB_CLIENT_ID=abc",
        web_secret_env=secret.id,
    )
    out = context.run(context.on.config_changed(), replace(given, secrets={secret}))
    side = workload.wish.web_side
    assert side is not None
    assert side.external_url == "https://ci.example.com"
    assert side.admin_user == "root"
    assert side.placement == ("limit-active-tasks", "random")
    assert side.limits == (4, 0, 0)
    assert side.extra == {
        "CONCOURSE_GITHUB_CLIENT_ID": "abc",
        "CONCOURSE_GITHUB_CLIENT_SECRET": "hush",
    }
    assert {port.port for port in out.opened_ports} == {80, 2222, 9391}
    assert "hush" not in repr(workload.wish)


def test_a_secret_that_is_not_granted_names_the_command(context: Context) -> None:
    given = state(peers(), postgresql(), web_secret_env="secret:abcdefghijklmnopqrst")
    out = context.run(context.on.config_changed(), given)
    assert out.unit_status.message == (
        "web-secret-env can't be read: juju grant-secret NAME concourse-ci-machine"
    )


def test_the_admins_password_is_shown_by_its_action_alone(
    context: Context,
    workload: FakeWorkload,
) -> None:
    first = context.run(
        context.on.config_changed(), state(peers(), postgresql(), external_url="https://ci.test")
    )
    context.run(context.on.action("get-admin-password"), first)
    assert context.action_results == {
        "url": "https://ci.test",
        "username": "admin",
        "password": "a-password",
    }
    assert not any("a-password" in line.message for line in context.juju_log)
    with pytest.raises(testing.ActionFailed, match="no web runs on this unit"):
        context.run(context.on.action("get-admin-password"), state(web(), mode="worker"))


def test_drain_resume_and_restart_reach_the_workload(
    context: Context,
    workload: FakeWorkload,
) -> None:
    given = state(web(), mode="worker")
    context.run(context.on.action("drain"), given)
    assert workload.drained
    context.run(context.on.action("resume"), given)
    assert workload.wishes[-1][1] is True
    with pytest.raises(testing.ActionFailed, match="not drained"):
        context.run(context.on.action("resume"), given)
    context.run(context.on.action("restart-services", params={"force": True}), given)
    assert workload.restarts == [True]


def test_a_unit_without_a_worker_is_not_drained(context: Context, workload: FakeWorkload) -> None:
    with pytest.raises(testing.ActionFailed, match="no worker runs on this unit"):
        context.run(context.on.action("drain"), state(peers(), postgresql()))
    assert not workload.drained


def test_check_status_shows_services_and_workers(
    context: Context,
    workload: FakeWorkload,
) -> None:
    workload.seen = replace(SEEN, web=RUNNING_WEB)
    context.run(context.on.action("check-status"), state(peers(), postgresql(), mode="all"))
    results = context.action_results
    assert results is not None
    assert results["web"]["workers"] == 2
    assert results["worker"]["registered"] is True


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
