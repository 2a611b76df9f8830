"""How many workers' databags a web's hooks read, with 1, 100 and 1,000 of them related."""

from __future__ import annotations

from pathlib import Path

import pytest

from rehearsal.standins.model import Relation
from tests.unit.small_world import World, key_of

MANY = (1, 100, 1000)


@pytest.fixture(params=MANY)
def world(request: pytest.FixtureRequest, tmp_path: Path) -> World:
    """A web that runs and has let so many workers in."""
    world = World(tmp_path)
    world.add("web/0", deployment_mode="web")
    world.relate("web:database", "postgresql:database")
    world.relate("web:web-tsa", "worker:worker-tsa")
    world.controller.settle()
    for number in range(request.param):
        say_key(workers(world), number)
    world.units["web/0"].hook("config-changed")
    return world


def workers(world: World) -> Relation:
    """Return the web's relation to its workers."""
    return next(one for one in world.units["web/0"].model.relations if one.name == "web-tsa")


def say_key(relation: Relation, number: int, app: str = "worker") -> str:
    """Have one more worker related that has said its name and key; return its unit."""
    unit, name = f"{app}/{number}", f"{app}-{number}"
    relation.remote_units.append(unit)
    relation.bag(unit).update({"worker-name": name, "worker-public-key": key_of(name)})
    return unit


def test_a_joining_worker_costs_one_read_however_many_there_are(world: World) -> None:
    unit = world.units["web/0"]
    there = len(workers(world).remote_units)
    for event in ("joined", "changed"):
        joining = say_key(workers(world), there) if event == "joined" else f"worker/{there}"
        unit.hook(f"web-tsa-relation-{event}", workers(world), joining)
        assert {name: times for name, times in unit.read.items() if name.startswith("worker/")} == {
            joining: 1
        }
        assert sum(unit.read.values()) <= 6
    assert len(world.machines["web/0"].keys or {}) == there + 1


def test_a_departing_worker_costs_one_read_however_many_there_are(world: World) -> None:
    unit = world.units["web/0"]
    leaving = workers(world).remote_units.pop()
    unit.hook(
        "web-tsa-relation-departed",
        workers(world),
        leaving,
        env={"JUJU_DEPARTING_UNIT": leaving},
    )
    read = {name: times for name, times in unit.read.items() if name.startswith("worker/")}
    assert read == {leaving: 1}
    assert sum(unit.read.values()) <= 6


def test_update_status_reads_no_worker(world: World) -> None:
    unit = world.units["web/0"]
    unit.hook("update-status")
    assert not [name for name in unit.read if name.startswith("worker/")]


def test_a_full_pass_reads_each_worker_once(world: World) -> None:
    unit = world.units["web/0"]
    unit.hook("config-changed")
    read = {name: times for name, times in unit.read.items() if name.startswith("worker/")}
    assert read == dict.fromkeys(workers(world).remote_units, 1)


@pytest.fixture(params=MANY)
def chosen(request: pytest.FixtureRequest, tmp_path: Path) -> World:
    """A web that was chosen by deployment-mode=auto and has let so many of its peers in."""
    world = World(tmp_path)
    world.add("ci/0", deployment_mode="auto")
    world.add("ci/1")
    world.relate("ci:database", "postgresql:database")
    world.controller.settle()
    for number in range(2, request.param + 2):
        for name in world.units:
            say_key(peers(world, name), number, "ci")
    world.units["ci/0"].hook("config-changed")
    return world


def peers(world: World, unit: str) -> Relation:
    """Return a unit's relation to its peers."""
    found = world.units[unit].model.relations
    return next(one for one in found if one.name == "concourse-peer")


@pytest.mark.parametrize("unit", ["ci/0", "ci/1"], ids=["the web", "a worker"])
def test_a_joining_peer_costs_one_read_however_many_there_are(chosen: World, unit: str) -> None:
    there = len(chosen.machines["ci/0"].keys or {})
    joining = say_key(peers(chosen, unit), there + 1, "ci")
    for event in ("joined", "changed"):
        chosen.units[unit].hook(f"concourse-peer-relation-{event}", peers(chosen, unit), joining)
        read = chosen.units[unit].read
        assert read[joining] == 1
        assert sum(read.values()) <= 8
    assert len(chosen.machines["ci/0"].keys or {}) == there + (unit == "ci/0")
