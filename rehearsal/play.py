"""The play: from an empty machine to a worker whose tasks have the GPU, and back."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

from . import parts, refresh
from .choice import Choice
from .juju import Unit, defaults
from .machine import Machine, MachineError, MachineOptions
from .screen import Screen
from .stage import Stage
from .standins import gpu, real
from .standins.model import Model
from .world import World, around, knows

SOURCE = Path(__file__).resolve().parent.parent


def play(choice: Choice, screen: Screen) -> int:
    """Play it all; return the exit status, 0 only if all is as it should be.

    Raises:
        MachineError: there is no machine to play on.
    """
    screen.title("A Concourse GPU worker, rehearsed on a throw-away copy of this machine")
    screen.part("The machine")
    model = Model(leader=True)
    with Machine.boot(MachineOptions(choice.hostname), report=screen.line) as machine:
        screen.line("Preparing what stands in for the GPU, NVIDIA, Juju and the web")
        gpu.plug(machine, choice.hardware)
        with around(machine, knows(model)) as world:
            chosen = _furnish(choice, world)
            charm = unpacked_charm(choice, machine, screen)
            if choice.refresh_from:
                present, charm = charm, earlier_charm(choice.refresh_from, machine, screen)
            model.config = {
                **defaults((charm / "config.yaml").read_text()),
                **world.options(),
                **chosen,
                "deployment-mode": "worker",
                "enable-gpu": True,
            }
            unit = Unit(machine, model, screen.status)
            unit.install(charm)
            _describe(machine, choice, screen)
            stage = Stage(choice, screen, machine, world, unit)
            if choice.refresh_from:
                _refresh(stage, present)
            else:
                _acts(stage)
    return _end(stage)


def _furnish(choice: Choice, world: World) -> dict[str, str]:
    """Put in place what was chosen; return the options that lead to it."""
    options = {"concourse-version": choice.version}
    world.offer_release(choice.version, choice.concourse)
    if choice.concourse:
        real.prepare_release(world.machine)
        real.connect(world.machine)
    if choice.toolkit:
        version = real.offer_toolkit(world, choice.toolkit, choice.hardware)
        options["nvidia-toolkit-version"] = version
    if choice.libraries:
        real.install_libraries(world.machine, choice.libraries)
    return options


def _acts(stage: Stage) -> None:
    parts.deploy(stage)
    parts.status(stage)
    if stage.choice.trouble:
        parts.cpu_only(stage)
        if not stage.choice.gpus:
            return
        parts.mend(stage)
    parts.checklist(stage)
    parts.containers(stage)
    if stage.choice.gpus > 1:
        parts.exclusive(stage)
    if stage.choice.keep:
        _shell(stage)
        return
    parts.unchanged(stage)
    parts.switch_off(stage)
    parts.switch_on(stage)
    parts.remove(stage)


def _refresh(stage: Stage, charm: Path) -> None:
    parts.deploy(stage)
    parts.status(stage)
    refresh.refresh(stage, charm)
    parts.checklist(stage)
    parts.unchanged(stage)
    parts.remove(stage)


def _end(stage: Stage) -> int:
    screen = stage.screen
    screen.part("The end")
    for fact in stage.summary:
        screen.line(fact)
    if screen.wrong:
        screen.line(f"{len(screen.wrong)} not as it should be:")
        screen.plain("\n".join(screen.wrong))
        return 1
    screen.line("All as it should be; the machine is gone")
    return 0


def _describe(machine: Machine, choice: Choice, screen: Screen) -> None:
    system = machine.shell('. /etc/os-release; echo "$PRETTY_NAME"').strip()
    systemd = machine.shell("systemctl --version").split()[1]
    hardware = choice.hardware
    kind = "LXD container" if choice.lxd else "machine"
    driver = f"driver {hardware.driver} loaded" if hardware.driver else "no driver loaded"
    count = f"{hardware.count} NVIDIA GPU{'' if hardware.count == 1 else 's'}"
    passed = "" if choice.passed or not choice.lxd else ", not passed through"
    screen.line(f"Up: {system}, systemd {systemd}; {kind} with {count}{passed}, {driver}")
    screen.plain(_legend(choice))


def _legend(choice: Choice) -> str:
    things = ["the GPU", "Juju's hook tools", "the web"]
    things += [] if choice.toolkit else ["NVIDIA's packages"]
    things += [] if choice.concourse else ["Concourse's own program"]
    return f"stand-ins: {', '.join(things)}; all else is real"


def unpacked_charm(choice: Choice, machine: Machine, screen: Screen) -> Path:
    """Return the unpacked charm, assembled for the machine's Python if none was given."""
    if choice.charm and choice.charm.is_dir():
        return choice.charm
    folder = machine.place / "charm"  # the keeper removes it
    if choice.charm:
        with zipfile.ZipFile(choice.charm) as packed:
            packed.extractall(folder)
        for program in ("dispatch", "src/charm.py"):
            (folder / program).chmod(0o755)  # zipfile forgets modes
        return folder
    return _assembled(SOURCE, folder, machine, screen)


def earlier_charm(revision: str, machine: Machine, screen: Screen) -> Path:
    """Return the unpacked charm of an earlier commit of this repository.

    Raises:
        MachineError: there is no such commit here, or it can't be assembled.
    """
    tree = Path(tempfile.mkdtemp(prefix="earlier-", dir=machine.place))
    git = ["git", "-c", f"safe.directory={SOURCE}", "-C", str(SOURCE), "archive", revision]
    with (machine.place / "earlier.tar").open("w+b") as archive:
        done = subprocess.run(
            git, stdout=archive, stderr=subprocess.DEVNULL, timeout=60, check=False
        )
        if done.returncode != 0:
            raise MachineError(
                f"--refresh-from {revision}: this clone has no such commit; "
                "git fetch --unshallow brings the whole history."
            )
        archive.seek(0)
        with tarfile.open(fileobj=archive) as content:
            content.extractall(tree)
    return _assembled(tree, machine.place / f"{tree.name}-charm", machine, screen)


def _assembled(source: Path, folder: Path, machine: Machine, screen: Screen) -> Path:
    version = "import sys; print(f'{sys.version_info[0]}.{sys.version_info[1]}')"
    python = machine.run(["env", "python3", "-c", version], timeout=20).stdout.strip()
    of = "" if source == SOURCE else " of then"
    screen.line(f"Assembling the charm{of} for Python {python}")
    argv = [sys.executable, str(source / "packing/assemble"), str(folder), "--python", python]
    scratch = machine.place / "scratch"  # the tools leave lock files where they work
    scratch.mkdir(exist_ok=True)
    environment = {**os.environ, "TMPDIR": str(scratch)}
    done = subprocess.run(
        argv, env=environment, capture_output=True, text=True, timeout=600, check=False
    )
    if done.returncode != 0:
        said = "\n".join(done.stderr.strip().splitlines()[-3:])
        raise MachineError(f"The charm could not be assembled:\n{said}")
    return folder


def version_of(file: Path) -> str:
    """Return the version that a Concourse release file's name tells.

    Raises:
        ValueError: it tells none.
    """
    match = re.search(r"concourse-(\d+\.\d+\.\d+)-linux", file.name)
    if match is None:
        raise ValueError(f"{file.name} is not named like concourse-8.3.0-linux-amd64.tgz")
    return match[1]


def _shell(stage: Stage) -> None:
    stage.screen.part("A shell in the machine; when it ends, the machine is gone")
    command = stage.machine.command(["bash", "--login"])
    environment = {**os.environ, "HOME": "/root", "PS1": "rehearsal# "}
    subprocess.run(command, env=environment, check=False)
