"""A Juju controller's part for several units: which hook comes next, and what it is told.

Each unit's agent is told what differs between the model and what it was told last, in the
order of Juju's uniter (worker/uniter/resolver.go and relation/resolver.go in Juju 3.6):
install, relation-created, leader-elected, config-changed, start; then whatever changes.
A joined is followed by its changed before anything else of that relation, but hooks of
other relations may come in between; peers are never told that their relation is broken.
One hook runs at a time.  `choose` may pick another of those that Juju could send next.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from .juju import Run, Unit
from .links import Link, Part, app_of
from .machine import MachineError
from .standins.model import Secret

_MOST = 300  # hooks until a model must have settled


@dataclass
class Agent:
    """One unit's agent.

    Attributes:
        told: the lifecycle's hooks that have run.
        config: the options when it was last told of them.
        leader: whether it was told that it leads.
        secrets: the revision of each secret that it was told of.
    """

    unit: Unit
    parts: dict[int, Part] = field(default_factory=dict)
    told: set[str] = field(default_factory=set)
    config: dict[str, Any] = field(default_factory=dict)
    leader: bool = False
    dying: bool = False
    secrets: dict[str, int] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return self.unit.model.unit

    @property
    def app(self) -> str:
        return self.unit.model.app


@dataclass(frozen=True)
class Event:
    """A hook that Juju could send now.

    Attributes:
        kind: such as "start", "created" or "changed".
        remote: the remote unit; "" for none.
        detail: the unit that departs, or the secret that changed.
    """

    agent: Agent
    kind: str
    part: Part | None = None
    remote: str = ""
    detail: str = ""

    @property
    def name(self) -> str:
        """Return the hook's name."""
        return f"{self.part.relation.name}-relation-{self.kind}" if self.part else self.kind

    def env(self) -> dict[str, str]:
        if self.kind == "secret-changed":
            return {"JUJU_SECRET_ID": self.detail, "JUJU_SECRET_LABEL": ""}
        return {"JUJU_DEPARTING_UNIT": self.detail} if self.kind == "departed" else {}


def _first(events: Sequence[Event]) -> Event:
    return events[0]


