"""Whose turn it is to be down: at most max-unavailable workers of an application at once.

| bag of concourse-peer | key | what |
|---|---|---|
| unit | turn | the number of its request, "7"; "7 over" once it needs none any more |
| unit | turn-renewals | counted up by a unit that has its turn, at every update-status |
| application | turns | JSON: `last`, the highest number that had a turn; `now`, whose turn it is; |
| | | `passed`, who fell silent in its turn; both unit -> number of the request |

A worker that runs and would go down asks in its own bag, and goes when the leader names it
with the number that it asks with.  It never uses a number twice, so that what the leader
said to an earlier request is never taken for an answer to this one.  Once it is registered
again, its request is over.  A unit that departs has no turn; one that falls silent loses it,
by the leader's own clock: no two machines' clocks are compared.  All that a new leader needs
is in the bags.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Collection, Mapping, MutableMapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field

import ops

import peers
from concourse.worker import LAND_LIMIT
from files import read_text, write_file
from host import Layout

_TURN, _RENEWALS, _TURNS = "turn", "turn-renewals", "turns"
_END = 10**15  # no request has a number of more digits
# Seconds.  Longer than landing takes, which goes on without the agent, and than the longest
# pause between two update-status that Juju allows (an hour).
SILENCE = LAND_LIMIT + 900.0

Bag = Mapping[str, str]


@dataclass(frozen=True)
class Turns:
    """What the leader says.

    Attributes:
        last: the highest number that ever had a turn.
        now: whose turn it is: unit -> number of its request.
        passed: whose turn ended because it fell silent; with another number it is asked anew.
    """

    last: int = 0
    now: Mapping[str, int] = field(default_factory=dict)
    passed: Mapping[str, int] = field(default_factory=dict)


def read(application: Bag) -> Turns:
    """Return what the leader says in the application's bag."""
    try:
        said = Turns(**json.loads(application.get(_TURNS, "{}")))
        units = {**said.now, **said.passed}
        known = all(_place(unit) >= 0 for unit in units)
        numbers = (said.last, *units.values())
        whole = all(type(number) is int and 0 <= number < _END for number in numbers)
    except (ValueError, TypeError, RecursionError):  # another revision's; then nobody has a turn
        return Turns()
    return said if known and whole else Turns()


def asked(unit: Bag) -> int:
    """Return the number of a unit's request; 0 if it has none."""
    return 0 if unit.get(_TURN, "").endswith(" over") else _number(unit)


def ask(name: str, mine: MutableMapping[str, str], said: Turns) -> None:
    """Have a unit ask, if it doesn't yet; one that was passed over asks anew."""
    number = asked(mine)
    if number and said.passed.get(name) != number:
        return
    mine[_TURN] = str(max(_number(mine), said.last) + 1)
    mine.pop(_RENEWALS, None)


def end(mine: MutableMapping[str, str]) -> None:
    """Have a unit's request be over."""
    if number := asked(mine):
        mine[_TURN] = f"{number} over"
        mine.pop(_RENEWALS, None)


def renew(mine: MutableMapping[str, str]) -> None:
    """Say that a unit whose turn it is is still there."""
    before = mine.get(_RENEWALS, "")
    mine[_RENEWALS] = str(int(before) + 1 if re.fullmatch("[0-9]{1,15}", before) else 1)


def decide(
    said: Turns, requests: Mapping[str, int], most: int, silent: Collection[str] = ()
) -> Turns:
    """Return whose turn it is now: those who still have it, then who has asked longest.

    Args:
        said: what the leader, this one or one before it, said last.
        requests: unit -> number of its request, of every unit that is there and asks.
        most: how many turns there are; those who have one keep it when it is lowered.
        silent: units whose turn ends, as nothing was heard of them for too long.
    """
    open_ = requests.items()
    passed = {unit: number for unit, number in open_ if said.passed.get(unit) == number}
    passed |= {unit: number for unit, number in open_
               if unit in silent and said.now.get(unit) == number}  # fmt: skip
    waiting = {unit: number for unit, number in open_ if passed.get(unit) != number}
    now = {unit: number for unit, number in waiting.items() if said.now.get(unit) == number}
    queue = sorted(waiting.keys() - now.keys(), key=lambda unit: (waiting[unit], _place(unit)))
    for unit in queue[: max(0, most - len(now))]:
        now[unit] = waiting[unit]
    return Turns(max([said.last, *now.values()]), now, passed)


