"""The charm's own dispatch in a machine: killed anywhere, and on machines with a trouble."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from rehearsal.juju import Unit, defaults
from rehearsal.machine import Machine, MachineError
from rehearsal.standins.model import Model
from rehearsal.world import World

SOURCE = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def unit(machine: Machine, world: World, tmp_path_factory: pytest.TempPathFactory) -> Unit:
    """A unit of the assembled charm, related to a web, on which no hook has run yet."""
    charm = tmp_path_factory.mktemp("charm")
    python = machine.shell("python3 -c 'import sys; print(\"%d.%d\" % sys.version_info[:2])'")
    argv = [sys.executable, str(SOURCE / "packing/assemble"), str(charm)]
    subprocess.run([*argv, "--python", python.strip()], check=True, timeout=600)
    world.offer_release()
    config = defaults((charm / "config.yaml").read_text())
    config |= {**world.options(), "deployment-mode": "worker", "enable-gpu": True}
    relation = world.relation()
    relation.remote_units.append("web/0")
    unit = Unit(machine, Model(config=config, relations=[relation], leader=True))
    unit.install(charm)
    return unit


def test_a_hook_killed_anywhere_is_finished_by_the_next(unit: Unit) -> None:
    for seconds in (0.8, 1.6, 2.4, 3.5, 5.0, 7.0, 9.0, 12.0):
        try:
            unit.hook("config-changed", limit=seconds)
        except MachineError:
            continue  # killed with SIGKILL at its limit
        break
    for _ in range(3):
        unit.hook("config-changed")
        if unit.model.status == ("active", "Worker ready (GPU: 1x NVIDIA)"):
            break
    assert unit.model.status == ("active", "Worker ready (GPU: 1x NVIDIA)")
    checks = unit.action("verify-gpu")
    assert checks.failure is None, checks.results


def test_undoing_that_is_killed_is_finished_by_the_next(unit: Unit) -> None:
    unit.model.config["enable-gpu"] = False
    for seconds in (0.5, 0.7, 0.8, 0.9, 1.0):
        try:
            unit.hook("config-changed", limit=seconds)
        except MachineError:
            continue
        break
    for _ in range(3):
        unit.hook("config-changed")
        if unit.model.status == ("active", "Worker ready"):
            break
    assert unit.model.status == ("active", "Worker ready")
    names = unit.machine.shell("ls -A /opt/concourse/bin").split()
    assert not [name for name in names if "real" in name or "wrapper" in name]


@pytest.mark.parametrize("options", [["--gpus", "2", "--no-passthrough"], ["--mismatch"]])
def test_the_play_goes_well_on_every_kind_of_machine(options: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "rehearsal", *options],
        cwd=SOURCE,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
