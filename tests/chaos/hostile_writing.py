"""Writes what a wish leads to with the charm's own functions, and reads it as its readers do."""

from __future__ import annotations

import base64
import re
import ssl
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import web_workload
from attempts import Attempt
from concourse import authorized, web, worker
from concourse.keys import tsa_host_key
from concourse.paths import WebPaths
from concourse.web import Tls
from concourse.worker import WorkerWish
from database import Database
from desired import Wish
from gpu import toolkit
from gpu.manager import GpuState, GpuWish
from gpu.repository import PINS
from gpu.selection import Device, Selection, tags
from gpu.toolkit import ToolkitWish
from gpu.wrapper import DeviceTable, ensure_devices
from host import Layout, Trouble
from juju import Juju
from status import Seen
from tests.chaos.hostile import listed_keys, sentence
from tests.unit.charm_fakes import FakeWorkload, key
from tests.unit.charm_webs import RUNNING_WEB
from tests.unit.systemd_env import read_environment_file
from tests.unit.webs import pem, pkcs1
from web_desired import WebSide

SIGNING = pem(pkcs1((1 << 2047) | 1))
SECRETS = web.WebSecrets(SIGNING, SIGNING, "password")
CHOSEN = Selection((Device("0", "GPU-1", "x"),), ("GPU-1",), (("0", "GPU-1"),))
PLAIN: dict[Path, list[str]] = {}  # what each unit file holds with the options' defaults
Fields = dict[str, str]


@dataclass
class Writing(FakeWorkload):
    """Writes below a scratch root in the workload's place, and remembers what can't be.

    Attributes:
        layout: the scratch root.
        files: what the last reconcile wrote, as its readers read it: by what it is, fields.
        checked: how often each was written and read.
        failure: why something couldn't be written, as the charm's own workload has it.
        gpu_failure: the same, of the GPU's side.
    """

    layout: Layout = field(default_factory=Layout)
    files: dict[str, Fields] = field(default_factory=dict)
    checked: Counter[str] = field(default_factory=Counter)
    failure: Attempt | None = None
    gpu_failure: Attempt | None = None

    def reconcile(self, wish: Wish, juju: Juju, *, at_once: bool, everybody: bool) -> None:
        super().reconcile(wish, juju, at_once=at_once, everybody=everybody)
        self.files, self.failure, self.gpu_failure = {}, None, None
        for name, write in self._writers(wish, juju):
            try:
                self.files[name] = write()
                self.checked[name] += 1
            except Trouble as trouble:
                attempt = Attempt(1, str(trouble), 0, trouble.retry)
                if name == "apt":
                    self.gpu_failure = attempt
                else:
                    self.failure = attempt

    def observe(self, wish: Wish) -> Seen:
        seen = replace(super().observe(wish), service=self.failure)
        if wish.gpu and self.gpu_failure:
            gpu = GpuState(trouble=self.gpu_failure.what, waiting=self.gpu_failure.retry)
            seen = replace(seen, gpu=gpu)
        return replace(seen, web=RUNNING_WEB) if wish.web_side else seen

    def _writers(self, wish: Wish, juju: Juju) -> Iterator[tuple[str, Callable[[], Fields]]]:
        layout, side = self.layout, wish.web_side
        if "worker" in wish.roles:
            yield "worker", partial(write_worker, layout, wish)
        if wish.gpu:
            yield "devices", partial(write_devices, layout, wish.gpu)
        if wish.gpu and wish.gpu.toolkit.repository_key.strip():  # NVIDIA's would be fetched
            yield "apt", partial(write_apt, layout, wish.gpu.toolkit)
        if side and isinstance(side.database, Database):
            yield "web", partial(write_web, layout, wish, side, side.database)
        if side:
            yield "keys", partial(write_keys, layout, juju.workers())