def keep(
    application: MutableMapping[str, str],
    bags: Mapping[str, Bag],
    most: int,
    gone: Callable[[str], bool],
    fell_silent: Callable[[Mapping[str, tuple[int, str]]], Collection[str]],
    news: Collection[str] | None = None,
) -> None:
    """Do the leader's part: say whose turn it is, if that has changed.

    While every turn is taken, only the bags of those who have one are read; while nobody's
    turn ends, and Juju tells of one unit, that one's too, as nobody else can be waiting.

    Args:
        application: the application's bag.
        bags: the bag of every unit that this one sees, its own too; read one by one.
        most: max-unavailable.
        gone: whether a unit that isn't seen was removed; a new leader may not know it yet.
        fell_silent: given whose turn it is, with number and renewals, returns who fell silent.
        news: the units that may say something new since the last call; None for any.
    """
    said = read(application)
    requests = {
        unit: asked(bags[unit]) if unit in bags else number
        for unit, number in {**said.passed, **said.now}.items()
        if unit in bags or not gone(unit)
    }
    having = {
        unit: (number, bags[unit].get(_RENEWALS, "") if unit in bags else "")
        for unit, number in said.now.items()
        if requests.get(unit) == number
    }
    lost = fell_silent(having)
    if len(having) - len(lost) < most:
        ended = lost or having.keys() != said.now.keys()
        unread = (bags.keys() if news is None or ended else bags.keys() & news) - requests.keys()
        requests |= {unit: asked(bags[unit]) for unit in unread}
    requests = {unit: number for unit, number in requests.items() if number}
    decided = decide(said, requests, most, lost)
    if decided != said:
        application[_TURNS] = json.dumps(asdict(decided), sort_keys=True)


def _number(unit: Bag) -> int:
    """Return the number of a unit's last request, over or not; 0 for none."""
    found = re.match(r"[0-9]{1,15}(?=$| over$)", unit.get(_TURN, ""))
    return int(found[0]) if found else 0


def _place(unit: str) -> int:
    return int(unit.rpartition("/")[2])


Heard = dict[str, tuple[str, float]]  # unit -> what it said of its turn, and since when


def listen(before: Heard, having: Mapping[str, tuple[int, str]], now: float) -> Heard:
    """Return since when each turn is as it is, by this machine's clock.

    Args:
        before: what the last call returned.
        having: whose turn it is, with number and renewals.
        now: seconds since this machine's start; a start sets it back, and the time begins anew.
    """
    heard: Heard = {}
    for unit, (number, renewals) in having.items():
        said = f"{number} {renewals}"
        was, since = before.get(unit, ("", 0.0))
        heard[unit] = (said, since if was == said and since <= now else now)
    return heard


def silent(heard: Heard, now: float) -> set[str]:
    """Return the units that have not renewed their turn for too long."""
    return {unit for unit, (_, since) in heard.items() if now - since > SILENCE}


class Turn:
    """One unit's turn, in one hook.

    Args:
        charm: the charm.
        layout: where everything lies.
        most: max-unavailable.
        gone: a peer that is on its way out, which Juju may still show.

    Attributes:
        waits: whether it was asked for in this hook, and is another's still.
    """

    def __init__(
        self,
        charm: ops.CharmBase,
        layout: Layout,
        most: int,
        gone: ops.Unit | None = None,
        news: ops.Unit | None = None,
    ) -> None:
        self._charm = charm
        self._layout = layout
        self._most = most
        self._gone = gone
        self._news = {charm.unit.name, news.name} if news else None
        self._peers = peers.relation(charm)
        self.waits = False

    def take(self) -> bool:
        """Ask to be down; True if it is this unit's turn.

        The leader, and a unit that is alone, need not wait for another hook.
        """
        if self._peers is None or not self._peers.units:
            return True
        said = read(self._peers.data[self._charm.app])
        ask(self._charm.unit.name, self._peers.data[self._charm.unit], said)
        self.keep()
        self.waits = waits(self._charm)
        return not self.waits

    def asked(self) -> bool:
        """Return whether this unit has asked, and its request is not over."""
        return bool(self._peers and asked(self._peers.data[self._charm.unit]))

    def end(self) -> None:
        """Say that this unit needs its turn no more."""
        if self._peers is not None:
            end(self._peers.data[self._charm.unit])

    def renew(self) -> None:
        """Say that this unit is still there, if it is its turn."""
        if self._peers is not None and self.asked() and not waits(self._charm):
            renew(self._peers.data[self._charm.unit])

    def keep(self) -> None:
        """Say whose turn it is, if this unit leads."""
        if self._peers is None or not self._charm.unit.is_leader():
            return
        data = self._peers.data
        units = {self._charm.unit, *self._peers.units} - {self._gone}
        bags = {unit.name: data[unit] for unit in units if unit}  # read when looked at
        keep(data[self._charm.app], bags, self._most, self._is_gone, self._fell_silent, self._news)

    def _is_gone(self, name: str) -> bool:
        return peers.is_gone(name, self._gone)

    def _fell_silent(self, having: Mapping[str, tuple[int, str]]) -> set[str]:
        """Return whose turn was not renewed for too long; this unit is there."""
        path = self._layout.state / "turns.json"
        try:
            before = json.loads(read_text(path) or "{}")
        except ValueError:
            before = {}
        now = time.monotonic()
        heard = listen(before, having, now)
        if heard or before:
            with suppress(OSError):  # then the time begins anew in the next hook
                write_file(path, json.dumps(heard) + "\n", mode=0o600)
        return silent(heard, now) - {self._charm.unit.name}


def waits(charm: ops.CharmBase) -> bool:
    """Return whether a unit has asked to be down, and it is another's turn still."""
    shared = peers.relation(charm)
    if shared is None or not shared.units:
        return False
    number = asked(shared.data[charm.unit])
    return number > 0 and read(shared.data[charm.app]).now.get(charm.unit.name) != number
