"""Modes all and auto under ops.testing: which unit is the web, and who takes over."""

from __future__ import annotations

from dataclasses import replace

import pytest

import charm
from tests.unit.charm_fakes import PEERS_ID, SEEN, FakeWorkload, key
from tests.unit.charm_webs import RUNNING_WEB, Context, peers, postgresql, state


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
