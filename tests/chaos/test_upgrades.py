"""The toolkit and Concourse change under the charm, and people put their hands in."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from rehearsal.containers import devices, running
from rehearsal.juju import Unit
from rehearsal.machine import Machine
from rehearsal.standins import release
from rehearsal.world import World
from tests.chaos.chain import docker_devices, put_right
from tests.chaos.frame import Chaos
from tests.chaos.units import GPU, assemble, follow, installed, leave_the_archive, settle

PROMISE = (
    "The toolkit is upgraded, downgraded, removed, purged or reinstalled, or somebody's hands or"
    " another charm change the chain: after the next hook the checklist passes, no wrapper is"
    " saved as an original, and Docker's containers have their GPU"
)
UPGRADE = (
    "Concourse is upgraded while tasks of the old release run: they live on, and both releases'"
    " containers can be created, seen and ended"
)
_PACKAGES = (
    "nvidia-container-toolkit nvidia-container-toolkit-base libnvidia-container-tools"
    " libnvidia-container1"
)
_APT = "DEBIAN_FRONTEND=noninteractive apt-get -qq -y -o Dpkg::Use-Pty=0"
_HOOKS = ("config-changed", "update-status")  # what comes next may be either


def _install(version: str) -> str:
    exact = " ".join(f"{name}={version}" for name in _PACKAGES.split())
    return f"{_APT} install --allow-downgrades {exact}"


@dataclass(frozen=True)
class Deed:
    """What somebody does to the machine, as a few lines of sh."""

    name: str
    script: str

    def __str__(self) -> str:
        return self.name


ANOTHER_CHARM = Deed(
    "another charm wraps both runtimes its own way",
    "for name in /opt/concourse/bin/runc /usr/bin/nvidia-container-runtime; do\n"
    "  mv $name $name.real\n"
    "  printf '#!/bin/sh\\nexport NVIDIA_VISIBLE_DEVICES=all\\nexec %s.real \"$@\"\\n' $name"
    " > $name\n"
    "  chmod 755 $name\n"
    "done",
)
DEEDS = (
    Deed("apt upgrades the toolkit", _install("1.20.1-1")),
    Deed("apt upgrades what it may of the toolkit", f"{_APT} install --only-upgrade {_PACKAGES}"),
    Deed("apt downgrades the toolkit", _install("1.18.2-1")),
    Deed("apt downgrades the toolkit below the safe floor", _install("1.17.0-1")),
    Deed("apt removes the toolkit", f"{_APT} remove {_PACKAGES}"),
    Deed("apt purges the toolkit", f"{_APT} purge {_PACKAGES}"),
    Deed("apt reinstalls the toolkit", f"{_APT} install --reinstall {_PACKAGES}"),
    Deed(
        "apt purges and installs the toolkit anew",
        f"{_APT} purge {_PACKAGES}\n{_install('1.20.0-1')}",
    ),
    Deed(
        "runc is restored by hand, as a copy",
        "cd /opt/concourse/bin\ncp -p runc.real x\nmv x runc",
    ),
    Deed("runc is restored by hand, by rename", "cd /opt/concourse/bin\nmv runc.real runc"),
    Deed("runc is a link to runc.real", "ln -sf runc.real /opt/concourse/bin/runc"),
    Deed("runc.real is deleted", "rm /opt/concourse/bin/runc.real"),
    Deed(
        "runc and runc.real are both the wrapper",
        "cd /opt/concourse/bin\ncp --remove-destination runc-gpu-wrapper runc.real",
    ),
    Deed("the wrapper in the tree is deleted", "rm /opt/concourse/bin/runc-gpu-wrapper"),
    Deed("the wrapper's programs are deleted", "rm /opt/concourse/bin/runc-gpu-*.awk"),
    Deed("/usr/local/bin is deleted", "rm -r /usr/local/bin"),
    Deed(
        "nvidia-container-runtime.real is deleted",
        "rm /usr/bin/nvidia-container-runtime.real",
    ),
    Deed(
        "nvidia-container-runtime is restored by hand",
        "cd /usr/bin\nmv nvidia-container-runtime.real nvidia-container-runtime\n"
        "dpkg-divert --quiet --local --no-rename --remove /usr/bin/nvidia-container-runtime",
    ),
    ANOTHER_CHARM,
    Deed("config.toml is purged", "rm -r /etc/nvidia-container-runtime"),
    Deed("the charm's settings are deleted", "rm -r /etc/concourse/gpu"),
    Deed("the charm's memory is deleted", "rm -r /var/lib/concourse-ci-machine/gpu"),
)


@pytest.fixture(scope="module")
def unit(machine: Machine, world: World, tmp_path_factory: pytest.TempPathFactory) -> Unit:
    """A worker whose tasks have the GPU."""
    leave_the_archive(machine)
    charm = assemble(machine, tmp_path_factory.mktemp("charm"))
    unit = installed(machine, world, charm, enable_gpu=True)
    settle(unit, GPU)
    return unit


def test_next_hook_puts_it_right(chaos: Chaos, unit: Unit) -> None:
    for deed in chaos.part(DEEDS, quick=3):
        with chaos.case(PROMISE, str(deed)):
            unit.machine.shell(deed.script, timeout=120)
            assert docker_devices(unit.machine) in (None, ["nvidia0"])
            put_right(unit, chaos.dice(str(deed)).choice(_HOOKS))


def test_another_charm_that_comes_back_piles_nothing_up(chaos: Chaos, unit: Unit) -> None:
    runtimes = "cd /opt/concourse/bin; ls -1F . /usr/bin/nvidia-container-runtime*"
    before = unit.machine.shell(runtimes)
    for turn in range(1 if chaos.quick else 4):
        with chaos.case(PROMISE, f"it comes back: {turn + 1}"):
            unit.machine.shell(ANOTHER_CHARM.script, timeout=120)
            put_right(unit, "update-status")
            assert unit.machine.shell(runtimes) == before


def test_next_hook_puts_several_deeds_right(chaos: Chaos, unit: Unit) -> None:
    dice = chaos.dice()
    several = [tuple(dice.sample(DEEDS, 3)) for _ in range(10)]
    names = [" + ".join(map(str, deeds)) for deeds in several]
    for name in chaos.part(names, quick=1):
        with chaos.case(PROMISE, name):
            for deed in several[names.index(name)]:
                # Where one has taken away what the next works on, that one fails half-way.
                unit.machine.run(["sh", "-c", deed.script], timeout=120, check=False)
            assert docker_devices(unit.machine) in (None, ["nvidia0"])
            put_right(unit, chaos.dice(name).choice(_HOOKS))


def test_concourse_is_upgraded_under_running_tasks(chaos: Chaos, unit: Unit, world: World) -> None:
    machine = unit.machine
    world.offer_release(release.NEXT_VERSION)
    with chaos.case(UPGRADE):
        with running(machine, "old-task", task=True):
            follow(unit, release.NEXT_VERSION)
            settle(unit, GPU)
            assert unit.model.version == release.NEXT_VERSION
            assert "nvidia0" in devices(machine, "old-task")
            put_right(unit)
            trees = machine.shell("ls /opt/concourse-releases").split()
            assert trees == [release.VERSION, release.NEXT_VERSION], "its shim needs the old tree"
        unit.hook("update-status")
        trees = machine.shell("ls /opt/concourse-releases").split()
        assert trees == [release.NEXT_VERSION]
        put_right(unit)
