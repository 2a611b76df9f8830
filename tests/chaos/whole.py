"""A whole deployment on one machine, with everything on that brings a file, a port or a secret.

Web and worker with a GPU share the machine; PostgreSQL has another one, and so has the CA of
the web's certificate.  Every hook runs under strace, which writes down each command line.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from io import StringIO

from rehearsal import containers, footprint
from rehearsal.choice import Choice
from rehearsal.footprint import Footprint
from rehearsal.juju import Unit
from rehearsal.machine import Machine
from rehearsal.model_stage import Stage
from rehearsal.play import unpacked_charm
from rehearsal.screen import Screen
from rehearsal.standins.authority import Authority
from rehearsal.standins.model import Secret
from tests.chaos import tracing

APP, UNIT, MACHINE = "one", "one/0", "all-0"
READY = "active  Web ready, Worker ready (GPU: 1x NVIDIA)"
HOLDER, WAITER = "chaos-holder", "chaos-waiter"
WORKER_ENV, WEB_ENV = "w0rker-env-s3cret", "web-s3cret-env-4711"
BUNDLES = "/run/containerd/io.containerd.runtime.v2.task/concourse"
COMMANDS = "/run/chaos-commands"
_USER_SECRET = "secret:c0ffee0000000000000a"
_PLACES = "find /run /tmp /dev/shm /var/tmp -xdev ! -path '/run/outside/*'"
_PACKAGES = "dpkg-query -W -f '${Package} ${Version} ${db:Status-Status}\\n'"
# What a secret's content names that is none.
_OPEN = ("username", "tls", "tls-ca", "certificate", "csr")


@dataclass(frozen=True)
class Deployment:
    """Web and worker on one machine, while a task holds the GPU and another waits for it.

    Attributes:
        name: the unit that is looked at.
        authority: who signs the web's certificate.
        before: the machine's files before the first hook.
        memory: what lay in its memory then.
        owned: what the packages brought that were installed meanwhile.
        secrets: each secret that was used, as the lines to look for, by what it is.
    """

    name: str
    stage: Stage
    authority: Authority
    before: Footprint
    memory: frozenset[str]
    owned: frozenset[str]
    secrets: dict[str, tuple[str, ...]] = field(repr=False)

    @property
    def unit(self) -> Unit:
        return self.stage.units[self.name]

    @property
    def machine(self) -> Machine:
        return self.unit.machine

    def made(self) -> tuple[str, ...]:
        """Return each path that there is since the first hook and that no package brought."""
        now = footprint.look(self.machine.disk / "upper")
        changed = [path for path in footprint.changes(self.before, now) if path in now]
        in_memory = set(self.machine.shell(_PLACES).splitlines()) - self.memory
        return (*footprint.beside(changed, self.owned), *sorted(in_memory))


@contextmanager
def deployed() -> Iterator[Deployment]:
    """Deploy it for the length of a `with` block; about a minute."""
    with ExitStack() as resources:
        stage = Stage(Choice(), Screen(StringIO()), resources)
        server = stage.boot("postgresql-0")
        stage.charm = unpacked_charm(stage.choice, server, stage.screen)
        stage.serve_database(server)
        stage.database.encrypt()
        authority = Authority(server)
        authority.start()
        machine = stage.prepare(MACHINE, stage.choice.hardware).machine
        tracing.prepare(machine)
        known = _installed(machine)
        before = footprint.look(machine.disk / "upper")
        memory = frozenset(machine.shell(_PLACES).splitlines())
        _deploy(stage, authority)
        new = sorted({name for name, _ in _installed(machine) - known})
        owned = machine.shell(f"dpkg -L {' '.join(new)}").splitlines()
        resources.enter_context(_gpu_in_use(machine))
        secrets = _secrets(stage, machine)
        yield Deployment(UNIT, stage, authority, before, memory, frozenset(owned), secrets)


def _installed(machine: Machine) -> set[tuple[str, str]]:
    """Return the installed packages with their versions; one of jq's libraries may be older."""
    lines = [line.split() for line in machine.shell(_PACKAGES).splitlines()]
    return {(name, version) for name, version, status in lines if status == "installed"}


def _deploy(stage: Stage, authority: Authority) -> None:
    """Deploy the unit, relate it, and have it come to rest."""
    secret = Secret("", "application", {"github-client-secret": WEB_ENV}, holder="admin")
    secret.granted.add(APP)
    stage.controller.secrets[_USER_SECRET] = secret
    options = {
        "deployment_mode": "all",
        "enable_gpu": True,
        "gpu_sharing": "exclusive",
        "enable_metrics": True,
        "tls_enabled": True,
        "database_encryption": True,
        "worker_env": f"CONCOURSE_TRACING_HONEYCOMB_API_KEY={WORKER_ENV}",
        "web_secret_env": _USER_SECRET,
    }
    stage.deploy(APP, MACHINE, **options)
    watch(stage.units[UNIT])
    stage.relate(f"{APP}:database", "postgresql:database")
    stage.certify(authority, APP)
    stage.settle()
    for _ in range(4):
        if stage.status(UNIT).startswith(READY):
            return
        stage.update(UNIT)
    raise AssertionError(stage.status(UNIT))


def watch(unit: Unit) -> None:
    """Write down each command line of a unit's hooks from now on."""
    traced = ("strace", "-f", "--seccomp-bpf", "-qq", "-A", "-s", "100000", "--signal=none")
    unit.under = (*traced, "--trace=execve", "-o", COMMANDS)


@contextmanager
def _gpu_in_use(machine: Machine) -> Iterator[None]:
    """Have a task hold the GPU, and another one wait for it, for the length of a `with` block."""
    one = {"CONCOURSE_GPU_COUNT": "1"}
    waiting = threading.Thread(target=_wait_in_vain, args=(machine, one))
    with containers.running(machine, HOLDER, task=True, env=one):
        containers.work(machine, HOLDER)
        waiting.start()
        machine.shell(f"timeout 20 sh -c 'until [ -e {BUNDLES}/{WAITER}/gpu-request ]; do :; done'")
        yield
    waiting.join()


def _wait_in_vain(machine: Machine, env: dict[str, str]) -> None:
    with suppress(containers.RefusedError), containers.running(machine, WAITER, task=True, env=env):
        pass


def _secrets(stage: Stage, machine: Machine) -> dict[str, tuple[str, ...]]:
    """Return what must not be seen, by what it is; of a key in PEM each line between its ends."""
    found = {"worker-env": WORKER_ENV}
    found["worker_key"] = machine.read("/etc/concourse/keys/worker_key")
    for identity, secret in stage.controller.secrets.items():
        for content in (secret.content, *secret.older.values()):
            for name, value in content.items():
                if name not in _OPEN:
                    found[f"{name} of {identity}"] = value
    return {
        name: tuple(line for line in value.splitlines() if "-----" not in line)
        for name, value in found.items()
    }
