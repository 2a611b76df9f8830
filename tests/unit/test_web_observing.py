"""What is seen of a web: whether it answers, why it doesn't, what its API says."""

from __future__ import annotations

from pathlib import Path

import pytest

from concourse import api, web
from concourse.errors import ConcourseError
from concourse.web import WebState
from host import Layout
from tests.unit import web_wishes
from tests.unit.web_wishes import WISH, started
from tests.unit.webs import Programs

port = web_wishes.port


def test_a_web_that_answers(layout: Layout, programs: Programs, tree: Path, port: int) -> None:
    web.ensure_files(layout, WISH, tree)
    programs.runs(started(layout, CONCOURSE_BIND_PORT=str(port)))
    where = api.Address(port)
    assert web.observe(layout) == WebState("active", True, True, "8.3.0", address=where)
    programs.runs({"CONCOURSE_BIND_PORT": str(port), "CHARM_STAMP": "old"})
    assert web.observe(layout) == WebState("active", False, True, "8.3.0", address=where)


RETRYING = (
    '{"level":"error","source":"atc","message":"atc.db.failed-to-open-db-retrying","data":{"error":'
    '"failed to connect to `user=u database=d`: 10.0.0.9:5432 (10.0.0.9): connection refused"}}'
)


@pytest.mark.parametrize(
    ("journal", "trouble"),
    [
        ((), ""),
        (("Started concourse-web.service.",), ""),
        (
            ("Started x", RETRYING),
            "the database can't be opened: 10.0.0.9:5432 (10.0.0.9): connection refused",
        ),
        (("Started x", RETRYING, '{"message":"atc.listening"}'), ""),
        (("error: invalid argument for flag `--gc-interval'", "Started x"), "invalid argument"),
        (("error: old", "Started x", "Started x"), ""),
        (
            ("error: failed to connect to database: failed to connect to `user=u`: FATAL: no",),
            "the database can't be opened: FATAL: no",
        ),
        (("error: " + "x" * 500,), "x" * 100),
        (('{"message":"failed-to-open-db-retrying"',), "can't be opened: no reason given"),
    ],
)
def test_why_it_does_not_answer(
    layout: Layout, programs: Programs, tree: Path, journal: tuple[str, ...], trouble: str
) -> None:
    web.ensure_files(layout, WISH, tree)
    programs.runs(started(layout, CONCOURSE_BIND_PORT="1"))
    programs.says(*journal)
    state = web.observe(layout)
    assert (state.unit, state.answers, state.version) == ("active", False, "")
    assert trouble in state.trouble
    assert bool(trouble) == bool(state.trouble)
    assert len(state.trouble) <= 160


@pytest.mark.parametrize(
    ("properties", "state"),
    [
        ({"LoadState": "not-found"}, WebState("absent")),
        ({}, WebState("inactive")),
        ({"ActiveState": "activating"}, WebState("activating")),
        (
            {"ActiveState": "activating", "SubState": "auto-restart", "Result": "exit-code"},
            WebState("failed", result="exit-code", trouble="no"),
        ),
        (
            {"ActiveState": "failed", "Result": "signal"},
            WebState("failed", result="signal", trouble="no"),
        ),
    ],
)
def test_a_web_that_does_not_run(
    layout: Layout, programs: Programs, properties: dict[str, object], state: WebState
) -> None:
    programs.says("error: no")
    programs.has(**properties)
    assert web.observe(layout) == state


def test_without_systemd_it_is_absent(layout: Layout) -> None:
    assert web.observe(layout) == WebState("absent")


def test_workers_as_the_web_has_them(port: int) -> None:
    found = api.workers(api.Address(port), "admin", "a&b")
    assert found == (
        api.Worker("w-0", "running", ("gpu",), "3.0"),
        api.Worker("w-1", "stalled"),
    )


def test_health(port: int) -> None:
    assert api.health(api.Address(port)) == api.Health("failing", "healthy", 2, 1)
    assert api.health(api.Address(1)) is None


def test_a_wrong_password_is_no_secret_told(port: int) -> None:
    with pytest.raises(ConcourseError, match=r"token with status 401") as caught:
        api.workers(api.Address(port), "admin", "secret")
    assert "secret" not in str(caught.value)


def test_where_a_web_answers() -> None:
    assert api.address({}) == api.Address(8080)
    assert api.address({"CONCOURSE_BIND_PORT": "80"}) == api.Address(80)
    bound = {"CONCOURSE_BIND_PORT": "80", "CONCOURSE_BIND_IP": "10.0.0.1"}
    assert api.address(bound) == api.Address(80, "10.0.0.1")
    assert api.address({"CONCOURSE_BIND_PORT": "x"}) is None
