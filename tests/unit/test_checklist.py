"""The checklist's lines about GPUs: what is here now, and what a task sees of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from gpu import checklist
from gpu.looks import Offer
from gpu.selection import DeviceRequest
from host import Layout
from tests.unit.gpu_machines import WISH, Machine
from tests.unit.gpu_roots import gpu_uuid, mig_uuid, row

LISTED = "nvidia-smi lists the GPUs that tasks are given"


def line(layout: Layout, name: str = LISTED) -> checklist.Check:
    [found] = [check for check in checklist.checklist(layout, "") if check.name == name]
    return found


def offer(*spellings: tuple[str, str]) -> Offer:
    both = [pair for name, uuid in spellings for pair in ((name, uuid), (uuid, uuid))]
    return Offer(allowed=tuple(uuid for _, uuid in spellings), spellings=tuple(both))


ONE = offer(("0", gpu_uuid(0)))
TWO = offer(("0", gpu_uuid(0)), ("1", gpu_uuid(1)))
MIGS = offer(("0:0", mig_uuid(0)), ("0:1", mig_uuid(1)), ("1", gpu_uuid(1)))
OLD_MIGS = offer(("3:0", f"MIG-{gpu_uuid(3)}/1/0"), ("3:1", f"MIG-{gpu_uuid(3)}/2/0"))


@pytest.mark.parametrize(
    ("nodes", "offered", "reason"),
    [
        (("nvidia0",), ONE, ""),
        (("nvidia5",), ONE, ""),
        ((), ONE, "it sees none, of 1"),
        (("nvidia0", "nvidia1"), ONE, "it sees nvidia0, nvidia1, of 1"),
        (("nvidia0", "nvidia1"), TWO, ""),
        (("nvidia1",), TWO, "it sees nvidia1, of 2"),
        (("nvidia0", "nvidia1"), MIGS, ""),
        (("nvidia0",), MIGS, "it sees nvidia0, of 2"),
        (("nvidia3",), OLD_MIGS, ""),
    ],
)
def test_a_task_has_to_see_every_gpu(nodes: tuple[str, ...], offered: Offer, reason: str) -> None:
    assert checklist.amiss(nodes, offered) == reason


def test_what_is_here_is_what_was_settled(tmp_path: Path) -> None:
    machine = Machine(tmp_path, gpus=2)
    assert machine.ensure() == "GPU: 2x"
    assert str(line(machine.layout)) == f"pass     {LISTED}"


def test_before_anything_was_settled_no_gpu_is_usable(tmp_path: Path) -> None:
    assert line(Machine(tmp_path).layout).reason == "no GPU is usable"


def test_a_gpu_that_was_lost_since_is_named(tmp_path: Path) -> None:
    machine = Machine(tmp_path, gpus=2)
    machine.ensure()
    machine.root.smi(row(0))
    assert line(machine.layout).result == checklist.FAIL
    assert line(machine.layout).reason == f"{gpu_uuid(1)} is gone"


def test_a_driver_that_went_away_since_is_said_as_in_the_status(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    machine.ensure()
    machine.root.smi(status=15)
    assert line(machine.layout).reason == "GPU lost, it does not answer any more: reboot"


def test_a_gpu_that_is_new_counts_where_all_are_wanted(tmp_path: Path) -> None:
    machine = Machine(tmp_path, gpus=2)
    machine.root.smi(row(1))
    chosen = replace(WISH, request=DeviceRequest(False, ("1",)))
    machine.ensure(chosen)
    machine.root.smi(row(0), row(1))
    assert line(machine.layout).result == checklist.PASS
    machine.ensure()
    machine.ensure()
    machine.root.smi(row(0), row(1), row(2))
    assert line(machine.layout).reason == f"{gpu_uuid(2)} is new"


def test_gpus_that_changed_places_are_said(tmp_path: Path) -> None:
    machine = Machine(tmp_path, gpus=2)
    machine.ensure()
    swapped = row(0).replace(gpu_uuid(0), gpu_uuid(1)), row(1).replace(gpu_uuid(1), gpu_uuid(0))
    machine.root.smi(*swapped)
    assert line(machine.layout).reason == "their indices have changed"
