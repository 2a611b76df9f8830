"""deployment-mode=auto on several units: who runs the web, whoever leads and whenever it began."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.small_world import World


@pytest.fixture
def world(tmp_path: Path) -> World:
    """Three units that have begun; the first one leads and runs the web."""
    world = World(tmp_path)
    for number in range(3):
        world.add(f"ci/{number}", deployment_mode="auto")
    world.controller.settle()
    assert chosen(world) == "ci/0"
    return world


def chosen(world: World) -> str:
    return world.controller.links[0].bags["ci"]["web-unit"]


def test_a_leader_that_knows_no_peer_yet_leaves_the_choice_alone(world: World) -> None:
    world.add("ci/3")
    world.controller.lead("ci", "ci/3")
    events = world.controller.pending(world.controller.agents["ci/3"])
    while events[0].kind != "joined":
        world.controller.run(events[0])
        events = world.controller.pending(world.controller.agents["ci/3"])
    assert not events[0].part or not events[0].part.relation.remote_units
    assert world.units["ci/3"].hooks[-1] == "start"
    assert chosen(world) == "ci/0"


def test_a_leader_elected_after_the_web_went_chooses_again(world: World) -> None:
    world.controller.lead("ci", "ci/1")
    world.controller.settle()
    world.controller.remove_unit("ci/0")
    world.controller.lead("ci", "none")  # nobody for an instant
    world.controller.settle()
    assert chosen(world) == "ci/0"
    world.controller.lead("ci", "ci/2")
    world.controller.settle()
    assert chosen(world) == "ci/1"


def test_a_leader_that_runs_no_web_asks_for_the_database_and_makes_the_keys(world: World) -> None:
    world.controller.lead("ci", "ci/2")
    world.controller.settle()
    world.relate("ci:database", "postgresql:database")
    world.controller.settle()
    world.update_all()
    statuses = [world.units[f"ci/{number}"].model.status for number in range(3)]
    ready = ("active", "Worker ready")
    assert statuses == [("active", "Web ready"), ready, ready]


@pytest.mark.parametrize("mode", ["all", "worker"])
def test_a_unit_that_changes_its_roles_takes_back_what_it_said(world: World, mode: str) -> None:
    world.relate("ci:database", "postgresql:database")
    world.controller.settle()
    bags = world.controller.links[0].bags
    assert {"tsa-host", "tsa-port", "concourse-version"} < bags["ci/0"].keys()
    assert "worker-name" in bags["ci/1"]
    world.units["ci/0"].model.config["deployment-mode"] = mode
    world.controller.settle()
    assert mode == "all" or "tsa-host" not in bags["ci/0"]
    world.units["ci/0"].model.config["deployment-mode"] = "web"
    world.controller.settle()
    assert "worker-name" not in bags["ci/1"]
