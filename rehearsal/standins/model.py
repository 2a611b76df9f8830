"""Stand-in for a Juju model: what Juju knows of one unit, and of what it is related to.

Where several units are played, what they have in common is one object in all their models:
an application's options, a relation's databags, the secrets.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


class ToolError(Exception):
    """A tool's complaint; it ends with status 1."""


@dataclass
class Relation:
    """A relation and its databags, one a member (units and applications)."""

    name: str
    number: int
    remote_app: str
    remote_units: list[str]
    bags: dict[str, dict[str, str]] = field(default_factory=dict)

    @property
    def id(self) -> str:
        return f"{self.name}:{self.number}"

    def bag(self, member: str) -> dict[str, str]:
        return self.bags.setdefault(member, {})


@dataclass
class Secret:
    """A secret that the unit or its application owns, or that was granted to it.

    Attributes:
        owner: "unit" or "application", as the tools say it.
        holder: the unit or application that owns it; "" where a model has one unit alone.
        granted: the applications that may read it.
        older: earlier revisions' content.
        tracked: the revision that each unit reads, until it asks for the latest.
    """

    label: str
    owner: str
    content: dict[str, str]
    revision: int = 1
    holder: str = ""
    granted: set[str] = field(default_factory=set)
    older: dict[int, dict[str, str]] = field(default_factory=dict)
    tracked: dict[str, int] = field(default_factory=dict)

    def revise(self, content: dict[str, str]) -> None:
        """Make a new revision; who tracks an older one goes on reading that."""
        self.older[self.revision] = self.content
        self.content, self.revision = content, self.revision + 1

    def read(self, unit: str, *, refresh: bool = False, peek: bool = False) -> dict[str, str]:
        """Return what a unit gets to see."""
        if peek:
            return self.content
        if refresh or unit not in self.tracked:
            self.tracked[unit] = self.revision
        seen = self.tracked[unit]
        return self.content if seen == self.revision else self.older[seen]

    def is_open_to(self, unit: str) -> bool:
        app = unit.partition("/")[0]
        return not self.holder or bool({unit, app} & {self.holder, *self.granted})


@dataclass
class Model:
    """The model as one unit meets it.

    Attributes:
        address: the unit's address on every network.
        config: every option's value, defaults included.
        resources: the place of each attached resource, as the unit sees it.
        mates: the units that its application is meant to have.
        status: what the unit last set: its word and its message.
    """

    unit: str = "worker/0"
    name: str = "rehearsal"
    uuid: str = "2f6c3b52-7f0e-4a8e-9a57-00c0ffee0000"
    leader: bool = False
    address: str = "127.0.0.1"
    config: dict[str, Any] = field(default_factory=dict)
    relations: list[Relation] = field(default_factory=list)
    resources: dict[str, str] = field(default_factory=dict)
    proxies: dict[str, str] = field(default_factory=dict)
    mates: list[str] = field(default_factory=list)
    status: tuple[str, str] = ("unknown", "")
    app_status: tuple[str, str] = ("unknown", "")
    version: str = ""
    ports: set[str] = field(default_factory=set)
    secrets: dict[str, Secret] = field(default_factory=dict)
    state: dict[str, str] = field(default_factory=dict)

    @property
    def app(self) -> str:
        return self.unit.partition("/")[0]

    def relation(self, identity: str) -> Relation:
        """Return a relation by `name:number` or by its number alone.

        Raises:
            KeyError: there is none.
        """
        number = identity.rpartition(":")[2]
        for relation in self.relations:
            if str(relation.number) == number:
                return relation
        raise KeyError(identity)
