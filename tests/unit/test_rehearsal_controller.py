"""The stand-in for Juju's controller: which hooks it sends to which unit, in which order."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from typing import cast

import pytest

from rehearsal.controller import Controller, Event
from rehearsal.juju import Run, Unit
from rehearsal.standins.model import Model, Relation, Secret

Charm = Callable[[Model, str, Relation | None], None]


class FakeUnit:
    """Runs a small charm in a hook's place, and remembers what it was sent."""

    def __init__(self, name: str, charm: Charm = lambda *_: None) -> None:
        self.model = Model(unit=name, config={"mode": "web"})
        self.hooks: list[str] = []
        self.departing: list[str] = []
        self._charm = charm

    def hook(
        self,
        name: str,
        relation: Relation | None = None,
        remote_unit: str = "",
        *,
        env: Mapping[str, str],
    ) -> Run:
        self.hooks.append(f"{name} {remote_unit}".strip())
        if name.endswith("-departed"):
            self.departing.append(env["JUJU_DEPARTING_UNIT"])
        self._charm(self.model, name, relation)
        return Run(name)


def tell_key(model: Model, _: str, relation: Relation | None) -> None:
    if relation:
        relation.bag(model.unit)["key"] = f"of {model.unit}"


def with_units(*units: FakeUnit) -> Controller:
    controller = Controller()
    for unit in units:
        controller.add_unit(cast("Unit", unit))
    return controller


def test_a_unit_starts_in_jujus_order() -> None:
    unit = FakeUnit("web/0")
    controller = with_units(unit)
    controller.relate("web:peers")
    controller.settle()
    assert unit.hooks == [
        "install",
        "peers-relation-created",
        "leader-elected",
        "config-changed",
        "start",
    ]


def test_what_one_side_writes_is_the_others_relation_changed() -> None:
    web, worker = FakeUnit("web/0"), FakeUnit("worker/0", tell_key)
    controller = with_units(web, worker)
    controller.settle()
    web.hooks.clear()
    worker.hooks.clear()
    link = controller.relate("web:tsa", "worker:tsa")
    controller.settle()
    assert worker.hooks == [
        "tsa-relation-created",
        "tsa-relation-joined web/0",
        "tsa-relation-changed web/0",
    ]
    assert web.hooks == [
        "tsa-relation-created",
        "tsa-relation-joined worker/0",
        "tsa-relation-changed worker/0",
    ]
    link.bags["worker/0"]["key"] = "another"
    link.bags["worker"] = {"shared": "by all"}
    web.hooks.clear()
    controller.settle()
    assert sorted(web.hooks) == ["tsa-relation-changed", "tsa-relation-changed worker/0"]


def test_a_removed_unit_has_left_before_its_own_hooks() -> None:
    web, worker = FakeUnit("web/0"), FakeUnit("worker/0", tell_key)
    controller = with_units(web, worker)
    controller.relate("web:tsa", "worker:tsa")
    controller.settle()
    web.hooks.clear()
    worker.hooks.clear()
    controller.remove_unit("worker/0")
    assert [event.agent.name for event in controller.pending(controller.agents["web/0"])]
    controller.settle()
    assert web.hooks == ["tsa-relation-departed worker/0"]
    assert worker.hooks == ["tsa-relation-departed web/0", "tsa-relation-broken", "stop", "remove"]
    assert web.departing == worker.departing == ["worker/0"]
    assert list(controller.agents) == ["web/0"]


def test_another_leader_is_elected() -> None:
    first, second = FakeUnit("ci/0"), FakeUnit("ci/1")
    controller = with_units(first, second)
    controller.settle()
    assert "leader-elected" not in second.hooks
    controller.remove_unit("ci/0")
    controller.settle()
    assert second.hooks[-1] == "leader-elected"


def test_a_secret_that_was_read_and_revised_is_told_once() -> None:
    unit = FakeUnit("web/0")
    controller = with_units(unit)
    controller.secrets["secret:1"] = Secret("", "application", {"a": "1"}, granted={"web"})
    controller.settle()
    secret = controller.secrets["secret:1"]
    secret.read("web/0", refresh=True)
    secret.revise({"a": "2"})
    unit.hooks.clear()
    controller.settle()
    assert unit.hooks == ["secret-changed"]
    assert secret.read("web/0") == {"a": "1"}
    assert secret.read("web/0", refresh=True) == {"a": "2"}


def test_a_changed_option_is_told() -> None:
    unit = FakeUnit("web/0")
    controller = with_units(unit)
    controller.settle()
    unit.hooks.clear()
    unit.model.config["mode"] = "all"
    controller.settle()
    assert unit.hooks == ["config-changed"]


@pytest.mark.parametrize("seed", range(20))
def test_whatever_the_order_joined_comes_before_changed(seed: int) -> None:
    chance = random.Random(seed)
    web, worker = FakeUnit("web/0", tell_key), FakeUnit("worker/0", tell_key)
    controller = with_units(web, worker)
    controller.choose = lambda events: cast("Event", chance.choice(events))
    controller.relate("web:tsa", "worker:tsa")
    controller.settle()
    for unit, other in ((web, "worker/0"), (worker, "web/0")):
        joined = unit.hooks.index(f"tsa-relation-joined {other}")
        assert unit.hooks[joined + 1] == f"tsa-relation-changed {other}"
        assert unit.hooks.index("start") < joined
