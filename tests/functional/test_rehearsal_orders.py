"""Any order of the hooks that Juju allows ends in the same deployment, on machines.

tests/unit/test_orders.py plays many more, without machines.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
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


def workers_first(events: Sequence[Event]) -> Event:
    """Have the web let the worker in by its very last hook, long after it was refused."""
    return next((event for event in events if event.agent.name == WORKER), events[0])


ORDERS: dict[str, Callable[[Sequence[Event]], Event]] = {
    "the worker's first": workers_first,
    "shuffled": random.Random(1).choice,
    "shuffled otherwise": random.Random(2).choice,
}


@pytest.mark.parametrize("order", ORDERS)
def test_any_order_ends_in_the_same_state(stage: Stage, order: str) -> None:
    stage.controller.choose = ORDERS[order]
    stage.deploy("web", "web-0", deployment_mode="web")
    stage.deploy("worker", "worker-0", deployment_mode="worker")
    stage.relate("web:web-tsa", "worker:worker-tsa")
    stage.relate("web:database", "postgresql:database")
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
