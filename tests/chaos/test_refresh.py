"""`juju refresh` from an earlier revision, while a task runs."""

from __future__ import annotations

from io import StringIO
from pathlib import Path

from rehearsal.choice import EARLIER, Choice
from rehearsal.machine import Machine
from rehearsal.play import earlier_charm
from rehearsal.refresh import refresh
from rehearsal.screen import Screen
from rehearsal.stage import Stage
from rehearsal.world import World
from tests.chaos.chain import put_right
from tests.chaos.frame import Chaos
from tests.chaos.units import GPU, assemble, installed, settle

PROMISE = (
    "juju refresh from an earlier revision while a task runs: the task lives on with its GPU, the"
    " worker restarts only for other settings, and the checklist passes"
)
# The commit before, and the first revision that was whole.
REVISIONS = ("HEAD~1", EARLIER)


def test_a_task_lives_through_a_refresh(
    chaos: Chaos, machine: Machine, world: World, tmp_path: Path
) -> None:
    present = assemble(machine, tmp_path / "charm")
    for revision in chaos.part(REVISIONS, quick=1):
        with chaos.case(PROMISE, revision):
            screen = Screen(StringIO())
            earlier = earlier_charm(revision, machine, screen)
            unit = installed(machine, world, earlier, enable_gpu=True)
            settle(unit, GPU)
            stage = Stage(Choice(refresh_from=revision), screen, machine, world, unit)
            refresh(stage, present)
            assert screen.wrong == []
            put_right(unit)
            for name in ("stop", "remove"):
                run = unit.hook(name)
                assert run.code == 0, run.trouble
