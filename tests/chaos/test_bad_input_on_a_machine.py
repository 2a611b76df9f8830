"""Hostile options and relations where a shell, systemd and apt are real and would act on them."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial

import pytest

from gpu.repository import PINS, SOURCE
from rehearsal.juju import Unit
from rehearsal.machine import Machine
from rehearsal.standins import packages
from rehearsal.standins.web import URL
from rehearsal.world import World
from tests.chaos import creating
from tests.chaos.frame import Chaos
from tests.chaos.hostile import PIECES
from tests.chaos.hostile_hooks import MARK
from tests.chaos.scaled import scale
from tests.chaos.units import GPU, assemble, installed, settle

PROMISE = (
    "Hostile options and a hostile web, with a real shell, systemd and apt: nothing is executed,"
    " the worker has what was meant and goes on, one status says what is wrong, and it ends."
)
# Each would make a file below /tmp, or have a process show another environment.
PAYLOADS = (
    "$(touch /tmp/pwned)",
    "`touch /tmp/pwned`",
    "; touch /tmp/pwned #",
    "' && touch /tmp/pwned && '",
    "\n[Service]\nExecStartPre=+/bin/touch /tmp/pwned\n",
    '"\nLD_PRELOAD=/tmp/pwned.so\nX="',
    "\nPATH=/tmp BASH_ENV=/tmp/pwned",
    '"; APT::Update::Pre-Invoke {"touch /tmp/pwned";}; "',
    "\nTypes: deb\nURIs: file:/tmp\nTrusted: yes\n",
    "\nPin: release *\nPin-Priority: 1001",
    " %n ${PATH} \\",
)
REFUSED = {
    "baggageclaim-driver": "overlay",
    "concourse-release-url": f"{URL}/releases",
    "concourse-version": "8.3.0",
    "containerd-dns-server": "fe80::1%",
    "gpu-device-ids": "0",
    "gpu-driver-capabilities": "all",
    "gpu-worker-tags": "gpu",
    "log-level": "info",
    "nvidia-repository-url": f"{URL}/stable/deb",
    "nvidia-toolkit-version": "1.20.0",
}
# What shells and apt's own substitution would act on, in an address that can be one.
TRAP = "$(touch$IFS/tmp/pwned);touch$IFS/tmp/pwned&$PATH"
_MADE = r"find /tmp -maxdepth 1 \( -name 'pwned*' -o -name 'x*' \)"  # what PAYLOADS would make
SINCE_START = ("CHARM_STAMP", "INVOCATION_ID", "JOURNAL_STREAM", "SYSTEMD_EXEC_PID")
_LOOK = """
systemctl show concourse-worker -p Environment -p EnvironmentFiles -p DropInPaths \
    -p FragmentPath -p ActiveState -p NeedDaemonReload
systemctl show concourse-worker -p ExecStartPre -p ExecStart -p ExecStartPost -p ExecStop |
    sed 's/ ; ignore_errors=.*//'
apt-config dump
apt-get update --print-uris | sed -n "s/^'\\(.*InRelease\\)' .*/source \\1/p"
find /etc/apt /etc/systemd /run/systemd/system /etc/concourse -type f \
    ! -name worker.env -exec sha256sum {} +
"""
Look = dict[str, str]


def _same(before: Look) -> Look:
    return before


@dataclass(frozen=True)
class Case:
    """Something hostile, and what comes of it.

    Attributes:
        name: tells it from the others.
        said: the unit's status while it lasts, as a pattern of all of it.
        options: what the operator sets.
        web: what the related web says, by field.
        makes: given what `look` returned before, what it returns meanwhile.
    """

    name: str
    said: str
    options: Mapping[str, object] = field(default_factory=dict)
    web: Mapping[str, str] = field(default_factory=dict)
    makes: Callable[[Look], Look] = _same

    def __str__(self) -> str:
        return self.name


def cases(chaos: Chaos, host_key: str) -> list[Case]:
    """Return the cases of this run's seed."""
    found = [
        Case(option, f"blocked  {option}[ =].*", {option: good + _payload(chaos, option)})
        for option, good in REFUSED.items()
    ]
    web = {"tsa-host": "127.0.0.1", "tsa-port": "2222", "concourse-version": "8.3.0"}
    for name, good in {**web, "tsa-host-public-key": f"{host_key}\n"}.items():
        said = f"blocked  The related web's data can't be used: {name} .*"
        found.append(Case(name, said, web={name: good + _payload(chaos, name)}))
    ready = re.escape("  ".join(GPU))
    comment = _payload(chaos, "comment").replace("\n", " ")
    found.append(Case("a comment", ready, web={"tsa-host-public-key": f"{host_key} {comment}"}))
    return [*found, *_of_worker_env(chaos, ready), *_of_addresses(ready)]


