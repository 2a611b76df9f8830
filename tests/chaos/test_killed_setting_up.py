"""Set-up, killed anywhere: with its packages there, then what comes before on a bare machine."""

from __future__ import annotations

import pytest

from tests.chaos.frame import Chaos
from tests.chaos.killing import BARE, UNDONE, Lab, Procedure, kill_everywhere

PROCEDURES = (
    Procedure("set-up with the packages there", UNDONE, (("enable-gpu", True),)),
    Procedure("set-up", BARE, (("enable-gpu", True),)),
)


@pytest.mark.parametrize("procedure", PROCEDURES, ids=str)
def test_killed_anywhere(chaos: Chaos, lab: Lab, procedure: Procedure) -> None:
    if chaos.quick and PROCEDURES.index(procedure) % 2 != chaos.seed % 2:
        return  # the seed chooses: each costs as much to begin as its kills
    kill_everywhere(chaos, lab, procedure)
