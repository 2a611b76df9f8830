"""The workload between wish and machine: failures are remembered for what they are about."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest

import attempts
from concourse.release import ReleaseWish
from desired import Wish
from files import ensure_symlink, write_file
from host import Layout
from juju import Juju
from workload import Workload

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
NO_JUJU = cast("Juju", None)  # nothing is told while there is no release


def wanting(version: str) -> Wish:
    return replace(WISH, release=replace(WISH.release, version=version))


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return Layout(tmp_path)


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
    tree = layout.trees / "8.4.0"
    write_file(tree / "bin/concourse", "#!/bin/sh\n", mode=0o755)
    write_file(tree / "bin/runc", "#!/bin/sh\n", mode=0o755)
    ensure_symlink(layout.concourse, "concourse-releases/8.4.0")
    wish = replace(wanting("8.3.0"), roles=frozenset({"web"}))
    workload._ensure_release(wish, at_once=True)
    attempt = attempts.last(layout, "release 8.3.0")
    assert attempt is not None
    assert "older than the 8.4.0 that the database was migrated for" in attempt.what
    assert not attempt.retry
