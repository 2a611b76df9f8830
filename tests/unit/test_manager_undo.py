"""GpuManager on scratch machines: undone in reverse, and killed anywhere."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from files import write_file
from gpu import runtime
from tests.unit import gpu_machines
from tests.unit.gpu_machines import RUNC, WISH, Machine
from tests.unit.killing import killed_before_change

machine = gpu_machines.machine


def test_undoing_leaves_the_files_as_they_were_found(machine: Machine) -> None:
    before = machine.picture()
    machine.ensure()
    assert machine.undo()
    assert machine.picture() == before
    assert not machine.undo()


@pytest.mark.parametrize("way", ["ensure", "undo"])
def test_killed_anywhere_runc_works_and_the_next_hook_ends_the_same(
    way: str, tmp_path: Path
) -> None:
    def prepared(name: str) -> Machine:
        machine = Machine(tmp_path / name)
        if way == "undo":
            machine.ensure()
        return machine

    undisturbed = prepared("undisturbed")
    getattr(undisturbed, way)()
    expected = undisturbed.picture()
    number, killed = 0, True
    while killed:
        number += 1
        machine = prepared(str(number))
        killed = killed_before_change(number, getattr(machine, way))
        assert machine.runc_works(), f"killed before change {number}"
        getattr(machine, way)()
        assert machine.picture() == expected, f"killed before change {number}"
        shutil.rmtree(machine.layout.root)
    assert number > 20, "tracing found too few places to kill at"


@pytest.mark.parametrize("started", ["swap", "undone"])
def test_what_was_begun_and_killed_can_be_turned_the_other_way(
    started: str, tmp_path: Path
) -> None:
    """enable-gpu may change while a killed hook's work is half done."""
    before = Machine(tmp_path / "before").picture()
    number, killed = 0, True
    while killed:
        number += 1
        machine = Machine(tmp_path / str(number))
        if started == "undone":
            machine.ensure()
        first, then = (
            (machine.undo, machine.ensure)
            if started == "undone"
            else (
                machine.ensure,
                machine.undo,
            )
        )
        killed = killed_before_change(number, first)
        then()
        assert machine.runc_works()
        if started == "swap":
            assert machine.picture() == before, f"killed before change {number}"
        else:
            assert runtime.chain_stands(machine.layout)
        shutil.rmtree(machine.layout.root)


def test_every_tree_is_wrapped_and_every_tree_is_restored(machine: Machine) -> None:
    older = machine.layout.trees / "8.2.5"
    write_file(older / "bin/runc", RUNC, mode=0o755)
    trees = [older, machine.tree]
    machine.manager.ensure(WISH, trees, at_once=False)
    assert all(runtime.tree_is_wrapped(tree) for tree in trees)
    machine.manager.undo(trees)
    for tree in trees:
        assert runtime.classify(tree / "bin/runc") is runtime.Kind.ORIGINAL
        assert sorted(os.listdir(tree / "bin"))[-1] == "runc"


def test_disabled_and_never_begun_leaves_a_hand_made_swap_alone(machine: Machine) -> None:
    layout = machine.layout
    layout.runc.rename(layout.runc_real)
    write_file(layout.runc, "#!/bin/sh\n# NVIDIA_VISIBLE_DEVICES runc.real\n", mode=0o755)
    before = machine.picture()
    assert not machine.undo()
    assert machine.picture() == before