@dataclass
class Controller:
    """The model's units and relations.

    Attributes:
        report: told of each hook before it runs.
        outsiders: called after each hook; what has no machine here answers then.
        choose: picks the next of several hooks, the one that Juju would rather send first.
    """

    report: Callable[[Event], None] = lambda _: None
    outsiders: list[Callable[[], None]] = field(default_factory=list)
    choose: Callable[[Sequence[Event]], Event] = _first
    agents: dict[str, Agent] = field(default_factory=dict)
    links: list[Link] = field(default_factory=list)
    secrets: dict[str, Secret] = field(default_factory=dict)
    _numbers: int = 0

    def add_unit(self, unit: Unit) -> None:
        """Have a unit in the model; the first of its application leads."""
        model = unit.model
        model.secrets = self.secrets
        model.leader = not any(agent.app == model.app for agent in self.agents.values())
        self.agents[model.unit] = Agent(unit)

    def relate(self, *ends: str) -> Link:
        """Relate two "application:endpoint", or an application's units by one."""
        self._numbers += 1
        link = Link(self._numbers, dict(end.split(":", 1) for end in ends))
        self.links.append(link)
        return link

    def remove_unit(self, name: str) -> None:
        """Have a unit go: for the others it is gone at once, before its own hooks run."""
        agent = self.agents[name]
        agent.dying = True
        for link in self.links:
            link.scope.discard(name)
        self.lead(agent.app)

    def forget(self, app: str) -> None:
        """Let an application go whose units are gone, and its relations with it."""
        self.links = [link for link in self.links if app not in link.ends]
        self.agents = {name: agent for name, agent in self.agents.items() if agent.app != app}

    def lead(self, app: str, name: str = "") -> None:
        """Let another unit lead, the one given or, if need be, the first that stays."""
        alive = [one for one in self.agents.values() if one.app == app and not one.dying]
        leading = [one.name for one in alive if one.unit.model.leader]
        chosen = name or (leading or [one.name for one in alive] or [""])[0]
        for one in self.agents.values():
            if one.app == app:
                one.unit.model.leader = one.name == chosen

    def settle(self) -> None:
        """Run hooks until there is none left to send.

        Raises:
            MachineError: a hook failed, or there is no end to them.
        """
        for _ in range(_MOST):
            if not self.step():
                return
        raise MachineError(f"The model has not settled after {_MOST} hooks.")

    def step(self) -> bool:
        """Run one of the hooks that Juju could send next; False if there is none."""
        events = [event for agent in self._in_order() for event in self.pending(agent)]
        if events:
            self.run(self.choose(events))
        return bool(events)

    def run(self, event: Event) -> Run:
        """Run one hook.

        Raises:
            MachineError: it failed; Juju would go no further either.
        """
        self._before(event)
        self.report(event)
        part, unit = event.part, event.agent.unit
        relation = part.relation if part else None
        run = unit.hook(event.name, relation, event.remote, env=event.env())
        if run.code != 0:
            raise MachineError(f"{event.agent.name}: {event.name} failed:\n{run.trouble}")
        self._after(event)
        for outsider in self.outsiders:
            outsider()
        return run

    def pending(self, agent: Agent) -> list[Event]:
        """Return the hooks that Juju could send a unit now, the likeliest first."""
        agent.leader &= agent.unit.model.leader
        self._find_links(agent)
        if "start" not in agent.told:
            return _starting(agent)
        events = []
        if not agent.dying:
            events += _changes(agent)
            events += [Event(agent, "secret-changed", detail=one) for one in self._revised(agent)]
        for part in agent.parts.values():
            events += _relation_events(agent, part)
        if agent.dying and not events:
            return [Event(agent, "remove" if "stop" in agent.told else "stop")]
        return events

    def _in_order(self) -> list[Agent]:
        return sorted(self.agents.values(), key=lambda agent: agent.dying)

    def _find_links(self, agent: Agent) -> None:
        model = agent.unit.model
        for link in self.links:
            if agent.app in link.ends and not link.dying and link.number not in agent.parts:
                agent.parts[link.number] = Part.of(agent.name, link)
        mates = [one for one in self.agents.values() if one.app == agent.app and not one.dying]
        model.mates = [one.name for one in mates]
        parts = agent.parts.values()
        model.relations = [part.relation for part in parts if part.created and not part.broken]

    def _revised(self, agent: Agent) -> Iterator[str]:
        """Return the secrets of which a unit reads an older revision than there is."""
        for identity, secret in self.secrets.items():
            tracked = secret.tracked.get(agent.name, secret.revision)
            own = secret.holder == agent.app and agent.unit.model.leader
            told = agent.secrets.get(identity) == secret.revision
            if tracked != secret.revision and not told and not own:
                yield identity

    def _before(self, event: Event) -> None:
        agent, part = event.agent, event.part
        if event.kind == "secret-changed":
            agent.secrets[event.detail] = self.secrets[event.detail].revision
        elif event.kind == "config-changed":
            agent.config = dict(agent.unit.model.config)
        elif event.kind == "leader-elected":
            agent.leader = True
        if part is None:
            return
        if event.kind == "created":
            part.created = True
            part.enter(agent.name, agent.unit.model.address)
            agent.unit.model.relations.append(part.relation)
        elif event.kind == "joined":
            part.relation.remote_units.append(event.remote)
        elif event.kind == "departed":
            part.relation.remote_units.remove(event.remote)
            part.seen.pop(event.remote, None)
        elif event.kind == "changed":
            part.look(event.remote or part.relation.remote_app)

    def _after(self, event: Event) -> None:
        agent, part = event.agent, event.part
        agent.told.add(event.kind)
        if part:
            part.joined = event.remote if event.kind == "joined" else ""
        if event.kind == "broken" and part:
            part.broken = True
            part.link.scope.discard(agent.name)
        elif event.kind == "remove":
            del self.agents[agent.name]


def _starting(agent: Agent) -> list[Event]:
    if "install" not in agent.told:
        return [Event(agent, "install")]
    created = [Event(agent, "created", part) for part in agent.parts.values() if not part.created]
    if created:
        return created
    if agent.unit.model.leader and not agent.leader:
        return [Event(agent, "leader-elected")]
    return [Event(agent, "start" if "config-changed" in agent.told else "config-changed")]


def _changes(agent: Agent) -> list[Event]:
    found = []
    if agent.unit.model.leader and not agent.leader:
        found.append(Event(agent, "leader-elected"))
    if agent.config != agent.unit.model.config:
        found.append(Event(agent, "config-changed"))
    return found


def _relation_events(agent: Agent, part: Part) -> Iterator[Event]:
    """Return what a unit could be told of one relation."""
    relation, link = part.relation, part.link
    leaving = link.dying or agent.dying
    if part.broken:
        return
    if part.joined:
        yield Event(agent, "changed", part, part.joined)
        return
    there = [] if leaving else link.remote_units(agent.name)
    for unit in [one for one in relation.remote_units if one not in there]:
        yield Event(agent, "departed", part, unit, agent.name if agent.dying else unit)
    if leaving:
        if part.created and not relation.remote_units and len(link.ends) > 1:
            yield Event(agent, "broken", part)
        return
    if not part.created:
        yield Event(agent, "created", part)
        return
    yield from (
        Event(agent, "joined", part, one) for one in there if one not in relation.remote_units
    )
    peers_leader = relation.remote_app == agent.app and agent.unit.model.leader
    if part.is_news(relation.remote_app) and not peers_leader:
        yield Event(agent, "changed", part)
    for unit in relation.remote_units:
        if unit in there and part.is_news(unit):
            yield Event(agent, "changed", part, unit)


__all__ = ["Agent", "Controller", "Event", "app_of"]
