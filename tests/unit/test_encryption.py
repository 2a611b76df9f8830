"""database-encryption: one key, made once, never lost, and never used before Juju has it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from ops import testing

from tests.unit.charm_fakes import PEERS_ID
from tests.unit.charm_webs import peers, postgresql, state
from tests.unit.whole import Whole

NEW, OLD = "CONCOURSE_ENCRYPTION_KEY", "CONCOURSE_OLD_ENCRYPTION_KEY"
WAITING = testing.WaitingStatus("Waiting for the leader to make the database's encryption key")


@pytest.fixture
def whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Whole:
    return Whole(tmp_path, monkeypatch)


def given(whole: Whole, *, encrypted: bool, leader: bool = True) -> testing.State:
    found = state(peers(), postgresql(), leader=leader, database_encryption=encrypted)
    return replace(found, resources={whole.resource})


def switched(found: testing.State, *, encrypted: bool) -> testing.State:
    return replace(found, config={**found.config, "database-encryption": encrypted})


def key(found: testing.State) -> str:
    (secret,) = found.secrets
    return (secret.latest_content or {}).get("encryption-key", "")


def test_by_default_there_is_no_key(whole: Whole) -> None:
    out = whole.configure(given(whole, encrypted=False))
    out = whole.configure(out)
    assert key(out) == ""
    assert not {NEW, OLD} & whole.web.keys()


def test_a_key_is_used_by_the_hook_after_the_one_that_makes_it(whole: Whole) -> None:
    out = whole.configure(given(whole, encrypted=True))
    made = key(out)
    assert len(made) == 32
    assert not {NEW, OLD} & whole.web.keys()
    out = whole.configure(out)
    assert whole.web[NEW] == key(out) == made
    assert OLD not in whole.web


def test_switched_on_later_the_key_joins_the_secret_that_is_there(whole: Whole) -> None:
    out = whole.configure(whole.configure(given(whole, encrypted=False)))
    had = dict(next(iter(out.secrets)).latest_content or {})
    out = whole.configure(switched(out, encrypted=True))
    assert NEW not in whole.web
    assert dict(next(iter(out.secrets)).latest_content or {}) == {
        **had,
        "encryption-key": key(out),
    }
    out = whole.configure(out)
    assert whole.web[NEW] == key(out)


def test_switched_off_the_database_is_decrypted_and_the_key_stays(whole: Whole) -> None:
    out = whole.configure(whole.configure(given(whole, encrypted=True)))
    made, before = key(out), whole.web["CHARM_STAMP"]
    out = whole.configure(switched(out, encrypted=False))
    assert (whole.web[OLD], key(out)) == (made, made)
    assert NEW not in whole.web
    assert whole.web["CHARM_STAMP"] != before  # the web restarts
    out = whole.configure(switched(out, encrypted=True))
    assert (whole.web[NEW], key(out)) == (made, made)
    assert OLD not in whole.web


def test_a_web_that_does_not_lead_waits_for_the_key_and_then_takes_it(whole: Whole) -> None:
    content = {"session-signing-key": "s", "tsa-host-key": "h", "admin-password": "p"}
    secret = testing.Secret(content, id="secret:abcdefghijklmnopqrst", owner="app")
    shared = peers(1, web_secret=secret.id)
    found = given(whole, encrypted=True, leader=False)
    others = [each for each in found.relations if each.id != PEERS_ID]
    found = replace(found, relations=[*others, shared], secrets={secret})
    out = whole.configure(found)
    assert out.unit_status == WAITING
    assert not {NEW, OLD} & whole.web.keys()
    full = replace(secret, tracked_content={**content, "encryption-key": "k" * 32})
    full = replace(full, latest_content=full.tracked_content)
    whole.configure(replace(out, secrets={full}))
    assert whole.web[NEW] == "k" * 32


def test_the_leader_makes_the_webs_secret_where_another_unit_runs_the_web(whole: Whole) -> None:
    found = state(peers(1, web_unit="concourse-ci-machine/1"), mode="auto")
    out = whole.configure(replace(found, resources={whole.resource}))
    assert out.get_relation(PEERS_ID).local_app_data["web-secret"]
    (secret,) = out.secrets
    assert secret.owner == "app"


def test_the_key_is_in_no_log_and_no_status(whole: Whole) -> None:
    out = whole.configure(whole.configure(given(whole, encrypted=True)))
    said = [line.message for line in whole.context.juju_log] + [out.unit_status.message]
    assert not any(key(out) in text for text in said)
