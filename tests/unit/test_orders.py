"""Every order of hooks that Juju allows ends in the same deployment.

The charm and ops are real; the controller and its hook tools are the rehearsal's, and the
machines are modelled in small (`small_world`).  tests/functional has the same on machines.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.unit.small_world import World

# Orders of each deployment; each Python of CI plays others.
ORDERS = range(sys.version_info.minor * 100, sys.version_info.minor * 100 + 8)


def webs_and_workers(world: World) -> list[Callable[[], None]]:
    """Two webs of one application, two workers, PostgreSQL over `database`."""
    world.add("web/0", deployment_mode="web")
    world.add("web/1")
    world.add("worker/0", deployment_mode="worker")
    return [
        lambda: world.relate("web:database", "postgresql:database"),
        lambda: world.relate("web:web-tsa", "worker:worker-tsa"),
        lambda: world.add("worker/1"),
        world.rotate,
    ]


def over_the_legacy_relation(world: World) -> list[Callable[[], None]]:
    """A web and a worker, PostgreSQL over `pgsql`, its primary moves."""
    world.add("web/0", deployment_mode="web")
    world.add("worker/0", deployment_mode="worker", enable_gpu=True)
    return [
        lambda: world.relate("web:postgresql", "postgresql:db"),
        lambda: world.relate("web:web-tsa", "worker:worker-tsa"),
        lambda: world.move("10.0.1.2:5432"),
    ]


def all_on_each(world: World) -> list[Callable[[], None]]:
    """Two units with web and worker each."""
    world.add("one/0", deployment_mode="all")
    return [
        lambda: world.relate("one:database", "postgresql:database"),
        lambda: world.add("one/1"),
    ]


def roles_chosen(world: World) -> list[Callable[[], None]]:
    """Three units that choose their roles; another one leads, the web's unit goes."""
    world.add("ci/0", deployment_mode="auto")
    for _ in range(2):  # it knows no peer yet, leads, and chooses itself
        world.controller.step()
    world.add("ci/1")
    world.add("ci/2")
    return [
        lambda: world.relate("ci:database", "postgresql:database"),
        lambda: world.controller.lead("ci", "ci/1"),
    ]


def units_go(world: World) -> list[Callable[[], None]]:
    """A web and a worker go, with the web that leads, while the others are being related."""
    for number in range(2):
        world.add(f"web/{number}", deployment_mode="web")
        world.add(f"worker/{number}", deployment_mode="worker")
    world.controller.settle()
    return [
        lambda: world.relate("web:database", "postgresql:database"),
        lambda: world.relate("web:web-tsa", "worker:worker-tsa"),
        lambda: world.controller.remove_unit("web/0"),
        lambda: world.controller.remove_unit("worker/0"),
    ]


def the_chosen_goes(world: World) -> list[Callable[[], None]]:
    """The unit goes that was chosen to run the web, while the others begin."""
    world.add("ci/0", deployment_mode="auto")
    for _ in range(5):  # up to its start
        world.controller.step()
    world.add("ci/1")
    world.add("ci/2")
    return [
        lambda: world.relate("ci:database", "postgresql:database"),
        lambda: world.controller.remove_unit("ci/0"),
    ]


DEPLOYMENTS = [
    webs_and_workers,
    over_the_legacy_relation,
    all_on_each,
    roles_chosen,
    units_go,
    the_chosen_goes,
]
Deployment = Callable[[World], list[Callable[[], None]]]


def play(world: World, deployment: Deployment, chance: random.Random | None) -> str:
    """Have it all happen, shuffled if there is chance; return what it came to."""
    happenings = deployment(world)
    if chance:
        world.controller.choose = chance.choice
        chance.shuffle(happenings)
    for happening in happenings:
        for _ in range(chance.randrange(12) if chance else 0):
            world.controller.step()
        happening()
    world.controller.settle()
    world.update_all()
    return world.end()


@pytest.mark.parametrize("seed", ORDERS)
@pytest.mark.parametrize("deployment", DEPLOYMENTS)
def test_any_order_ends_in_the_same_state(
    deployment: Deployment, seed: int, tmp_path: Path, usual: dict[Deployment, str]
) -> None:
    if deployment not in usual:
        usual[deployment] = play(World(tmp_path / "usual"), deployment, None)
        assert '"active"' in usual[deployment]
        assert '"waiting"' not in usual[deployment]
        assert '"blocked"' not in usual[deployment]
    assert play(World(tmp_path / "one"), deployment, random.Random(seed)) == usual[deployment]


@pytest.fixture(scope="module")
def usual() -> dict[Deployment, str]:
    """What each deployment comes to in the order that Juju prefers."""
    return {}
