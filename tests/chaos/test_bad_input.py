"""Options, relations, secrets and actions that hold what nobody would write by mistake."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import hypothesis
import pytest
import yaml
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from ops import testing

import charm
import web_workload
from concourse import authorized, web, worker
from concourse.errors import ConcourseError
from concourse.paths import WebPaths
from concourse.worker import WorkerWish
from database import Database
from desired import Wish
from files import ensure_symlink
from gpu import repository
from gpu.errors import GpuError
from gpu.manager import GpuWish
from gpu.selection import Selection, tags
from gpu.toolkit import PACKAGES
from gpu.wrapper import DeviceTable, ensure_devices
from host import Layout
from juju import Juju
from tests.chaos.frame import Chaos
from tests.chaos.hostile import listed_keys, sentence, texts
from tests.unit.charm_fakes import FakeWorkload, key
from tests.unit.systemd_env import read_environment_file
from tests.unit.webs import Programs, pem, pkcs1, rsa_line
from web_desired import WebSide

PROMISE = (
    "Hostile options, relations, secrets and parameters: nothing is executed, every file is read"
    " as it was meant, one status says what is wrong."
)
ROOT = Path(__file__).resolve().parents[2]
OPTIONS: dict[str, dict[str, Any]] = yaml.safe_load((ROOT / "config.yaml").read_text())["options"]
ACTIONS: dict[str, dict[str, Any]] = yaml.safe_load((ROOT / "actions.yaml").read_text())
SIGNING = pem(pkcs1((1 << 2047) | 1))
SECRETS = web.WebSecrets(SIGNING, SIGNING, "password")
MARK = Path("/tmp/pwned")
PLAIN: dict[str, list[str]] = {}  # what each unit file holds with the options' defaults
UNIT = "concourse-ci-machine/0"


class Writing(FakeWorkload):
    """Writes what a wish leads to below a scratch root, with the charm's own functions."""

    layout = Layout()

    def reconcile(self, wish: Wish, juju: Juju, *, at_once: bool, everybody: bool) -> None:
        super().reconcile(wish, juju, at_once=at_once, everybody=everybody)
        if "worker" in wish.roles:
            write_worker(self.layout, wish)
        if wish.gpu:
            write_gpu(self.layout, wish.gpu)
        if wish.web_side and isinstance(wish.web_side.database, Database):
            write_web(self.layout, wish, wish.web_side, wish.web_side.database)
        if wish.web_side:
            write_keys(self.layout, juju.workers())


def write_worker(layout: Layout, wish: Wish) -> None:
    hosts = wish.web.hosts if wish.web else ("127.0.0.1:2222",)
    wanted = WorkerWish(
        name=wish.worker_name,
        tsa_hosts=hosts,
        tsa_host_key=wish.web.host_key if wish.web else key(),
        tags=tags(wish.gpu.tags, Selection(), wish.mode) if wish.gpu else (),
        log_level=wish.log_level,
        dns_proxy=wish.dns_proxy,
        dns_server=wish.dns_server,
        baggageclaim_driver=wish.baggageclaim_driver,
        extra=wish.worker_env,
        proxies=wish.proxies,
    )
    worker.ensure_files(layout, wanted, layout.concourse.resolve())
    read_as_meant(layout.worker_env, worker.environment(layout, wanted))
    unit_is_plain(layout.worker_unit)


def write_web(layout: Layout, wish: Wish, side: WebSide, database: Database) -> None:
    try:
        wanted = web_workload._web_wish(wish, side, database, SECRETS, None)
        web.ensure_files(layout, wanted, layout.concourse.resolve())
    except ConcourseError as error:
        sentence(str(error))
        return
    paths = WebPaths(layout)
    read_as_meant(paths.environment, web.environment(layout, wanted))
    unit_is_plain(paths.unit)


def write_gpu(layout: Layout, wish: GpuWish) -> None:
    table = DeviceTable(("GPU-1",), (("0", "GPU-1"),), wish.capabilities)
    ensure_devices(layout, table)
    rows = [line.split("\t") for line in layout.gpu_devices.read_text().split("\n")]
    names = ["capabilities", "allowed", "sharing", "default", "timeout", "device", ""]
    assert [row[0] for row in rows] == names
    assert [len(row) for row in rows] == [2, 2, 2, 2, 2, 3, 1]
    if not wish.toolkit.repository_key.strip():
        return  # NVIDIA's would have to be fetched
    try:
        source = repository.ensure_source(
            layout, wish.toolkit.repository_url, wish.toolkit.repository_key, {}
        )
    except GpuError as error:
        sentence(str(error))
        return
    lines = [line for line in source.read_text().splitlines() if not line.startswith("#")]
    assert [line.partition(":")[0] for line in lines] == ["Types", "URIs", "Suites", "Signed-By"]
    assert [len(line.split()) for line in lines] == [2, 2, 2, 2]
    repository.ensure_pin(layout, repository.PINS, PACKAGES, f"{wish.toolkit.version}-*")
    pin = layout.at(repository.PINS).read_text().splitlines()[1:]
    assert [line.partition(":")[0] for line in pin] == ["Package", "Pin", "Pin-Priority"]
    assert re.fullmatch(r"Pin: version [0-9.*-]+", pin[1])


