"""The web's files: who may read them, the environment, and what is refused before."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from concourse import web
from concourse.errors import ConcourseError
from concourse.paths import WebPaths
from concourse.web import Tls
from concourse.web_environment import MANAGED
from host import Layout
from tests.unit.web_wishes import POSTGRES, SECRETS, TLS, WISH, variables
from tests.unit.webs import Programs


def test_files_are_written_once_and_systemd_is_told_once(
    layout: Layout, programs: Programs, tree: Path
) -> None:
    assert web.ensure_files(layout, WISH, tree)
    asked = programs.asked()
    assert asked[0].startswith("useradd --system --user-group --no-create-home")
    assert asked[0].endswith(" concourse-web")
    assert asked[1:] == ["daemon-reload"]
    assert not web.ensure_files(layout, WISH, tree)
    assert programs.asked() == []


def test_root_alone_reads_the_environment_and_the_web_alone_its_keys(
    layout: Layout, programs: Programs, tree: Path
) -> None:
    web.ensure_files(layout, TLS, tree)
    paths = WebPaths(layout)
    modes = {path.name: path.stat().st_mode & 0o7777 for path in paths.folder.iterdir()}
    assert set(modes) == {
        "authorized_worker_keys",
        "session_signing_key",
        "tls.pem",
        "tsa_host_key",
    }
    assert set(modes.values()) == {0o640}
    assert paths.folder.stat().st_mode & 0o7777 == 0o750
    assert paths.environment.stat().st_mode & 0o7777 == 0o600
    assert paths.tls.read_text() == "cert-pem\nkey-pem\n"


def test_least_environment(layout: Layout, programs: Programs, tree: Path) -> None:
    web.ensure_files(layout, WISH, tree)
    found = variables(layout)
    assert len(found.pop("CHARM_STAMP")) == 32
    folder = WebPaths(layout).folder
    assert found == {
        "CONCOURSE_EXTERNAL_URL": "http://10.0.0.1:8080",
        "CONCOURSE_BIND_PORT": "8080",
        "CONCOURSE_PEER_ADDRESS": "10.0.0.1",
        "CONCOURSE_CLUSTER_NAME": "ci",
        "CONCOURSE_LOG_LEVEL": "info",
        "CONCOURSE_TSA_LOG_LEVEL": "info",
        "CONCOURSE_TSA_BIND_PORT": "2222",
        "CONCOURSE_TSA_HOST_KEY": f"{folder}/tsa_host_key",
        "CONCOURSE_TSA_AUTHORIZED_KEYS": f"{folder}/authorized_worker_keys",
        "CONCOURSE_SESSION_SIGNING_KEY": f"{folder}/session_signing_key",
        "CONCOURSE_ENCRYPTION_KEY": "e" * 32,
        "CONCOURSE_ADD_LOCAL_USER": "admin:adminpw",
        "CONCOURSE_MAIN_TEAM_LOCAL_USER": "admin",
        "CONCOURSE_POSTGRES_HOST": "10.0.0.9",
        "CONCOURSE_POSTGRES_PORT": "5432",
        "CONCOURSE_POSTGRES_USER": "relation-3",
        "CONCOURSE_POSTGRES_PASSWORD": 'p"w,$x \\',
        "CONCOURSE_POSTGRES_DATABASE": "concourse",
        "CONCOURSE_POSTGRES_SSLMODE": "disable",
    }


def test_every_setting_reaches_the_environment(
    layout: Layout, programs: Programs, tree: Path
) -> None:
    wish = replace(
        TLS,
        admin_user="boss",
        peer_address="fd00::1",
        postgres=replace(POSTGRES, ca="ca-pem", sslmode="verify-full"),
        extra={
            "CONCOURSE_ADD_LOCAL_USER": "bob:pw",
            "CONCOURSE_MAIN_TEAM_LOCAL_USER": "bob",
            "CONCOURSE_GITHUB_CLIENT_ID": "id",
        },
        placement=("volume-locality", "limit-active-tasks"),
        max_active_tasks_per_worker=3,
        max_active_containers_per_worker=250,
        max_active_volumes_per_worker=9,
        metrics=("0.0.0.0", 9391),
        log_level="debug",
        proxies={"http_proxy": "http://proxy:3128", "no_proxy": "10.0.0.0/8"},
    )
    web.ensure_files(layout, wish, tree)
    found = variables(layout)
    paths = WebPaths(layout)
    assert {
        "CONCOURSE_EXTERNAL_URL": "https://ci.example",
        "CONCOURSE_BIND_PORT": "8080",
        "CONCOURSE_TLS_BIND_PORT": "443",
        "CONCOURSE_TLS_CERT": str(paths.tls),
        "CONCOURSE_TLS_KEY": str(paths.tls),
        "CONCOURSE_PEER_ADDRESS": "[fd00::1]",
        "CONCOURSE_LOG_LEVEL": "debug",
        "CONCOURSE_TSA_LOG_LEVEL": "debug",
        "CONCOURSE_ADD_LOCAL_USER": "boss:adminpw,bob:pw",
        "CONCOURSE_MAIN_TEAM_LOCAL_USER": "boss,bob",
        "CONCOURSE_GITHUB_CLIENT_ID": "id",
        "CONCOURSE_POSTGRES_SSLMODE": "verify-full",
        "CONCOURSE_POSTGRES_CA_CERT": str(paths.postgres_ca),
        "CONCOURSE_CONTAINER_PLACEMENT_STRATEGY": "volume-locality,limit-active-tasks",
        "CONCOURSE_MAX_ACTIVE_TASKS_PER_WORKER": "3",
        "CONCOURSE_MAX_ACTIVE_CONTAINERS_PER_WORKER": "250",
        "CONCOURSE_MAX_ACTIVE_VOLUMES_PER_WORKER": "9",
        "CONCOURSE_PROMETHEUS_BIND_IP": "0.0.0.0",
        "CONCOURSE_PROMETHEUS_BIND_PORT": "9391",
        "http_proxy": "http://proxy:3128",
        "no_proxy": "10.0.0.0/8",
    }.items() <= found.items()
    assert paths.postgres_ca.read_text() == "ca-pem\n"
    web.ensure_files(layout, WISH, tree)
    assert not paths.postgres_ca.exists()
    assert not paths.tls.exists()


def test_every_variable_that_the_charm_sets_is_refused_from_outside(layout: Layout) -> None:
    full = replace(TLS, metrics=("127.0.0.1", 9391), placement=("random",))
    from concourse.extra_env import is_managed
    from concourse.web_environment import JOINED

    for name in web.environment(layout, full):
        assert is_managed(name, MANAGED) or name in JOINED, name


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"external_url": "ci.example"}, "'ci.example' is not an http"),
        ({"tls": Tls("c", "k")}, "is not an https address, as TLS is on"),
        ({"metrics": ("127.0.0.1", 2222)}, "can't listen twice"),
        ({"port": 2222}, "^web-port=2222: the web can't listen twice"),
        ({"admin_user": "a,b"}, "'a,b' can't be a user's name"),
        ({"secrets": replace(SECRETS, admin_password="a,b")}, "admin's password"),
        ({"secrets": replace(SECRETS, admin_password="")}, "admin's password"),
        ({"secrets": replace(SECRETS, encryption_key="short")}, "encryption key"),
        ({"postgres": replace(POSTGRES, sslmode="prefer")}, "'prefer' is none of disable"),
        ({"postgres": replace(POSTGRES, password="a\nb")}, "control character"),
        ({"placement": ("best",)}, "'best' is none of volume-locality"),
        ({"extra": {"CONCOURSE_POSTGRES_HOST": "x"}}, "CONCOURSE_POSTGRES_HOST is set by the"),
        ({"extra": {"CONCOURSE_ADD_LOCAL_USER": "x:y,admin:z"}}, "names admin"),
    ],
)
def test_what_concourse_would_stumble_over_is_refused_before_anything_is_written(
    layout: Layout, programs: Programs, tree: Path, change: dict[str, object], sentence: str
) -> None:
    with pytest.raises(ConcourseError, match=sentence):
        web.ensure_files(layout, replace(WISH, **change), tree)  # type: ignore[arg-type]
    assert not layout.config_dir.exists()


def test_no_secret_is_in_any_repr() -> None:
    shown = repr(replace(TLS, postgres=replace(POSTGRES, ca="ca-pem"), extra={"A": "adminpw"}))
    for secret in ("session-pem", "host-pem", "adminpw", "e" * 32, "key-pem", 'p"w'):
        assert secret not in shown


def test_a_low_port_is_all_that_a_capability_is_for(
    layout: Layout, programs: Programs, tree: Path
) -> None:
    paths = WebPaths(layout)
    web.ensure_files(layout, WISH, tree)
    text = paths.unit.read_text()
    assert "AmbientCapabilities" not in text
    assert re.search(r"^CapabilityBoundingSet=$", text, re.MULTILINE)
    web.ensure_files(layout, TLS, tree)
    assert "\nAmbientCapabilities=CAP_NET_BIND_SERVICE\n" in paths.unit.read_text()
    assert f"\nExecStart={layout.concourse}/bin/concourse web\n" in text
    assert "adminpw" not in text


def test_the_port_for_http_beside_https_is_a_free_one() -> None:
    assert TLS.plain_port == 8080
    assert replace(TLS, port=8080, metrics=("x", 8081)).plain_port == 8082
    assert WISH.plain_port == 8080


def test_without_a_user_nothing_readable_is_written(
    layout: Layout, programs: Programs, tree: Path
) -> None:
    programs.program("useradd", "echo no >&2\nexit 1")
    with pytest.raises(ConcourseError, match="user concourse-web could not be made"):
        web.ensure_files(layout, WISH, tree)
    assert not WebPaths(layout).session_key.exists()
