"""Every option is there for something: what each of them changes, option by option.

An option without a row here fails `test_every_option_has_a_row`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from ops import testing

import charm
from concourse.paths import WebPaths
from desired import Wish
from gpu.manager import GpuWish
from tests.unit.charm_fakes import FakeWorkload
from tests.unit.charm_fakes import web as web_relation
from tests.unit.charm_webs import peers, postgresql, state
from tests.unit.test_certificates import Authority, answer, asked, certificates
from tests.unit.toolkit_roots import KEY
from tests.unit.whole import Whole

OPTIONS = yaml.safe_load((Path(__file__).resolve().parents[2] / "config.yaml").read_text())
SECRET = testing.Secret({"github-client-secret": "hush"}, id="secret:abcdefghijklmnopqrst")

# Option -> the options that are set, and what the environment of Concourse's web has then.
WEB: dict[str, tuple[dict[str, Any], dict[str, str]]] = {
    "web-port": ({"web-port": 80}, {"CONCOURSE_BIND_PORT": "80"}),
    "external-url": (
        {"external-url": "https://ci.example.com"},
        {"CONCOURSE_EXTERNAL_URL": "https://ci.example.com"},
    ),
    "initial-admin-username": (
        {"initial-admin-username": "root"},
        {"CONCOURSE_MAIN_TEAM_LOCAL_USER": "root"},
    ),
    "enable-metrics": (
        {"enable-metrics": True},
        {"CONCOURSE_PROMETHEUS_BIND_IP": "0.0.0.0", "CONCOURSE_PROMETHEUS_BIND_PORT": "9391"},
    ),
    "container-placement-strategy": (
        {"container-placement-strategy": "limit-active-tasks, random"},
        {"CONCOURSE_CONTAINER_PLACEMENT_STRATEGY": "limit-active-tasks,random"},
    ),
    "max-active-tasks-per-worker": (
        {"max-active-tasks-per-worker": 3},
        {"CONCOURSE_MAX_ACTIVE_TASKS_PER_WORKER": "3"},
    ),
    "max-active-containers-per-worker": (
        {"max-active-containers-per-worker": 4},
        {"CONCOURSE_MAX_ACTIVE_CONTAINERS_PER_WORKER": "4"},
    ),
    "max-active-volumes-per-worker": (
        {"max-active-volumes-per-worker": 5},
        {"CONCOURSE_MAX_ACTIVE_VOLUMES_PER_WORKER": "5"},
    ),
    "log-level": (
        {"log-level": "debug"},
        {"CONCOURSE_LOG_LEVEL": "debug", "CONCOURSE_TSA_LOG_LEVEL": "debug"},
    ),
    "web-env": (
        {"web-env": "CONCOURSE_GITHUB_CLIENT_ID=abc"},
        {"CONCOURSE_GITHUB_CLIENT_ID": "abc"},
    ),
    "web-secret-env": (
        {"web-secret-env": SECRET.id},
        {"CONCOURSE_GITHUB_CLIENT_SECRET": "hush"},
    ),
}
# The same for the worker's environment.
WORKER: dict[str, tuple[dict[str, Any], dict[str, str]]] = {
    "log-level": (
        {"log-level": "debug"},
        {"CONCOURSE_LOG_LEVEL": "debug", "CONCOURSE_CONTAINERD_LOG_LEVEL": "debug"},
    ),
    "containerd-dns-proxy-enable": (
        {"containerd-dns-proxy-enable": True},
        {"CONCOURSE_CONTAINERD_DNS_PROXY_ENABLE": "true"},
    ),
    "containerd-dns-server": (
        {"containerd-dns-server": "10.0.0.2, 10.0.0.3"},
        {"CONCOURSE_CONTAINERD_DNS_SERVER": "10.0.0.2,10.0.0.3"},
    ),
    "baggageclaim-driver": (
        {"baggageclaim-driver": "btrfs"},
        {"CONCOURSE_BAGGAGECLAIM_DRIVER": "btrfs"},
    ),
    "worker-env": (
        {"worker-env": "CONCOURSE_EPHEMERAL=true"},
        {"CONCOURSE_EPHEMERAL": "true"},
    ),
}


def gpu(wish: Wish) -> GpuWish:
    assert wish.gpu is not None
    return wish.gpu


# What is nothing that Concourse reads: where releases come from, what a unit runs, the GPUs
# (tests/unit/test_manager.py has what becomes of that).
ELSEWHERE: dict[str, tuple[Any, Callable[[Wish], Any], Any]] = {
    "deployment-mode": ("all", lambda wish: wish.roles, {"web", "worker"}),
    "max-unavailable": (3, lambda wish: wish.max_unavailable, 3),
    "concourse-version": ("8.2.5", lambda wish: wish.release.version, "8.2.5"),
    "concourse-release-url": (
        "https://mirror.test/c/",
        lambda wish: wish.release.url,
        "https://mirror.test/c",
    ),
    "concourse-sha256": ("A" * 64, lambda wish: wish.release.sha256, "a" * 64),
    "enable-gpu": (False, lambda wish: wish.gpu, None),
    "gpu-device-ids": ("0,2", lambda wish: gpu(wish).request.wanted, ("0", "2")),
    "gpu-driver-capabilities": ("compute", lambda wish: gpu(wish).capabilities, "compute"),
    "gpu-worker-tags": ("fast", lambda wish: gpu(wish).tags, "fast"),
    "gpu-sharing": ("balanced", lambda wish: gpu(wish).sharing.mode, "balanced"),
    "gpu-lease-timeout": (30, lambda wish: gpu(wish).sharing.timeout, 30),
    "nvidia-toolkit-version": ("1.19.0", lambda wish: gpu(wish).toolkit.version, "1.19.0"),
    "nvidia-repository-url": (
        "https://mirror.test/n",
        lambda wish: gpu(wish).toolkit.repository_url,
        "https://mirror.test/n",
    ),
    "nvidia-repository-key": (KEY, lambda wish: gpu(wish).toolkit.repository_key, KEY),
}
# These have a test of their own below.
OWN = {"tls-enabled", "database-encryption"}


@pytest.fixture
def whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Whole:
    return Whole(tmp_path, monkeypatch)


def given(whole: Whole, mode: str, *relations: Any, **options: Any) -> testing.State:
    found = state(peers(), postgresql(), *relations, mode=mode)
    config = {**found.config, **options}
    return replace(found, config=config, resources={whole.resource}, secrets={SECRET})


def test_every_option_has_a_row() -> None:
    assert {*WEB, *WORKER, *ELSEWHERE, *OWN} == set(OPTIONS["options"])


@pytest.mark.parametrize("option", WEB)
def test_option_reaches_the_webs_environment(option: str, whole: Whole) -> None:
    options, wanted = WEB[option]
    whole.configure(given(whole, "web"))
    assert not wanted.items() <= whole.web.items()  # by default it is something else
    whole.configure(given(whole, "web", **options))
    assert wanted.items() <= whole.web.items()


@pytest.mark.parametrize("option", WORKER)
def test_option_reaches_the_workers_environment(option: str, whole: Whole) -> None:
    options, wanted = WORKER[option]
    whole.configure(given(whole, "worker", web_relation()))
    assert whole.worker
    assert not wanted.items() <= whole.worker.items()
    whole.configure(given(whole, "worker", web_relation(), **options))
    assert wanted.items() <= whole.worker.items()


@pytest.mark.parametrize("option", ELSEWHERE)
def test_option_reaches_what_it_is_about(
    option: str, workload: FakeWorkload, context: testing.Context[charm.ConcourseCharm]
) -> None:
    value, read, wanted = ELSEWHERE[option]
    found = state(peers(), postgresql(), mode="worker", enable_gpu=True)
    context.run(context.on.config_changed(), found)
    assert read(workload.wish) != wanted if option != "enable-gpu" else workload.wish.gpu
    changed = replace(found, config={**found.config, option: value})
    context.run(context.on.config_changed(), changed)
    assert read(workload.wish) == wanted


def test_tls_enabled_reaches_the_webs_environment(whole: Whole) -> None:
    out = whole.configure(given(whole, "web", certificates(), **{"tls-enabled": True}))
    relation, told = answer(out, certificates=[Authority().sign(str(asked(out)[0]))])
    whole.context.run(whole.context.on.relation_changed(relation), told)
    path = str(WebPaths(whole.layout).tls)
    assert {
        "CONCOURSE_TLS_BIND_PORT": "8080",
        "CONCOURSE_TLS_CERT": path,
        "CONCOURSE_TLS_KEY": path,
    }.items() <= whole.web.items()


def test_database_encryption_reaches_the_webs_environment(whole: Whole) -> None:
    out = whole.configure(given(whole, "web", **{"database-encryption": True}))
    whole.configure(out)
    assert len(whole.web["CONCOURSE_ENCRYPTION_KEY"]) == 32
