"""Turns to be down: what the units say, what the leader decides, and what comes of it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import turns
from turns import SILENCE, Turns


def now_after(said: Turns, asked: Mapping[str, int], most: int = 1) -> Mapping[str, int]:
    return turns.decide(said, asked, most).now


def test_who_has_asked_longest_is_first() -> None:
    assert now_after(Turns(), {"w/2": 4, "w/10": 3, "w/1": 4}) == {"w/10": 3}
    assert now_after(Turns(), {"w/10": 4, "w/2": 4}, 1) == {"w/2": 4}


def test_who_has_a_turn_keeps_it() -> None:
    said = Turns(7, {"w/5": 7, "w/6": 7})
    assert now_after(said, {"w/5": 7, "w/6": 7, "w/1": 2}) == {"w/5": 7, "w/6": 7}


def test_a_turn_is_for_one_request_and_ends_with_it() -> None:
    said = Turns(7, {"w/5": 7})
    assert now_after(said, {"w/5": 8, "w/1": 3}) == {"w/1": 3}
    assert now_after(said, {"w/1": 3}) == {"w/1": 3}


def test_who_fell_silent_is_passed_over_until_it_asks_anew() -> None:
    said = turns.decide(Turns(7, {"w/5": 7}), {"w/5": 7, "w/1": 9}, 1, silent=["w/5"])
    assert (said.now, said.passed) == ({"w/1": 9}, {"w/5": 7})
    assert now_after(said, {"w/5": 7}) == {}
    assert now_after(said, {"w/5": 10}) == {"w/5": 10}


def test_a_number_is_never_used_twice() -> None:
    bag: dict[str, str] = {}
    turns.ask("w/0", bag, Turns(last=4))
    assert turns.asked(bag) == 5
    turns.ask("w/0", bag, Turns(last=9))
    assert turns.asked(bag) == 5, "it has asked"
    turns.end(bag)
    assert turns.asked(bag) == 0
    turns.ask("w/0", bag, Turns(last=2))
    assert turns.asked(bag) == 6
    turns.ask("w/0", bag, Turns(last=2, passed={"w/0": 6}))
    assert turns.asked(bag) == 7


@pytest.mark.parametrize("text", ["", "x", "7 ", "7 under", "-7", "٧", "7\n8", "9" * 16])
def test_what_is_no_request_counts_as_none(text: str) -> None:
    bag = {"turn": text}
    assert turns.asked(bag) == 0
    turns.ask("w/0", bag, Turns())
    assert turns.asked(bag) == 1


@pytest.mark.parametrize(
    "text",
    [
        *("{", "[]", "7", '{"more": 1}', "[" * 100_000, '{"last": null}', '{"last": true}'),
        *('{"now": null}', '{"now": ["w/0"]}', '{"now": {"w/0": "1"}}', '{"now": {"w": 1}}'),
        *('{"passed": {"w/0": -1}}', '{"last": 1000000000000000}'),
    ],
)
def test_what_another_revision_says_gives_nobody_a_turn(text: str) -> None:
    assert turns.read({"turns": text}) == Turns()


@pytest.mark.parametrize("text", ["", "x", "-1", "٧", "9" * 5000])
def test_a_renewal_of_another_revision_begins_anew(text: str) -> None:
    bag = {"turn-renewals": text}
    turns.renew(bag)
    assert bag == {"turn-renewals": "1"}
    turns.renew(bag)
    assert bag == {"turn-renewals": "2"}


def test_an_event_of_one_peer_costs_one_read_while_nobodys_turn_ends() -> None:
    bags: dict[str, dict[str, str]] = {f"w/{number}": {} for number in range(1000)}
    application: dict[str, str] = {}
    bags["w/7"]["turn"] = "1"
    turns.keep(application, bags, 2, nobody, lambda _: (), news={"w/8"})
    assert turns.read(application).now == {}, "nobody told of w/7"
    turns.keep(application, bags, 2, nobody, lambda _: (), news={"w/7"})
    bags["w/8"]["turn"] = bags["w/9"]["turn"] = "2"
    turns.keep(application, bags, 2, nobody, lambda _: (), news={"w/8"})
    assert turns.read(application).now == {"w/7": 1, "w/8": 2}
    bags["w/7"]["turn"] = "1 over"
    turns.keep(application, bags, 2, nobody, lambda _: (), news={"w/7"})
    assert turns.read(application).now == {"w/8": 2, "w/9": 2}, "whoever waits is found"


def test_only_those_who_have_a_turn_are_read_while_every_turn_is_taken() -> None:
    read = []

    class Counted(dict[str, dict[str, str]]):
        def __getitem__(self, name: str) -> dict[str, str]:
            read.append(name)
            return super().__getitem__(name)

    bags = Counted({f"w/{number}": {"turn": str(number + 1)} for number in range(1000)})
    application: dict[str, str] = {}
    turns.keep(application, bags, 1, nobody, lambda _: ())
    assert turns.read(application).now == {"w/0": 1}
    read.clear()
    turns.keep(application, bags, 1, nobody, lambda _: ())
    assert set(read) == {"w/0"}


def test_who_has_a_turn_keeps_it_while_a_new_leader_does_not_see_it_yet() -> None:
    application: dict[str, str] = {}
    turns.keep(application, {"w/1": {"turn": "1"}}, 1, nobody, lambda _: ())
    seen = {"w/0": {"turn": "1"}}
    turns.keep(application, seen, 1, nobody, lambda _: ())
    assert turns.read(application).now == {"w/1": 1}
    turns.keep(application, seen, 1, lambda unit: unit == "w/1", lambda _: ())
    assert turns.read(application).now == {"w/0": 1}


def nobody(_: str) -> bool:
    return False


def test_silence_is_told_by_the_leaders_own_clock() -> None:
    having = {"w/0": (3, ""), "w/1": (4, "")}
    heard = turns.listen({}, having, 100.0)
    heard = turns.listen(heard, having, 100.0 + SILENCE)
    assert turns.silent(heard, 100.0 + SILENCE) == set()
    heard = turns.listen(heard, {**having, "w/0": (3, "1"), "w/2": (5, "")}, 101.0 + SILENCE)
    assert turns.silent(heard, 101.0 + SILENCE) == {"w/1"}
    heard = turns.listen(heard, {"w/1": (4, "1")}, 102.0 + SILENCE)
    assert turns.silent(heard, 102.0 + SILENCE) == set()
    heard = turns.listen(heard, {"w/1": (4, "1")}, 50.0)
    assert turns.silent(heard, 49.0 + SILENCE) == set(), "the machine was started anew"


# --- a model of an application ----------------------------------------------------------

STEPS = ("hook", "read", "write", "want", "back", "tick", "die", "revive", "lead", "leave", "time")


@dataclass
class Unit:
    """A worker's unit: what it says, and what its worker does."""

    bag: dict[str, str] = field(default_factory=dict)
    wants: bool = False  # its settings are old
    down: bool = False
    dead: bool = False
    hook: tuple[dict[str, str], dict[str, str] | None] | None = None  # not yet written
    heard: turns.Heard = field(default_factory=dict)  # while it leads