def write_worker(layout: Layout, wish: Wish) -> Fields:
    """Return the worker's environment, and its web's host key."""
    wanted = WorkerWish(
        name=wish.worker_name,
        tsa_hosts=wish.web.hosts if wish.web else ("127.0.0.1:2222",),
        tsa_host_key=wish.web.host_key if wish.web else key(),
        tags=tags(wish.gpu.tags, CHOSEN, wish.mode) if wish.gpu else (),
        log_level=wish.log_level,
        dns_proxy=wish.dns_proxy,
        dns_server=wish.dns_server,
        baggageclaim_driver=wish.baggageclaim_driver,
        extra=wish.worker_env,
        proxies=wish.proxies,
    )
    worker.ensure_files(layout, wanted, layout.concourse.resolve())
    unit_is_plain(layout.worker_unit)
    found = read_as_meant(layout.worker_env, worker.environment(layout, wanted))
    return {**found, "host key": tsa_host_key(layout).read_text().removesuffix("\n")}


def write_web(layout: Layout, wish: Wish, side: WebSide, database: Database) -> Fields:
    """Return the web's environment; its certificates are loaded as TLS libraries do."""
    tls = side.tls if isinstance(side.tls, Tls) else None
    wanted = web_workload._web_wish(wish, side, database, SECRETS, tls)
    web.ensure_files(layout, wanted, layout.concourse.resolve())
    web.ensure_reread(layout)
    paths = WebPaths(layout)
    unit_is_plain(paths.unit)
    if tls:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(paths.tls)
    if database.ca:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(paths.postgres_ca)
    assert paths.tls.exists() == bool(tls)
    assert paths.postgres_ca.exists() == bool(database.ca)
    return read_as_meant(paths.environment, web.environment(layout, wanted))


def write_devices(layout: Layout, wish: GpuWish) -> Fields:
    """Return the wrapper's table, as awk splits it."""
    share = wish.sharing
    default = share.default(tags(wish.tags, CHOSEN, wish.mode))
    table = DeviceTable(CHOSEN.allowed, CHOSEN.spellings, wish.capabilities, share.mode, default,
                        share.timeout)  # fmt: skip
    ensure_devices(layout, table)
    rows = [line.split("\t") for line in layout.gpu_devices.read_text().split("\n")]
    names = ["capabilities", "allowed", "sharing", "default", "timeout", "device", ""]
    assert [row[0] for row in rows] == names
    assert [len(row) for row in rows] == [2, 2, 2, 2, 2, 3, 1]
    return {row[0]: row[1] for row in rows[:-1]}


def write_apt(layout: Layout, wish: ToolkitWish) -> Fields:
    """Return apt's source and pin, and the key that the source names, in base64."""
    source = toolkit._ensure_source(layout, wish)
    lines = [line for line in source.read_text().splitlines() if not line.startswith("#")]
    assert [line.partition(":")[0] for line in lines] == ["Types", "URIs", "Suites", "Signed-By"]
    assert [len(line.split()) for line in lines] == [2, 2, 2, 2]
    toolkit._ensure_pin(layout, wish.version)
    pin = layout.at(PINS).read_text().splitlines()[1:]
    assert [line.partition(":")[0] for line in pin] == ["Package", "Pin", "Pin-Priority"]
    assert re.fullmatch(r"Pin: version [0-9.*-]+", pin[1])
    assert pin[2] == "Pin-Priority: 999"
    found = dict(line.split(": ", 1) for line in (*lines, *pin))
    keyring = layout.at(found["Signed-By"]).read_bytes()
    return {**found, "key": base64.b64encode(keyring).decode()}


def write_keys(layout: Layout, workers: Mapping[str, str]) -> Fields:
    """Return whose key the gateway reads: name -> the key's line in its file."""
    made = authorized.ensure(layout, workers, now=1.0)
    found = authorized.read(layout)
    assert listed_keys(WebPaths(layout).authorized_keys) == sorted(found)
    for name in made.refused:
        sentence(name)
    return found


def read_as_meant(file: Path, meant: Mapping[str, str]) -> Fields:
    """Return what systemd reads: what was meant, and nothing beside it."""
    found = read_environment_file(file.read_text(encoding="utf-8"))
    found.pop("CHARM_STAMP")
    assert found == dict(meant)
    assert not any(name.startswith(("LD_", "PATH")) for name in found)
    assert file.stat().st_mode & 0o777 == 0o600
    return found


def unit_is_plain(file: Path) -> None:
    """No option reaches a unit file, but for the capability that a low port needs."""
    lines = file.read_text().splitlines()
    lines = [line for line in lines if not re.match(r"(Ambient|Bounding)?Capabilit", line)]
    assert PLAIN.setdefault(file, lines) == lines
