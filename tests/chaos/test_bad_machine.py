"""Machines with something wrong: the worker goes on, one status says what, and it ends with it."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import pytest

from rehearsal.machine import Machine
from rehearsal.world import World
from tests.chaos import belongings, clocks, creating, faults, faults_around, tracing
from tests.chaos.causes import CONFIG, Site
from tests.chaos.fault import INSTALLS, Fault
from tests.chaos.frame import Chaos
from tests.chaos.scaled import RESTART, scale
from tests.chaos.units import CPU, GPU, assemble, installed, leave_the_archive, settle

PROMISE = (
    "A bad machine (disk, apt, mirror, name server, clock, driver, systemd): hooks are bounded,"
    " containers are created, one status says what it is, nothing is lost, and it ends with its"
    " cause."
)
FAULTS = (*faults.FAULTS, *faults_around.FAULTS)
PACKAGES = "nvidia-container-toolkit{,-base} libnvidia-container-tools libnvidia-container1"
UNDONE = "undone in the end"


@dataclass(frozen=True)
class Place:
    """Where faults come and go.

    Attributes:
        belongings: what the operator has there.
    """

    site: Site
    belongings: Mapping[str, tuple[int, bytes]]


@pytest.fixture(scope="module")
def place(machine: Machine, world: World, tmp_path_factory: pytest.TempPathFactory) -> Place:
    """A worker whose tasks have the GPU, with limits that are short, and an operator's files."""
    tracing.prepare(machine)
    clocks.prepare(machine)
    leave_the_archive(machine)
    belongings.plant(machine)
    charm = scale(assemble(machine, tmp_path_factory.mktemp("charm")))
    unit = installed(machine, world, charm, enable_gpu=True)
    world.offer_release("8.3.1")
    settle(unit, GPU)
    creating.prepare(machine)
    known = belongings.look(machine)
    belongings.count(known)
    return Place(Site(machine, world, unit), known)


def test_a_clock_that_is_off(place: Place) -> None:
    machine = place.site.machine
    for seconds in (0, clocks.YEARS, -clocks.YEARS, 0):
        with clocks.off(seconds)(place.site):
            uptime = float(machine.read("/proc/uptime").split()[0])
            python = "import time; print(time.clock_gettime(time.CLOCK_MONOTONIC))"
            assert float(machine.run(["python3", "-c", python], timeout=20).stdout) - uptime < 20
            for who, told in clocks.told(machine).items():
                assert abs(told - time.time() - seconds) < 20, who


def test_a_bad_machine(chaos: Chaos, place: Place) -> None:
    for fault in chaos.part(FAULTS, quick=6):
        with chaos.case(PROMISE, fault.name):
            suffer(place, fault)


def test_what_is_left_in_the_end(chaos: Chaos, place: Place) -> None:
    for name in chaos.part([UNDONE], quick=1):
        with chaos.case(PROMISE, name):
            place.site.unit.model.config["enable-gpu"] = False
            settle(place.site.unit, CPU, hooks=2)
            nothing_is_lost(place)
            assert place.site.machine.read(CONFIG) == belongings.OPERATORS
            handles = (creating.CHECK, creating.TASK, creating.ASKING)
            found = creating.created(place.site.machine, *handles)
            assert found == dict.fromkeys(handles, creating.PLAIN)


def suffer(place: Place, fault: Fault) -> None:
    """Have a fault come, last and go."""
    site = place.site
    if fault.bare:
        make_bare(site)
    with told(site, fault), fault.cause(site):
        for number in range(fault.hooks):
            run = site.unit.hook(next_hook(fault, number), limit=fault.limit)
            assert run.code == 0, run.trouble
            word, message = site.unit.model.status
            assert message.isprintable(), message
            assert len(message) <= 300, message
            found = creating.created(site.machine)
            assert found[creating.CHECK] == creating.PLAIN
            assert found[creating.TASK] != creating.REFUSED
        assert word == fault.word, (word, message)
        assert re.fullmatch(fault.said, message), message
        assert found == creating.expected(fault.asking, fault.docker)
        fault.check(site)
        nothing_is_lost(place, spared=fault.spares)
    if not fault.spares:  # the operator puts his own back
        site.machine.shell(f"rm -rf {CONFIG}")
        site.machine.write(CONFIG, belongings.OPERATORS)
    recover(place, fault)


def next_hook(fault: Fault, number: int) -> str:
    """Return what Juju runs: the operator's change is told once, the rest is routine."""
    changed = bool(fault.options) or fault.bare
    return "config-changed" if changed and not number else "update-status"


def recover(place: Place, fault: Fault) -> None:
    """Have the worker be ready again when a fault is over, by the next hook or the one after."""
    unit, machine = place.site.unit, place.site.machine
    name = "update-status" if fault.unasked else next_hook(fault, 0)
    for _ in range(2):
        run = unit.hook(name, limit=RESTART + INSTALLS)
        assert run.code == 0, run.trouble
        if unit.model.status == GPU:
            break
    assert unit.model.status == GPU
    assert creating.created(machine, creating.DOCKER) == {creating.DOCKER: creating.GPU}
    checks = unit.action("verify-gpu")
    assert checks.failure is None, checks.results
    nothing_is_lost(place)
    if fault.bare:
        assert machine.shell("dpkg --audit") == ""


def nothing_is_lost(place: Place, *, spared: bool = True) -> None:
    """Have everything of the operator's be as it was, his config.toml if it was spared."""
    machine = place.site.machine
    assert belongings.look(machine) == place.belongings
    belongings.nothing_is_set_aside(machine)
    if spared:
        belongings.setting_is_kept(machine)


@contextmanager
def told(site: Site, fault: Fault) -> Iterator[None]:
    """Have the operator's options, or the related web's version, be others for a while."""
    model = site.unit.model
    options = dict(fault.options)
    bag = model.relations[0].bag("web")
    before, release = dict(model.config), bag["concourse-version"]
    bag["concourse-version"] = str(options.pop("@version", release))
    if options.get("nvidia-repository-key") == "@":
        options["nvidia-repository-key"] = another_key(site.machine)
    model.config.update(options)
    try:
        yield
    finally:
        model.config.update(before)
        bag["concourse-version"] = release


def another_key(machine: Machine) -> str:
    """Make a key that signs nothing here."""
    return machine.shell(
        "gpg='gpg --homedir /run/wrong --batch --quiet'; mkdir -p -m 700 /run/wrong\n"
        "$gpg --passphrase '' --quick-generate-key 'wrong <w@localhost>' rsa2048 sign never\n"
        "$gpg --armor --export; gpgconf --homedir /run/wrong --kill all",
        timeout=60,
    )


def make_bare(site: Site) -> None:
    """Go back to a worker without the GPU, and without NVIDIA's packages, apt's copies too."""
    site.unit.model.config["enable-gpu"] = False
    run = site.unit.hook("config-changed")
    assert run.code == 0, run.trouble
    purge = f"dpkg --purge --force-all {PACKAGES} half >/dev/null 2>&1 || true"
    site.machine.run(["bash", "-euc", f"{purge}; apt-get clean"], timeout=60)
    site.unit.model.config["enable-gpu"] = True
