"""The web's options under ops.testing: what they come to, and those that are refused."""

from __future__ import annotations

from dataclasses import replace

import pytest
from ops import testing

from tests.unit.charm_fakes import FakeWorkload
from tests.unit.charm_webs import Context, peers, postgresql, state

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
