"""The row about the first set-up: the GPU turned on, beside apt's install of the same packages."""

from __future__ import annotations

import time
from dataclasses import replace

from rehearsal.machine import Machine
from rehearsal.screen import Screen
from rehearsal.standins import packages
from rehearsal.standins.gpu import DRIVER
from rehearsal.standins.web import URL

from . import goals
from .deployed import Deployed, worker
from .figures import Row, compare, judge

NAMES = (
    *("nvidia-utils-580", "libnvidia-compute-580", "nvidia-container-toolkit"),
    *("nvidia-container-toolkit-base", "libnvidia-container-tools", "libnvidia-container1", "jq"),
)
_VERSION = "1.20.0-1"
_FRESH = (
    "export DEBIAN_FRONTEND=noninteractive\n"
    f"dpkg --purge {' '.join(NAMES)} >/dev/null 2>&1\n"
    "apt-get -qq -y autoremove --purge >/dev/null 2>&1\n"
    "apt-get clean\n"
    "rm -rf /var/lib/apt/lists/* /etc/nvidia-container-runtime"
    " /etc/apt/sources.list.d/bench.sources /var/lib/concourse-ci-machine/gpu*"
)


def first(machine: Machine, screen: Screen, rounds: int) -> list[Row]:
    """Measure enable-gpu=true on a worker that never had it, against apt alone."""
    with worker(machine, screen, **{"enable-gpu": False}) as deployed:
        screen.line("Deploying a worker without a GPU")
        for hook in ("install", "leader-elected", "config-changed", "start"):
            deployed.run(hook)
        deployed.relate()
        ours, theirs = [], []
        for number in range(rounds):
            screen.line(f"The first set-up and apt alone, {number + 1} of {rounds}")
            theirs.append(_bare(deployed))
            ours.append(_set_up(deployed))
    row = compare("first set-up of the GPU", "apt-get of the same packages", ours, theirs)
    note = "the packages are small stand-ins: a real download adds the same to both"
    return [replace(judge(row, goals.SET_UP), group="hooks", note=note)]


def _set_up(deployed: Deployed) -> float:
    """Return how long the hook takes that turns the GPU on, in milliseconds."""
    deployed.machine.shell(_FRESH, timeout=120)
    deployed.unit.model.config["enable-gpu"] = True
    took = deployed.run("config-changed").seconds * 1000
    deployed.settle()
    deployed.unit.model.config["enable-gpu"] = False
    deployed.run("config-changed")
    return took


def _bare(deployed: Deployed) -> float:
    """Return how long apt-get takes that an operator would type, in milliseconds."""
    machine = deployed.machine
    machine.shell(_FRESH, timeout=120)
    key = [
        f" {line}" if line.strip() else " ."
        for line in deployed.world.repositories.key.splitlines()
    ]
    arch = machine.shell("dpkg --print-architecture").strip()
    machine.write(
        "/etc/apt/sources.list.d/bench.sources",
        f"Types: deb\nURIs: {URL}/{packages.TOOLKIT}/{arch}\nSuites: ./\nSigned-By:\n"
        + "\n".join(key)
        + "\n",
    )
    pinned = " ".join(f"{name}={_VERSION}" if "container" in name else name for name in NAMES)
    driver = f"{DRIVER}-0ubuntu0.24.04.1"
    pinned = pinned.replace("-580", f"-580={driver}")
    script = (
        "export DEBIAN_FRONTEND=noninteractive\napt-get -qq update\n"
        f"apt-get -qq -y --no-install-recommends install {pinned} >/dev/null"
    )
    began = time.monotonic()
    machine.shell(script, timeout=300)
    return (time.monotonic() - began) * 1000
