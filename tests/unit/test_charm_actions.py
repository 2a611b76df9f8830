"""The charm's actions under ops.testing: the admin's password, drains, restarts, the status."""

from __future__ import annotations

from dataclasses import replace

import pytest
from ops import testing

from tests.unit.charm_fakes import SEEN, FakeWorkload, web
from tests.unit.charm_webs import RUNNING_WEB, Context, peers, postgresql, state


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