def write_keys(layout: Layout, workers: Mapping[str, str]) -> None:
    made = authorized.ensure(layout, workers, now=1.0)
    keys = listed_keys(WebPaths(layout).authorized_keys)
    assert keys == sorted(authorized.read(layout))
    for name in made.refused:
        sentence(name)


def read_as_meant(file: Path, meant: Mapping[str, str]) -> None:
    """What systemd reads is what was meant, and nothing beside it."""
    found = read_environment_file(file.read_text(encoding="utf-8"))
    found.pop("CHARM_STAMP")
    assert found == dict(meant)
    assert not any(name.startswith(("LD_", "PATH")) for name in found)
    assert file.stat().st_mode & 0o777 == 0o600


def unit_is_plain(file: Path) -> None:
    """No option reaches a unit file, but for the capability that a low port needs."""
    lines = file.read_text().splitlines()
    lines = [line for line in lines if not re.match(r"(Ambient|Bounding)?Capabilit", line)]
    assert PLAIN.setdefault(file.name, lines) == lines


@pytest.fixture(scope="module")
def layout(tmp_path_factory: pytest.TempPathFactory) -> Layout:
    root = tmp_path_factory.mktemp("machine")
    layout = Layout(root)
    Programs(layout)
    (layout.trees / "8.3.0/bin").mkdir(parents=True)
    (layout.trees / "8.3.0/bin/concourse").write_text("x")
    ensure_symlink(layout.concourse, layout.trees / "8.3.0")
    return layout


