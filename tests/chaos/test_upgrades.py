"""The toolkit and Concourse change under the charm, and people put their hands in."""

from __future__ import annotations

import pytest

from rehearsal.juju import Unit
from rehearsal.machine import Machine
from rehearsal.world import World
from tests.chaos.frame import Chaos
from tests.chaos.units import GPU, assemble, installed, settle

PROMISE = "Someone or something changes the chain: the next hook ends with the checklist passed."


@pytest.fixture(scope="module")
def unit(machine: Machine, world: World, tmp_path_factory: pytest.TempPathFactory) -> Unit:
    """A worker whose tasks have the GPU."""
    charm = assemble(machine, tmp_path_factory.mktemp("charm"))
    unit = installed(machine, world, charm, enable_gpu=True)
    settle(unit, GPU)
    return unit


def test_runc_restored_by_hand(chaos: Chaos, unit: Unit) -> None:
    with chaos.case(PROMISE):
        unit.machine.shell("cd /opt/concourse/bin && cp -p runc.real x && mv x runc")
        unit.hook("update-status")
        checks = unit.action("verify-gpu")
        assert checks.failure is None, checks.results
