"""The workload between wish and machine: failures are remembered for what they are about."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import cast

import ops
import pytest

import attempts
from concourse.release import ReleaseWish
from concourse.web import WebSecrets
from database import Database
from desired import Wish
from files import ensure_symlink, write_file
from host import Layout, Trouble
from juju import Juju
from status import unit_status
from tests.unit.webs import Programs
from web_desired import WebSide
from workload import GPU_UNDO, Workload

NOWHERE = "http://127.0.0.1:9"  # the discard port: nobody listens
WISH = Wish(
    app="worker",
    mode="worker",
    worker_name="worker-0",
    release=ReleaseWish(version="8.4.0", url=NOWHERE, sha256="", resource=None),
    log_level="info",
    dns_proxy=False,
    dns_server="",
    baggageclaim_driver="auto",
    related=True,
)


class NothingAttached:
    """The model, of which no more is asked while there is no release."""

    def attached_release(self) -> None:
        return None


NO_JUJU = cast("Juju", NothingAttached())


def wanting(version: str) -> Wish:
    return replace(WISH, release=replace(WISH.release, version=version))


SECRETS = WebSecrets("session key", "host key", "a-password")
DATABASE = Database("10.0.0.5", 5432, "concourse", "a-password", "concourse")
SIDE = replace(
    WebSide(8080, "http://web", "10.0.0.1", "admin", False, (), (0, 0, 0), {}),
    secrets=SECRETS,
    database=DATABASE,
)


def web_wanting(version: str, migrated: str = "") -> Wish:
    side = replace(SIDE, migrated=migrated)
    return replace(wanting(version), mode="web", roles=frozenset({"web"}), web_side=side)


@pytest.fixture
def workload(layout: Layout) -> Workload:
    return Workload(layout, lambda _: None)


def failures(layout: Layout, version: str) -> int:
    attempt = attempts.last(layout, f"release {version}")
    return attempt.failures if attempt else 0


def test_a_failed_download_is_remembered_and_paused(layout: Layout, workload: Workload) -> None:
    workload.reconcile(WISH, NO_JUJU, at_once=False)
    workload.reconcile(WISH, NO_JUJU, at_once=False)
    assert failures(layout, "8.4.0") == 1
    workload.reconcile(WISH, NO_JUJU, at_once=True)
    assert failures(layout, "8.4.0") == 2


def test_another_release_is_tried_at_once_and_the_first_is_forgotten(
    layout: Layout, workload: Workload
) -> None:
    workload.reconcile(wanting("9.9.9"), NO_JUJU, at_once=False)
    workload.reconcile(wanting("8.4.0"), NO_JUJU, at_once=False)
    assert failures(layout, "9.9.9") == 0
    assert failures(layout, "8.4.0") == 1


@pytest.mark.parametrize("url", ["http://[::1", "http://a..b", "http://host/é", "http://℀.com"])
def test_an_address_that_can_not_be_is_no_crash(
    url: str, layout: Layout, workload: Workload
) -> None:
    wish = replace(WISH, release=replace(WISH.release, url=url))
    workload.reconcile(wish, NO_JUJU, at_once=True)
    assert failures(layout, "8.4.0") == 1


def test_a_proxy_that_can_not_be_is_no_crash(layout: Layout, workload: Workload) -> None:
    proxies = {"http_proxy": "http://[::1"}
    wish = replace(WISH, release=replace(WISH.release, proxies=proxies))
    workload.reconcile(wish, NO_JUJU, at_once=True)
    assert failures(layout, "8.4.0") == 1


def test_turning_the_gpu_off_needs_no_download(layout: Layout, workload: Workload) -> None:
    write_file(layout.state / "gpu/begun", "")
    ensure_symlink(layout.nvidia_runtime, layout.wrapper)
    layout.at("/tmp").mkdir()
    workload.reconcile(WISH, NO_JUJU, at_once=True)
    assert failures(layout, "8.4.0") == 1
    assert not os.path.lexists(layout.nvidia_runtime)
    assert not workload.gpu.begun


def test_a_web_refuses_to_go_back_to_an_older_schema(layout: Layout, workload: Workload) -> None:
    has_tree(layout, "8.4.0")
    write_file(layout.config_dir / "web.env", "")  # it has run
    workload._ensure_release(web_wanting("8.3.0"), NO_JUJU, at_once=True)
    attempt = attempts.last(layout, "release 8.3.0")
    assert attempt is not None
    assert "older than the 8.4.0 that the database was migrated for" in attempt.what
    assert not attempt.retry


def test_a_release_that_no_web_ever_ran_binds_nobody(layout: Layout, workload: Workload) -> None:
    has_tree(layout, "8.4.0")
    workload._ensure_release(web_wanting("8.3.0"), NO_JUJU, at_once=True)
    attempt = attempts.last(layout, "release 8.3.0")
    assert attempt is not None
    assert "older" not in attempt.what
    assert attempt.retry


@pytest.mark.parametrize("tree", ["", "8.3.0"], ids=["nothing here yet", "the older one is here"])
def test_a_new_web_starts_no_older_release_than_its_peers_have_run(
    tree: str, layout: Layout, workload: Workload
) -> None:
    Programs(layout)
    if tree:
        has_tree(layout, tree)
    workload.reconcile(web_wanting("8.3.0", migrated="8.4.0"), NO_TURN, at_once=True)
    seen = workload.observe(web_wanting("8.3.0", migrated="8.4.0"))
    sentence = (
        "concourse-version=8.3.0 is older than the 8.4.0 that the database was migrated for: "
        "set 8.4.0 or newer"
    )
    status = unit_status(web_wanting("8.3.0", migrated="8.4.0"), seen)
    assert status == ops.BlockedStatus(sentence)
    assert not (layout.config_dir / "web.env").exists(), "no web was set up"


def test_an_older_tree_is_not_started_while_the_wished_release_fails(
    layout: Layout, workload: Workload
) -> None:
    Programs(layout)
    has_tree(layout, "8.3.0")
    workload.reconcile(web_wanting("8.4.0", migrated="8.4.0"), NO_TURN, at_once=True)
    failed = attempts.last(layout, "service")
    assert failed is not None
    assert failed.what == (
        "Concourse 8.3.0 is older than the 8.4.0 that the database was migrated for"
    )
    assert failed.retry
    assert not (layout.config_dir / "web.env").exists()


class Turn:
    """A turn that is another's until `granted`."""

    def __init__(self, *, granted: bool = False) -> None:
        self.granted = granted
        self.open = self.waits = False

    def take(self) -> bool:
        self.open = True
        self.waits = not self.granted
        return self.granted

    def asked(self) -> bool:
        return self.open

    def end(self) -> None:
        self.open = False


