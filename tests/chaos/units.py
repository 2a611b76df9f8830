"""A deployed GPU worker to break things on."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from rehearsal.juju import Unit, defaults
from rehearsal.machine import Machine
from rehearsal.standins.model import Model
from rehearsal.world import World

SOURCE = Path(__file__).resolve().parents[2]
CPU = ("active", "Worker ready")
GPU = ("active", "Worker ready (GPU: 1x NVIDIA)")


def assemble(machine: Machine, folder: Path) -> Path:
    """Return the charm's folder, assembled for the machine's Python; some seconds."""
    version = "import sys; print('%d.%d' % sys.version_info[:2])"
    python = machine.run(["env", "python3", "-c", version], timeout=20).stdout.strip()
    argv = [sys.executable, str(SOURCE / "packing/assemble"), str(folder), "--python", python]
    subprocess.run(argv, check=True, timeout=600)
    return folder


def leave_the_archive(machine: Machine) -> None:
    """Leave apt the world's repositories alone: a distribution's lists are half of its time."""
    machine.shell(
        "DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends jq\n"
        "for file in /etc/apt/sources.list /etc/apt/sources.list.d/*; do\n"
        '    case "$file" in */stand-in-archive.sources) continue ;; esac\n'
        '    [ ! -e "$file" ] || mv "$file" "$file.aside"\n'
        "done\n"
        "apt-get update -qq",
        timeout=300,
    )


def installed(machine: Machine, world: World, charm: Path, **options: object) -> Unit:
    """Return a worker unit, related to the world's web, on which no hook has run yet.

    Args:
        machine: where it runs.
        world: what is around it.
        charm: the assembled charm.
        options: the charm's options by name, with _ for -.
    """
    world.offer_release()
    config = {**defaults((charm / "config.yaml").read_text()), **world.options()}
    config["deployment-mode"] = "worker"
    config |= {name.replace("_", "-"): value for name, value in options.items()}
    relation = world.relation()
    relation.remote_units.append("web/0")
    unit = Unit(machine, Model(config=config, relations=[relation], leader=True))
    unit.install(charm)
    return unit


def settle(unit: Unit, wanted: tuple[str, str], *, hooks: int = 4) -> None:
    """Run hooks until the status is as wanted.

    Raises:
        AssertionError: it isn't after that many.
    """
    for _ in range(hooks):
        run = unit.hook("config-changed")
        assert run.code == 0, run.trouble
        if unit.model.status == wanted:
            return
    raise AssertionError(f"{'  '.join(unit.model.status)} after {hooks} hooks")


def follow(unit: Unit, version: str) -> None:
    """Have the related web run a release of Concourse; a worker follows it."""
    unit.model.relations[0].bag("web")["concourse-version"] = version
