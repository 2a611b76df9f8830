"""The relations of a model of several units, and one unit's part in each."""

from __future__ import annotations

from dataclasses import dataclass, field

from .standins.model import Relation


@dataclass
class Link:
    """A relation between two applications, or among the units of one.

    Attributes:
        number: its number in the model.
        ends: application -> endpoint; one only for peers.
        bags: the databags, one a member (units and applications).
        scope: the units that take part.
        dying: whether it is being removed.
    """

    number: int
    ends: dict[str, str]
    bags: dict[str, dict[str, str]] = field(default_factory=dict)
    scope: set[str] = field(default_factory=set)
    dying: bool = False

    def other(self, app: str) -> str:
        """Return the application at the other end; the same one for peers."""
        return next((one for one in self.ends if one != app), app)

    def remote_units(self, unit: str) -> list[str]:
        """Return the units that a unit is related to now."""
        far = self.other(app_of(unit))
        return sorted(one for one in self.scope if app_of(one) == far and one != unit)


@dataclass
class Part:
    """One unit's part in a link: what Juju has told it so far.

    Attributes:
        relation: the link as the hook tools show it to the unit.
        created: whether relation-created has run.
        broken: whether relation-broken has.
        joined: the remote unit whose relation-changed has to follow its joined; "" for none.
        seen: the databags as they were when the unit was last told of them.
    """

    link: Link
    relation: Relation
    created: bool = False
    broken: bool = False
    joined: str = ""
    seen: dict[str, dict[str, str]] = field(default_factory=dict)

    @classmethod
    def of(cls, unit: str, link: Link) -> Part:
        app = app_of(unit)
        return cls(link, Relation(link.ends[app], link.number, link.other(app), [], link.bags))

    def enter(self, unit: str, address: str) -> None:
        """Have the unit take part, with what Juju itself writes into its databag."""
        self.link.scope.add(unit)
        said = {"egress-subnets": f"{address}/32", "ingress-address": address}
        self.relation.bag(unit).update(said | {"private-address": address})

    def is_news(self, member: str) -> bool:
        return self.relation.bag(member) != self.seen.get(member, {})

    def look(self, member: str) -> None:
        self.seen[member] = dict(self.relation.bag(member))


def app_of(unit: str) -> str:
    """Return a unit's application."""
    return unit.partition("/")[0]