@dataclass
class Application:
    """Units whose hooks overlap: each reads when it begins, and writes when it ends."""

    most: int
    units: dict[str, Unit]
    leader: str = "w/0"
    said: dict[str, str] = field(default_factory=dict)
    clock: float = 0.0
    had: list[str] = field(default_factory=list)

    def read(self, name: str, *, tick: bool = False) -> None:
        unit = self.units[name]
        if unit.dead or unit.hook:
            return
        mine, said = dict(unit.bag), dict(self.said)
        leads = name == self.leader
        if unit.wants and not unit.down:
            turns.ask(name, mine, turns.read(said))
            if leads:
                self.keep(name, mine, said)
            if turns.read(said).now.get(name) == turns.asked(mine):
                unit.down, unit.wants = True, False
                self.had.append(name)
        elif not unit.down:
            turns.end(mine)
        if tick and turns.read(said).now.get(name) == (turns.asked(mine) or None):
            turns.renew(mine)
        if leads:
            self.keep(name, mine, said)
        unit.hook = (mine, said if leads else None)

    def keep(self, name: str, mine: dict[str, str], said: dict[str, str]) -> None:
        bags = {other: unit.bag for other, unit in self.units.items()} | {name: mine}

        def lost(having: Mapping[str, tuple[int, str]]) -> set[str]:
            heard = turns.listen(self.units[name].heard, having, self.clock)
            self.units[name].heard = heard
            return turns.silent(heard, self.clock) - {name}

        turns.keep(said, bags, self.most, lambda one: one not in self.units, lost)

    def write(self, name: str) -> None:
        unit = self.units[name]
        if unit.hook:
            unit.bag, said = unit.hook
            self.said = said if said is not None else self.said
            unit.hook = None

    def lead(self, name: str) -> None:
        """Juju's leader stays so for as long as a hook needs, unless it dies."""
        if not self.units[name].dead and not self.units[self.leader].hook:
            self.leader = name

    def die(self, name: str) -> None:
        self.units[name].dead = True
        self.units[name].hook = None
        self.succeed()

    def leave(self, name: str) -> None:
        if len(self.units) > 2:
            del self.units[name]
            self.succeed()

    def succeed(self) -> None:
        alive = [name for name, unit in self.units.items() if not unit.dead]
        if self.leader not in alive and alive:
            self.leader = alive[0]

    def step(self, kind: str, number: int) -> None:
        name = list(self.units)[number % len(self.units)]
        unit = self.units[name]
        if kind == "hook":
            self.read(name)
            self.write(name)
        elif kind == "tick":
            self.read(name, tick=True)
            self.write(name)
        elif kind == "want":
            unit.wants = True
        elif kind == "back":
            unit.down = False
        elif kind == "revive":
            unit.dead = unit.down = False
            self.succeed()
        elif kind == "time":
            self.clock += SILENCE / 3
            for one in list(self.units):  # Juju's update-status comes far more often
                self.step("tick", list(self.units).index(one))
        else:
            getattr(self, kind)(name)

    def down(self) -> list[str]:
        """Who is down in its turn; one that fell silent counts until it is passed over."""
        passed = turns.read(self.said).passed
        return [name for name, unit in self.units.items()
                if unit.down and passed.get(name) != (turns.asked(unit.bag) or None)]  # fmt: skip


