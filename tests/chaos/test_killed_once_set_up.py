"""What comes after set-up, killed anywhere: undo, and upgrades."""

from __future__ import annotations

import pytest

from rehearsal.standins import release
from tests.chaos.frame import Chaos
from tests.chaos.killing import SET_UP, Lab, Procedure, kill_everywhere

PROCEDURES = (
    Procedure("undo", SET_UP, (("enable-gpu", False),)),
    Procedure("a Concourse upgrade", SET_UP, release=release.NEXT_VERSION),
    Procedure("a toolkit upgrade", SET_UP, (("nvidia-toolkit-version", "1.20.1"),)),
)


@pytest.mark.parametrize("procedure", PROCEDURES, ids=str)
def test_killed_anywhere(chaos: Chaos, lab: Lab, procedure: Procedure) -> None:
    if chaos.quick and PROCEDURES.index(procedure) % 2 != chaos.seed % 2:
        return  # the seed chooses: each costs as much to begin as its kills
    kill_everywhere(chaos, lab, procedure)
