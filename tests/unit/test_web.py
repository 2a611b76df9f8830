from __future__ import annotations

import http.server
import json
import re
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from concourse import account, api, reread, web
from concourse.errors import ConcourseError
from concourse.paths import WebPaths
from concourse.web import Postgres, Tls, WebSecrets, WebState, WebWish
from concourse.web_environment import MANAGED
from host import Layout
from tests.unit.systemd_env import read_environment_file
from tests.unit.webs import Programs

SECRETS = WebSecrets("session-pem", "host-pem", "adminpw", "e" * 32)
POSTGRES = Postgres("10.0.0.9", 5432, "relation-3", 'p"w,$x \\', "concourse")
WISH = WebWish("http://10.0.0.1:8080", 8080, "10.0.0.1", "ci", POSTGRES, SECRETS, encrypted=True)
TLS = replace(WISH, external_url="https://ci.example", port=443, tls=Tls("cert-pem", "key-pem"))


@pytest.fixture
def programs(layout: Layout) -> Programs:
    return Programs(layout)


@pytest.fixture
def tree(layout: Layout) -> Path:
    tree = layout.trees / "8.3.0"
    (tree / "bin").mkdir(parents=True)
    (tree / "bin/concourse").write_text("x")
    return tree


@pytest.fixture
def port() -> Iterator[int]:
    """A web that answers, on a port of this machine."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            ok = self.path == "/api/v1/info" or self.headers.get("Authorization") == "Bearer t0"
            found: object = {"version": "8.3.0"} if self.path.endswith("info") else WORKERS
            if self.path == "/api/v1/health":
                self.answer(503, HEALTH)
                return
            self.answer(200 if ok else 401, found)

        def do_POST(self) -> None:
            form = self.rfile.read(int(self.headers["Content-Length"])).decode()
            good = "username=admin&password=a%26b" in form
            self.answer(200 if good else 401, {"access_token": "t0"})

        def answer(self, status: int, body: object) -> None:
            self.send_response(status)
            self.end_headers()
            self.wfile.write(json.dumps(body).encode())

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_port
    server.shutdown()
    server.server_close()


HEALTH = {
    "status": "failing",
    "database": {"status": "healthy"},
    "workers": {"status": "unhealthy", "total": 2, "running": 1},
}
WORKERS = [
    {"name": "w-0", "state": "running", "tags": ["gpu"], "version": "3.0", "team": ""},
    {"name": "w-1", "state": "stalled", "tags": None},
]


def variables(layout: Layout) -> dict[str, str]:
    return read_environment_file(WebPaths(layout).environment.read_text())


def started(layout: Layout, **more: str) -> dict[str, str]:
    """The environment that a web started now would have."""
    second = read_environment_file(WebPaths(layout).reread.read_text())
    return {**variables(layout), **second, **more}


# --- files -----------------------------------------------------------------------------


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
        ({"port": 2222}, "can't listen twice"),
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


# --- running ---------------------------------------------------------------------------


def test_a_stopped_web_is_enabled_and_started(
    layout: Layout, programs: Programs, tree: Path
) -> None:
    web.ensure_files(layout, WISH, tree)
    programs.asked()
    programs.has(UnitFileState="disabled")
    assert web.ensure_running(layout)
    assert programs.asked() == [
        "enable concourse-web.service",
        "start --no-block concourse-web.service",
    ]


@pytest.mark.parametrize(
    "change",
    [
        {"log_level": "debug"},
        {"secrets": replace(SECRETS, tsa_host_key="other")},
        {"secrets": replace(SECRETS, session_signing_key="other")},
        {"postgres": replace(POSTGRES, password="rotated")},
        {"postgres": replace(POSTGRES, host="10.0.0.10")},
        {"port": 80},
    ],
)
def test_a_change_of_what_is_read_at_start_restarts_it_once(
    layout: Layout, programs: Programs, tree: Path, change: dict[str, object]
) -> None:
    web.ensure_files(layout, WISH, tree)
    programs.runs(started(layout))
    assert not web.ensure_running(layout)
    web.ensure_files(layout, replace(WISH, **change), tree)  # type: ignore[arg-type]
    programs.asked()
    assert web.ensure_running(layout)
    assert programs.asked() == ["restart --no-block concourse-web.service"]
    programs.runs(started(layout))
    assert not web.ensure_running(layout)
    assert programs.asked() == []


def test_another_release_restarts_it(layout: Layout, programs: Programs, tree: Path) -> None:
    web.ensure_files(layout, WISH, tree)
    programs.runs(started(layout))
    (layout.trees / "8.3.1/bin").mkdir(parents=True)
    assert web.ensure_files(layout, WISH, layout.trees / "8.3.1")
    assert web.ensure_running(layout)


def test_a_masked_unit_is_said(layout: Layout, programs: Programs) -> None:
    programs.has(LoadState="masked")
    with pytest.raises(ConcourseError, match=r"concourse-web\.service is masked"):
        web.ensure_running(layout)


# --- reading again ---------------------------------------------------------------------


def test_a_new_certificate_is_read_by_signal_and_restarts_nothing(
    layout: Layout, programs: Programs, tree: Path, port: int
) -> None:
    web.ensure_files(layout, TLS, tree)
    programs.runs(started(layout, CONCOURSE_BIND_PORT=str(port)))
    assert not reread.ensure_reread(layout)
    web.ensure_files(layout, replace(TLS, tls=Tls("cert2", "key2")), tree)
    programs.asked()
    assert not web.ensure_running(layout)
    assert reread.ensure_reread(layout)
    kill = "kill --kill-who=main --signal=SIGHUP concourse-web.service"
    assert programs.asked() == [kill]
    assert not reread.ensure_reread(layout)
    assert programs.asked() == []


def test_a_web_that_does_not_answer_yet_is_signalled_later(
    layout: Layout, programs: Programs, tree: Path, port: int
) -> None:
    web.ensure_files(layout, TLS, tree)
    before = started(layout, CONCOURSE_BIND_PORT="1")
    web.ensure_files(layout, replace(TLS, tls=Tls("cert2", "key2")), tree)
    programs.runs(before)
    programs.asked()
    assert not reread.ensure_reread(layout)
    assert programs.asked() == []
    programs.runs({**before, "CONCOURSE_BIND_PORT": str(port)})
    assert reread.ensure_reread(layout)


def test_a_signal_to_an_earlier_run_counts_for_nothing(
    layout: Layout, programs: Programs, tree: Path, port: int
) -> None:
    web.ensure_files(layout, TLS, tree)
    old = started(layout, CONCOURSE_BIND_PORT=str(port))
    web.ensure_files(layout, replace(TLS, tls=Tls("cert2", "key2")), tree)
    programs.runs(old)
    assert reread.ensure_reread(layout)
    programs.runs(old, InvocationID="run2")  # read its environment before the change
    assert reread.ensure_reread(layout)
    programs.runs(started(layout, CONCOURSE_BIND_PORT=str(port)), InvocationID="run3")
    assert not reread.ensure_reread(layout)


def test_a_stopped_web_is_not_signalled(layout: Layout, programs: Programs, tree: Path) -> None:
    web.ensure_files(layout, WISH, tree)
    programs.asked()
    assert not reread.ensure_reread(layout)
    assert programs.asked() == []


# --- observing -------------------------------------------------------------------------


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


# --- the end ---------------------------------------------------------------------------


def test_removing_leaves_nothing(layout: Layout, programs: Programs, tree: Path) -> None:
    web.ensure_files(layout, TLS, tree)
    programs.asked()
    web.remove(layout)
    assert programs.asked() == [
        "disable concourse-web.service",
        "daemon-reload",
        "reset-failed concourse-web.service",
        "userdel concourse-web",
    ]
    assert not layout.config_dir.exists()
    assert list(layout.state.iterdir()) == []
    assert account.ids(layout) is None
    programs.has(LoadState="not-found", UnitFileState="")
    web.remove(layout)
    assert programs.asked() == []


def test_a_user_that_was_there_before_stays(layout: Layout, programs: Programs, tree: Path) -> None:
    account.ensure_user(layout)
    WebPaths(layout).own_account.unlink()
    web.ensure_files(layout, WISH, tree)
    web.remove(layout)
    assert account.ids(layout) is not None


def test_a_workers_files_stay(layout: Layout, programs: Programs, tree: Path) -> None:
    web.ensure_files(layout, WISH, tree)
    layout.worker_env.write_text("x")
    web.remove(layout)
    assert [path.name for path in layout.config_dir.iterdir()] == ["worker.env"]


def test_one_that_does_not_stop_is_killed(layout: Layout, programs: Programs) -> None:
    programs.runs({})
    programs.program(
        "systemctl",
        'case "$*" in *SIGKILL*) echo ActiveState=failed > answers/show ;; esac\n'
        '[ "$1" != show ] || cat answers/show',
    )
    web.stop(layout, timeout=0)
    kill = "kill --kill-who=main --signal=SIGKILL concourse-web.service"
    assert kill in programs.asked()