@pytest.fixture
def context(
    layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> Iterator[testing.Context[charm.ConcourseCharm]]:
    Writing.layout = layout
    monkeypatch.setattr(charm, "Workload", Writing())
    MARK.unlink(missing_ok=True)
    made = testing.Context(charm.ConcourseCharm)
    if not PLAIN:
        hold(made, state({"deployment-mode": "all"}, [peers(), database()]))
        assert len(PLAIN) == 2
    yield made
    assert not MARK.exists(), "something was executed"


def fuzz(chaos: Chaos, name: str, strategy: st.SearchStrategy[Any], check: Callable[[Any], None],
         full: int) -> None:  # fmt: skip
    """Try many values; a twentieth of them with `--quick`."""
    count = full // 20 if chaos.quick else full
    seen = 0

    def counted(value: Any) -> None:
        nonlocal seen
        seen += 1
        check(value)

    run = settings(
        max_examples=count,
        deadline=None,
        database=None,
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
    )(given(strategy)(counted))
    with chaos.case(PROMISE, name):
        hypothesis.seed(chaos.dice(name).getrandbits(32))(run)()
    chaos.tried(PROMISE, seen - 1, 0)


def values_of(option: Mapping[str, Any]) -> st.SearchStrategy[Any]:
    """Return what Juju lets into an option: its type is all that it checks."""
    if option["type"] == "boolean":
        return st.booleans()
    if option["type"] == "int":
        return st.one_of(st.integers(), st.sampled_from((-1, 0, 65536, 2**31, 2**63, -(2**63))))
    return texts(str(option.get("default", "")))


def state(config: Mapping[str, Any], relations: list[Any], **more: Any) -> testing.State:
    resource = testing.Resource(name="concourse", path="/dev/null")
    return testing.State(
        leader=True, config=dict(config), relations=relations, resources={resource}, **more
    )


def tsa(**fields: str) -> testing.Relation:
    app = {"tsa-host-public-key": key(), "concourse-version": "8.3.0"}
    unit = {"tsa-host": "10.0.0.2", "tsa-port": "2222"}
    app |= {name: value for name, value in fields.items() if name in app}
    unit |= {name: value for name, value in fields.items() if name in unit}
    return testing.Relation("worker-tsa", interface="concourse-tsa", remote_app_name="web",
                            remote_app_data=app, remote_units_data={0: unit})  # fmt: skip


def database(**fields: str) -> testing.Relation:
    said = {"endpoints": "10.0.0.5:5432", "username": "u", "password": "p", "database": "d"}
    return testing.Relation("database", interface="postgresql_client",
                            remote_app_name="postgresql", remote_app_data=said | fields,
                            remote_units_data={0: {}})  # fmt: skip


def pgsql(**fields: str) -> testing.Relation:
    said = {
        "master": "host=10.0.0.5 port=5432 dbname=d user=u password=p",
        "database": "d",
        "allowed-units": UNIT,
        "allowed-subnets": "192.0.2.0/24",
        "state": "master",
    }
    return testing.Relation("postgresql", interface="pgsql", remote_app_name="postgresql",
                            remote_units_data={0: said | fields})  # fmt: skip


def workers(name: str = "worker-0", line: str = "") -> testing.Relation:
    said = {"worker-name": name, "worker-public-key": line or rsa_line()}
    return testing.Relation("web-tsa", interface="concourse-tsa", remote_app_name="worker",
                            remote_units_data={0: said})  # fmt: skip


def peers(**fields: str) -> testing.PeerRelation:
    return testing.PeerRelation("concourse-peer", peers_data={1: fields})


Context = testing.Context[charm.ConcourseCharm]


def hold(context: Context, given_state: testing.State) -> testing.State:
    """Run a hook: it ends well, with one sentence; and so does a second one after it."""
    out = context.run(context.on.config_changed(), given_state)
    sentence(out.unit_status.message)
    for line in context.juju_log:
        assert not MARK.exists(), line
    context.juju_log.clear()
    return out


def test_every_option(chaos: Chaos, context: Context) -> None:
    names = sorted(name for name, option in OPTIONS.items() if option["type"] != "secret")
    modes = st.sampled_from(("worker", "web", "all", "auto"))

    def check(drawn: tuple[str, dict[str, Any]]) -> None:
        mode, config = drawn
        config = {"deployment-mode": mode, "enable-gpu": True, **config}
        hold(context, state(config, [tsa(), peers(), database(), workers()]))

    for name in chaos.part(names, quick=len(names)):
        one = st.tuples(modes, st.fixed_dictionaries({name: values_of(OPTIONS[name])}))
        fuzz(chaos, name, one, check, full=60)


def test_a_users_secret(chaos: Chaos, context: Context) -> None:
    known = st.sampled_from(("github-client-secret", "bind-port", "add-local-user"))
    keys = st.one_of(st.from_regex(r"[a-z](?:-?[a-z0-9]){2,20}", fullmatch=True), known)

    def check(content: dict[str, str]) -> None:
        secret = testing.Secret(content)
        config = {"deployment-mode": "web", "web-secret-env": secret.id}
        out = hold(context, state(config, [peers(), database()], secrets=[secret]))
        for value in content.values():
            assert len(value) < 8 or value not in out.unit_status.message

    values = texts("user:password").filter(bool)
    fuzz(chaos, "web-secret-env", st.dictionaries(keys, values, min_size=1, max_size=3), check, 300)


@pytest.mark.parametrize(
    ("make", "mode", "fields"),
    [
        (tsa, "worker", ("tsa-host-public-key", "concourse-version", "tsa-host", "tsa-port")),
        (database, "web", ("endpoints", "username", "password", "database", "tls", "tls-ca",
                           "secret-user", "secret-tls", "subordinated")),
        (pgsql, "web", ("master", "database", "allowed-units", "allowed-subnets", "state")),
        (peers, "auto", ("tsa-host-public-key", "concourse-version", "tsa-host", "tsa-port",
                         "worker-name", "worker-public-key")),
    ],
)  # fmt: skip
def test_every_field_of_a_relation(
    chaos: Chaos, context: Context, make: Callable[..., Any], mode: str, fields: tuple[str, ...]
) -> None:
    good = ("10.0.0.2", "2222", key(), "8.3.0", "host=h password=p", "postgres://u:p@h/d", "true")

    def check(drawn: dict[str, str]) -> None:
        beside = [] if make is peers else [peers()]
        out = hold(context, state({"deployment-mode": mode}, [make(**drawn), *beside]))
        password = drawn.get("password", "")
        assert len(password) < 8 or password not in out.unit_status.message

    drawn = st.dictionaries(st.sampled_from(fields), texts(*good), min_size=1, max_size=2)
    fuzz(chaos, make.__name__, drawn, check, full=400)


def test_what_workers_say_of_themselves(chaos: Chaos, context: Context) -> None:
    names = st.one_of(texts("worker-0", "a/b"), st.just("worker-0"))
    lines = st.one_of(texts(rsa_line(), 'no-pty ssh-rsa AAAA', "ssh-ed25519 AAAA x"),
                      st.just(rsa_line()))  # fmt: skip

    def check(drawn: tuple[str, str]) -> None:
        hold(context, state({"deployment-mode": "web"}, [peers(), database(), workers(*drawn)]))

    fuzz(chaos, "worker-name, worker-public-key", st.tuples(names, lines), check, full=400)


def test_parameters_of_actions(chaos: Chaos, context: Context) -> None:
    """Juju checks them against actions.yaml: what is left is one truth value."""
    with chaos.case(PROMISE, "actions"):
        for name, action in ACTIONS.items():
            assert action["additionalProperties"] is False, name
            kinds = {each["type"] for each in action.get("params", {}).values()}
            assert kinds <= {"boolean"}, name
        for force in (True, False):
            params = {"force": force}
            given_state = state({"deployment-mode": "all"}, [peers(), database()])
            context.run(context.on.action("restart-services", params=params), given_state)


@contextmanager
def working_in(folder: Path) -> Iterator[None]:
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


def test_nothing_is_written_beside_the_machine(
    chaos: Chaos, context: Context, tmp_path: Path
) -> None:
    config = {"deployment-mode": "all", "enable-gpu": True, "worker-env": "CONCOURSE_X=../../y"}
    with chaos.case(PROMISE, "elsewhere"), working_in(tmp_path):
        hold(context, state(config, [peers(), database(), tsa()]))
        left = [path for path in tmp_path.rglob("*") if path.is_file()]
        assert left == []
    assert shutil.which("ssh-keygen")
