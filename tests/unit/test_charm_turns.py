"""The charm's units take turns to be down: several units, one hook after the other."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ops import testing

import charm
import turns
from host import Layout
from tests.unit.charm_fakes import PEERS_ID, FakeWorkload, web

WAITS = testing.WaitingStatus("Worker ready; a restart waits for its turn (max-unavailable=1)")
READY = testing.ActiveStatus("Worker ready")


class Model:
    """An application of several workers under ops.testing: bags that all of them share."""

    def __init__(
        self, monkeypatch: pytest.MonkeyPatch, machines: Path, units: int, **config: Any
    ) -> None:
        self.config = {name.replace("_", "-"): value for name, value in config.items()}
        self.workloads = [FakeWorkload() for _ in range(units)]
        self.contexts = [testing.Context(charm.ConcourseCharm, unit_id=unit)
                         for unit in range(units)]  # fmt: skip
        self.bags: dict[int, dict[str, str]] = {number: {} for number in range(units)}
        self.said: dict[str, str] = {}
        self.leader = 0
        self._monkeypatch = monkeypatch
        self._machines = machines

    def hook(self, unit: int, name: str = "update_status") -> testing.UnitStatus:
        """Run a hook of one unit and keep what it says."""
        self._monkeypatch.setattr(charm, "Workload", self.workloads[unit])
        layout = Layout(self._machines / str(unit))
        self._monkeypatch.setattr(charm.ConcourseCharm, "layout", layout)
        context = self.contexts[unit]
        others = {number: bag for number, bag in self.bags.items() if number != unit}
        peers = testing.PeerRelation(
            "concourse-peer",
            id=PEERS_ID,
            peers_data=dict(others),
            local_unit_data=self.bags[unit],
            local_app_data=self.said,
        )
        state = testing.State(
            leader=unit == self.leader,
            config={"deployment-mode": "worker", **self.config},
            relations=[peers, web()],
            resources={testing.Resource(name="concourse", path="/dev/null")},
        )
        if name == "peer_changed":
            event: Any = context.on.relation_changed(peers, remote_unit=min(others))
        elif name == "peer_departed":
            gone = min(others)
            event = context.on.relation_departed(peers, remote_unit=gone, departing_unit=gone)
        else:
            event = getattr(context.on, name)()
        out = context.run(event, state)
        after = out.get_relation(PEERS_ID)
        self.bags[unit] = dict(after.local_unit_data)
        self.said = dict(after.local_app_data)
        return out.unit_status

    def change(self) -> None:
        """The operator changes what every worker reads at start."""
        for workload in self.workloads:
            workload.stale = True

    def an_hour_passes(self) -> None:
        """Make what the leader remembers an hour older."""
        memory = Layout(self._machines / str(self.leader)).state / "turns.json"
        heard = json.loads(memory.read_text())
        for said in heard.values():
            said[1] -= 3600
        memory.write_text(json.dumps(heard))

    def down(self) -> list[int]:
        return [number for number, workload in enumerate(self.workloads) if workload.down]

    def rounds(self) -> Iterator[list[int]]:
        for _ in range(2):
            for unit in self.bags:
                self.hook(unit)
                yield self.down()


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Model:
    return Model(monkeypatch, tmp_path, 3)


def test_one_worker_after_the_other_goes_down(model: Model) -> None:
    model.change()
    assert model.hook(1, "config_changed") == WAITS
    assert model.hook(2, "config_changed") == WAITS
    assert model.down() == []
    model.hook(0, "config_changed")
    assert len(model.down()) == 1
    order = []
    for _ in range(3):
        for down in model.rounds():
            assert len(down) == 1
        order += model.down()
        model.workloads[model.down()[0]].down = False
        for unit in (*model.bags, *model.bags):
            model.hook(unit)
    assert sorted(order) == [0, 1, 2]
    assert model.down() == []
    assert model.hook(2) == READY


def test_the_leader_goes_in_the_same_hook_when_nobody_is_down(model: Model) -> None:
    model.workloads[0].stale = True
    model.hook(0, "config_changed")
    assert model.down() == [0]


def test_a_unit_that_is_alone_goes_in_the_same_hook(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    model = Model(monkeypatch, tmp_path, 1)
    model.leader = -1
    model.change()
    assert model.hook(0, "config_changed") == READY
    assert model.down() == [0]
    assert "turn" not in model.bags[0]


def test_as_many_as_max_unavailable_go_down(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    model = Model(monkeypatch, tmp_path, 4, max_unavailable=2)
    model.change()
    for unit in model.bags:
        model.hook(unit, "config_changed")
    assert all(len(down) <= 2 for down in model.rounds())
    assert len(model.down()) == 2


def test_another_leader_carries_on(model: Model) -> None:
    model.change()
    for unit in (1, 2, 0):
        model.hook(unit, "config_changed")
    model.hook(1)
    held = model.down()
    model.leader = 2
    model.hook(2, "leader_elected")
    assert all(down == held for down in model.rounds())


def test_a_unit_that_departs_has_no_turn_any_more(model: Model) -> None:
    model.workloads[1].stale = model.workloads[2].stale = True
    model.hook(1, "config_changed")
    model.hook(0)
    model.hook(1)
    model.hook(2, "config_changed")
    assert model.down() == [1]
    model.hook(0, "peer_departed")
    del model.bags[1]
    model.hook(2)
    assert model.down() == [1, 2]


def test_a_dead_unit_is_passed_over(model: Model) -> None:
    model.workloads[1].stale = model.workloads[2].stale = True
    model.hook(1, "config_changed")
    model.hook(0)
    model.hook(1)
    model.hook(2, "config_changed")
    for _ in range(3):
        model.hook(0)
        model.an_hour_passes()
    model.hook(0)
    model.hook(2)
    assert model.down() == [1, 2]


def test_who_is_down_for_long_keeps_its_turn_by_saying_so(model: Model) -> None:
    model.workloads[1].stale = model.workloads[2].stale = True
    model.hook(1, "config_changed")
    model.hook(0)
    model.hook(1)
    model.hook(2, "config_changed")
    for _ in range(4):
        for unit in (1, 0, 2):
            model.hook(unit)
        model.an_hour_passes()
    assert model.down() == [1]


def test_a_wish_that_is_taken_back_ends_the_request(model: Model) -> None:
    model.workloads[0].stale = model.workloads[1].stale = True
    model.hook(0, "config_changed")
    assert model.hook(1, "config_changed") == WAITS
    model.workloads[1].stale = False
    assert model.hook(1, "config_changed") == READY
    assert turns.asked(model.bags[1]) == 0


def test_what_a_peer_says_of_itself_is_the_leaders_business(model: Model) -> None:
    model.hook(1, "peer_changed")
    assert not model.workloads[1].wishes
    model.hook(0, "peer_changed")
    assert model.workloads[0].wishes


@pytest.mark.parametrize("value", [0, -1, 1001])
def test_max_unavailable_takes_a_number_of_workers(value: int, model: Model) -> None:
    model.config["max-unavailable"] = value
    assert model.hook(0) == testing.BlockedStatus(
        f"max-unavailable={value} is not a number from 1 to 1000"
    )
    assert not model.workloads[0].wishes