@settings(max_examples=100, deadline=None)
@given(
    st.integers(2, 5),
    st.integers(1, 2),
    st.lists(st.tuples(st.sampled_from(STEPS), st.integers(0, 4)), max_size=60),
)
def test_never_more_are_down_than_may_be_and_everybody_has_a_turn(
    units: int, most: int, steps: list[tuple[str, int]]
) -> None:
    model = Application(most, {f"w/{number}": Unit() for number in range(units)})
    for kind, number in steps:
        model.step(kind, number)
        assert len(model.down()) <= most, (kind, number)
    _everybody_has_a_turn(model)


def _everybody_has_a_turn(model: Application) -> None:
    """Hooks go on, workers come back: who lives and wants a turn has one, past the dead."""
    alive = [name for name, unit in model.units.items() if not unit.dead]
    for name in alive:
        model.write(name)
        model.units[name].wants = True
    model.had.clear()
    for round_ in range(8 * len(model.units)):
        for number, name in enumerate(list(model.units)):
            if name in alive:
                model.step("hook", number)
                assert len(model.down()) <= model.most
                if round_ % 2:
                    model.step("back", number)
        model.step("time", 0)
    assert sorted(set(model.had)) == sorted(alive)


@pytest.mark.parametrize("dead", [False, True], ids=["alive", "dead"])
def test_a_holder_loses_its_turn_only_if_its_agent_is_dead(dead: bool) -> None:
    model = Application(1, {name: Unit(wants=True) for name in ("w/0", "w/1", "w/2")})
    model.units["w/0"].wants = False
    for number in (1, 2, 0, 1):
        model.step("hook", number)
    assert model.down() == ["w/1"]
    model.units["w/1"].dead = dead
    for _ in range(12):
        model.step("time", 0)
        model.step("hook", 2)
    assert model.had == (["w/1", "w/2"] if dead else ["w/1"])
    assert json.loads(model.said["turns"])["passed"] == ({"w/1": 1} if dead else {})
