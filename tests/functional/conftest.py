"""The machine that the functional tests use: a throw-away copy of this one.

Each module gets one of its own, booted on first use, with an NVIDIA GPU that has a
loaded driver (a stand-in), and the rehearsal's world around it: apt repositories,
Concourse releases, a web.  Inside, everything is real: apt, dpkg, systemd, files,
containerd, runc.  Tests that change what others of the module rely on put it back.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from rehearsal.machine import Completed, Machine, MachineError, MachineOptions
from rehearsal.standins import gpu
from rehearsal.world import World, around

SOURCE = Path(__file__).resolve().parent.parent.parent

# Runs a script inside; `host`, `files`, `gpu` and `concourse` can be imported, and their
# dependencies.  A status other than 0 fails the test unless check=False.
Inside = Callable[..., Completed]


@pytest.fixture(scope="module")
def machine() -> Iterator[Machine]:
    """A booted machine with one GPU."""
    binds = tuple({SOURCE, Path(sys.prefix), Path(sys.base_prefix)})
    try:
        with Machine.boot(MachineOptions(binds=binds)) as booted:
            gpu.plug(booted, gpu.Hardware())
            yield booted
    except MachineError as error:
        pytest.fail(str(error), pytrace=False)


@pytest.fixture(scope="module")
def world(machine: Machine) -> Iterator[World]:
    """The world around the machine: repositories, releases, a web that takes any worker."""
    with around(machine) as built:
        yield built


@pytest.fixture
def inside(machine: Machine) -> Inside:
    """Return a function that runs Python source inside, with lib/ to import from."""

    def run(script: str, *, timeout: float = 60, check: bool = True) -> Completed:
        return machine.python(script, timeout=timeout, path=[SOURCE / "lib"], check=check)

    return run