class TurnsOnly(NothingAttached):
    """The model, of which no more than turns is needed."""

    def __init__(self, turn: Turn) -> None:
        self.turn = turn


NO_TURN = cast("Juju", TurnsOnly(Turn()))


@pytest.mark.parametrize("runs", [True, False], ids=["it runs", "it is stopped"])
@pytest.mark.parametrize("granted", [True, False], ids=["its turn", "not its turn"])
def test_a_running_worker_takes_its_turn_before_the_download(
    runs: bool, granted: bool, layout: Layout, workload: Workload
) -> None:
    has_tree(layout, "8.3.0")
    if runs:
        Programs(layout).runs({})
    turn = Turn(granted=granted)
    juju = cast("Juju", TurnsOnly(turn))
    assert workload._ensure_release(WISH, juju, at_once=False) == layout.trees / "8.3.0"
    assert failures(layout, "8.4.0") == (1 if granted or not runs else 0)
    assert turn.open is runs


def test_who_waits_to_download_goes_when_it_is_its_turn_in_any_hook(
    layout: Layout, workload: Workload
) -> None:
    has_tree(layout, "8.3.0")
    Programs(layout).runs({})
    turn = Turn()
    juju = cast("Juju", TurnsOnly(turn))
    attempts.failed(layout, "release 8.4.0", Trouble("no network", retry=True))
    workload._ensure_release(WISH, juju, at_once=False)
    assert not turn.open, "its pause is not over"
    workload._ensure_release(WISH, juju, at_once=True)  # the operator changed something
    turn.granted = True
    workload._ensure_release(WISH, juju, at_once=False)  # the leader did
    assert failures(layout, "8.4.0") == 2


def test_a_unit_with_a_web_waits_for_no_turn(layout: Layout, workload: Workload) -> None:
    has_tree(layout, "8.3.0")
    Programs(layout).runs({})
    wish = replace(web_wanting("8.4.0"), roles=frozenset({"web", "worker"}), mode="all")
    workload._ensure_release(wish, NO_TURN, at_once=True)
    assert failures(layout, "8.4.0") == 1


def test_the_gpu_is_taken_back_when_it_is_the_workers_turn(
    layout: Layout, workload: Workload
) -> None:
    Programs(layout).runs({})
    write_file(layout.state / "gpu/begun", "")
    ensure_symlink(layout.nvidia_runtime, layout.wrapper)
    layout.at("/tmp").mkdir()
    turn = Turn()
    juju = cast("Juju", TurnsOnly(turn))
    workload.reconcile(WISH, juju, at_once=True)
    assert os.path.lexists(layout.nvidia_runtime)
    turn.granted = True
    workload.reconcile(WISH, juju, at_once=True)
    assert not os.path.lexists(layout.nvidia_runtime)


def has_tree(layout: Layout, version: str) -> None:
    tree = layout.trees / version
    write_file(tree / "bin/concourse", "#!/bin/sh\n", mode=0o755)
    write_file(tree / "bin/runc", "#!/bin/sh\n", mode=0o755)
    ensure_symlink(layout.concourse, f"concourse-releases/{version}")


def test_an_undoing_that_failed_is_no_trouble_any_more_once_the_gpu_is_wanted_again(
    layout: Layout, workload: Workload
) -> None:
    attempts.failed(layout, GPU_UNDO, Trouble("the disk is read-only", retry=True))
    workload.reconcile(replace(WISH, gpu_error="gpu-device-ids=x"), NO_JUJU, at_once=True)
    assert workload.observe(WISH).gpu_undo == ""
