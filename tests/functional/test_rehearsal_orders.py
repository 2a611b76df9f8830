"""Any order of the hooks that Juju allows ends in the same deployment."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from contextlib import ExitStack

import pytest

from rehearsal.choice import Choice
from rehearsal.controller import Event
from rehearsal.machine import MachineError
from rehearsal.model_stage import Stage
from rehearsal.play import unpacked_charm
from rehearsal.screen import Screen
from rehearsal.standins.gpu import Hardware

WEB, WORKER = "web/0", "worker/0"


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    """Machines for a database, a web and a worker."""
    with ExitStack() as resources:
        made = Stage(Choice(), Screen(), resources)
        try:
            machine = made.boot("postgresql-0")
            made.charm = unpacked_charm(made.choice, machine, made.screen)
            made.serve_database(machine)
            for name in ("web-0", "worker-0"):
                made.prepare(name, Hardware().without_gpus())
        except MachineError as error:
            pytest.fail(str(error), pytrace=False)
        yield made


@pytest.mark.parametrize("seed", range(3))
def test_any_order_ends_in_the_same_state(stage: Stage, seed: int) -> None:
    chance = random.Random(seed)

    def choose(events: Sequence[Event]) -> Event:
        return chance.choice(events)

    stage.controller.choose = choose
    stage.deploy("web", "web-0", deployment_mode="web")
    stage.deploy("worker", "worker-0", deployment_mode="worker")
    relations = [
        ("web:database", "postgresql:database"),
        ("web:web-tsa", "worker:worker-tsa"),
    ]
    chance.shuffle(relations)
    for ends in relations:
        stage.relate(*ends)
    stage.settle()
    assert stage.expect(WORKER, "active  Worker ready")
    assert stage.expect(WEB, "active  Web ready")
    for name in (WORKER, WEB):
        stage.controller.remove_unit(name)
    stage.settle()
    stage.controller.links.clear()  # the applications go with their units
    stage.database.forget("web")
    for name in (WORKER, WEB):
        left = "ls -d /etc/concourse /opt/concourse* /var/lib/concourse* 2>/dev/null"
        assert not stage.units[name].machine.shell(left, check=False)
