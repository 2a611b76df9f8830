"""Stand-in for a Juju model: what Juju knows of one unit, and of what it is related to."""

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
    """A secret that the unit or its application owns, or that was granted to it."""

    label: str
    owner: str
    content: dict[str, str]
    revision: int = 1


@dataclass
class Model:
    """The model as one unit meets it.

    Attributes:
        config: every option's value, defaults included.
        resources: the place of each attached resource, as the unit sees it.
        status: what the unit last set: its word and its message.
    """

    unit: str = "worker/0"
    name: str = "rehearsal"
    uuid: str = "2f6c3b52-7f0e-4a8e-9a57-00c0ffee0000"
    leader: bool = False
    config: dict[str, Any] = field(default_factory=dict)
    relations: list[Relation] = field(default_factory=list)
    resources: dict[str, str] = field(default_factory=dict)
    proxies: dict[str, str] = field(default_factory=dict)
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