def _payload(chaos: Chaos, name: str) -> str:
    return chaos.dice(name).choice(PAYLOADS)


def _of_worker_env(chaos: Chaos, ready: str) -> Iterator[Case]:
    """What systemd reads of an environment file: as it was written, or it is refused."""
    smiles = "\U0001f600" * (32768 // 4)
    several = {"random 1": (), "random 2": (), "the payloads": PAYLOADS, "the largest": (smiles,)}
    for name, texts in several.items():
        values = texts or _random_values(chaos.dice(name))
        clean = [re.sub("[\0-\x1f\x7f\ufdd0\ufffe]", "", text).strip(" ") for text in values]
        meant = {f"CONCOURSE_CHAOS_{n}": text for n, text in enumerate(clean) if _fits(text)}
        text = "\n".join(f"{variable}={value}" for variable, value in meant.items())
        more = {f"env {variable}": value for variable, value in meant.items()}
        options = {"worker-env": text}
        yield Case(f"worker-env, {name}", ready, options, makes=partial(_with, more))
    said = "blocked  worker-env, line 1: CONCOURSE_CHAOS .*"
    for name, value in (("too large", f"{smiles}x"), ("no character", "x\ufffex")):
        yield Case(f"worker-env, {name}", said, {"worker-env": f"CONCOURSE_CHAOS={value}"})
    lines = {"worker-env": "CONCOURSE_CHAOS=x\nLD_PRELOAD=/tmp/pwned.so"}
    yield Case("worker-env, another name", "blocked  worker-env, line 2: .*", lines)


def _random_values(dice: random.Random) -> list[str]:
    return ["".join(dice.sample(PIECES, 3)) for _ in range(12)]


def _fits(text: str) -> bool:
    """Return whether worker-env takes a value: none in quotes, and none that is empty."""
    return bool(text) and not (text[0] == text[-1] and text[0] in "\"'")


def _of_addresses(ready: str) -> Iterator[Case]:
    """Addresses that are ones, and what apt and the downloader make of them."""
    http, file = f"http://127.0.0.1:9/{TRAP}&%n%20", f"file:///nowhere/{TRAP}"
    for name, url in (("http", http), ("file", file)):
        options = {"nvidia-repository-url": url}
        yield Case(f"a repository, {name}", ready, options, makes=partial(_with_source, url))
    said = "blocked  nvidia-repository-url holds characters that no apt source can have"
    yield Case("a repository, printf's", said, {"nvidia-repository-url": f"{file}/%n"})
    yield Case(
        "a repository that apt asks",
        f"waiting  {re.escape(GPU[1])}, but .*(apt-get|apt-cache|nvidia-container-toolkit).*",
        {"nvidia-repository-url": file, "nvidia-toolkit-version": "1.20.1"},
        makes=lambda before: _without(PINS, _with_source(file, before)),
    )
    yield Case(
        "a version that no repository has",
        "waiting  .*nvidia-container-toolkit 9999.9999.9999-9999 is not in the repository.*",
        {"nvidia-toolkit-version": "9999.9999.9999-9999"},
        makes=partial(_without, PINS),
    )
    yield Case(
        "a release's address",
        r"waiting  Concourse 8\.3\.0 runs on, 8\.3\.7 failed: .* from 127\.0\.0\.1 failed .*",
        {"concourse-release-url": http},
        {"concourse-version": "8.3.7"},
    )


def _with(more: Look, before: Look) -> Look:
    return before | more


def _with_source(url: str, before: Look) -> Look:
    """Return what `look` returns with another address of NVIDIA's repository."""
    old = f"source {URL}/{packages.TOOLKIT}/"
    return {
        name.replace(old, f"source {url.replace('file:///', 'file:/')}/"): value
        for name, value in _without(SOURCE, before).items()
    }


def _without(path: str, before: Look) -> Look:
    """Return what `look` returns but for what a file holds."""
    return {**before, f"file {path}": "*"}


def look(machine: Machine) -> Look:
    """Return what systemd and apt have: settings, environment, sources, and their files."""
    found = {}
    for line in machine.shell(_LOOK).splitlines():
        digest = re.fullmatch(r"([0-9a-f]{64})  (/.*)", line)
        name, value = (f"file {digest[2]}", digest[1]) if digest else (line, "")
        found[name] = value
    pid = machine.shell("systemctl show concourse-worker -p MainPID --value").strip()
    environ = (machine.root / "proc" / pid / "environ").read_bytes().decode()
    pairs = (entry.partition("=") for entry in environ.split("\0") if entry)
    return found | {f"env {name}": value for name, _, value in pairs if name not in SINCE_START}


@pytest.fixture(scope="module")
def unit(machine: Machine, world: World, tmp_path_factory: pytest.TempPathFactory) -> Unit:
    """A worker whose tasks have the GPU, with limits that are short."""
    charm = scale(assemble(machine, tmp_path_factory.mktemp("charm")))
    unit = installed(machine, world, charm, enable_gpu=True)
    settle(unit, GPU)
    creating.prepare(machine)
    return unit


def test_hostile_values_on_a_machine(chaos: Chaos, unit: Unit, world: World) -> None:
    before = look(unit.machine)
    assert any(f"{URL}/{packages.TOOLKIT}" in name for name in before), "apt names no repository"
    for case in chaos.part(cases(chaos, world.web.host_key), quick=4):
        with chaos.case(PROMISE, str(case)):
            with told(unit, case):
                run = unit.hook("config-changed", limit=120)
                assert run.code == 0, run.trouble
                go_on(unit, case.said)
                assert _found(unit.machine, case.makes(before)) == case.makes(before)
                if "nvidia-repository-url" in case.options and case.makes is not _same:
                    ask_apt(unit.machine)
            settle(unit, GPU)
            assert look(unit.machine) == before


@contextmanager
def told(unit: Unit, case: Case) -> Iterator[None]:
    """Have the operator and the web say what the case has, for the length of a `with` block."""
    model = unit.model
    config = dict(model.config)
    bags = [model.relations[0].bag(member) for member in ("web", "web/0")]
    kept = [dict(bag) for bag in bags]
    model.config.update(case.options)
    for bag in bags:
        bag.update({name: value for name, value in case.web.items() if name in bag})
    try:
        yield
    finally:
        model.config.clear()
        model.config.update(config)
        for bag, was in zip(bags, kept, strict=True):
            bag.update(was)


def go_on(unit: Unit, said: str) -> None:
    """The status is as said, the worker runs, its containers are created, nothing was executed."""
    status = "  ".join(unit.model.status)
    assert re.fullmatch(said, status), status
    assert status.isprintable(), status
    assert len(status) <= 400, status
    found = creating.created(unit.machine, creating.CHECK, creating.TASK)
    assert found == {creating.CHECK: creating.PLAIN, creating.TASK: creating.GPU}
    assert unit.machine.shell(_MADE) == ""
    assert not MARK.exists()


def _found(machine: Machine, meant: Look) -> Look:
    """Return what there is; of a file that may be another one, no more than that it is there."""
    return {name: "*" if meant.get(name) == "*" else value for name, value in look(machine).items()}


def ask_apt(machine: Machine) -> None:
    """Have apt fetch from the source that the charm wrote, as the operator's next update does."""
    options = (f"Dir::Etc::sourcelist={SOURCE}", "Dir::Etc::sourceparts=/dev/null",
               "APT::Get::List-Cleanup=0", "Acquire::Retries=0",
               "APT::Update::Error-Mode=any")  # fmt: skip
    argv = ["apt-get", "update", *(word for option in options for word in ("-o", option))]
    done = machine.run(argv, timeout=60, check=False)
    assert done.returncode == 100, done
    assert "signal" not in done.stderr, done.stderr
    assert machine.shell(_MADE) == ""
