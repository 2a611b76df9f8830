"""The relations that hostile things are said over, and what has to become of each."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st
from ops import testing

from database import Database, DatabaseTrouble, Lack
from tests.chaos.hostile import texts
from tests.chaos.hostile_hooks import Held, Trial
from tests.chaos.hostile_states import (
    APP,
    DATABASE,
    PEER,
    PGSQL,
    TSA,
    UNIT,
    WORKER,
    database,
    peers,
    pgsql,
    state,
    tsa,
    workers,
)
from tests.unit.databases import CA

Said = Mapping[str, str]
_SECRET = "secret:abcdefghijklmnopqrst"
_OWN = {"migrated": "8.3.0", "turn": "7", "turn-renewals": "3"}
_TURNS = json.dumps({"last": 7, "now": {UNIT: 7}, "passed": {}})
_FORMS = {
    "tsa-host": r"[A-Za-z0-9][A-Za-z0-9.:-]*",
    "tsa-port": r"[0-9]+",
    "tsa-host-public-key": r"\s*(ssh|ecdsa)-[a-z0-9-]+\s+[A-Za-z0-9+/=]+(\s[^\r\n]*)?\s*",
    "concourse-version": r"(([0-9]{1,4}\.){2}[0-9]{1,4})?",
}


@dataclass(frozen=True)
class Talk:
    """A relation, and what becomes of what is said over it.

    Attributes:
        name: tells it from the others.
        make: makes it, with the fields that are hostile.
        mode: the unit's.
        fields: what would be right, by field.
        check: given what a hook left and the hostile fields.
        leader: whether the unit leads.
        turn: whether its worker is down, by its turn, in an update-status.
        full: how many examples; fewer of what no other application says.
    """

    name: str
    make: Callable[..., Any]
    mode: str
    fields: Said
    check: Callable[[Held, Said], None]
    leader: bool = True
    turn: bool = False
    full: int = 65

    def __str__(self) -> str:
        return self.name

    def hold(self, trial: Trial, said: Said) -> Held:
        """Run a unit that is told these fields, and check what becomes of it."""
        relation = self.make(**said)
        relations = [relation]
        relations += [] if isinstance(relation, testing.PeerRelation) else [peers()]
        relations += [database()] if self.make not in (database, pgsql) else []
        relations += [tsa()] if self.make is not tsa else []
        trial.workload.down = self.turn
        event = trial.context.on.update_status() if self.turn else None
        given = state({"deployment-mode": self.mode}, relations, leader=self.leader)
        held = trial.hold(given, event)
        self.check(held, said)
        return held

    def drawn(self) -> st.SearchStrategy[dict[str, str]]:
        """Return one field or two with hostile values."""
        names = st.sampled_from(sorted(self.fields))
        return st.lists(names, min_size=1, max_size=2, unique=True).flatmap(
            lambda some: st.fixed_dictionaries({name: self._values(name) for name in some})
        )

    def _values(self, name: str) -> st.SearchStrategy[str]:
        """Return a field's values; where it holds JSON, some have its shape but for a part."""
        if name != "turns":
            return texts(self.fields[name])
        odd = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=3))
        units = st.sampled_from((UNIT, PEER, "concourse", "x/y"))
        shapes = st.one_of(odd, st.lists(odd, max_size=2), st.dictionaries(units, odd, max_size=2))
        parts = st.fixed_dictionaries({}, optional=dict.fromkeys(("last", "now", "passed"), shapes))
        return st.one_of(texts(self.fields[name]), parts.map(json.dumps), parts.map(json.dumps))


def a_web(held: Held, said: Said) -> None:
    """The worker knows its web by what it said, or the status names the field."""
    wish = held.wish
    assert wish
    if wish.web_error:
        assert held.blocked, held.message
        assert any(f"used: {name} " in held.message for name in said), held.message
        return
    if wish.web is None:
        assert held.waiting, held.message
        assert "related web" in held.message
        return
    assert held.active, held.message
    whole = {**TSA, **said}
    for name, form in _FORMS.items():
        assert re.fullmatch(form, whole[name]), (name, whole[name])
    found, host = held.files["worker"], whole["tsa-host"]
    host = f"[{host}]" if ":" in host else host
    assert found["CONCOURSE_TSA_HOST"] == f"{host}:{whole['tsa-port']}"
    assert found["host key"].split() == whole["tsa-host-public-key"].split()[:2]
    assert wish.release.version == (whole["concourse-version"] or "8.3.0")


def a_database(held: Held, said: Said) -> None:
    """The web signs in as it was told, or the status names the relation and the field."""
    found = _database(held, said, "database")
    if found:
        whole, env = {**DATABASE, **said}, held.files["web"]
        assert env["CONCOURSE_POSTGRES_USER"] == whole["username"]
        assert env["CONCOURSE_POSTGRES_PASSWORD"] == whole["password"]
        assert whole["database"] in ("", env["CONCOURSE_POSTGRES_DATABASE"])


def a_legacy_database(held: Held, said: Said) -> None:
    """The same, of a connection string: what was read of it is what is written."""
    found = _database(held, said, "postgresql")
    if found:
        env = held.files["web"]
        assert env["CONCOURSE_POSTGRES_USER"] == found.user
        assert env["CONCOURSE_POSTGRES_PASSWORD"] == found.password
        assert env["CONCOURSE_POSTGRES_DATABASE"] == found.name
        assert set(found.user + found.password + found.name) <= {*said.get("master", ""), *"udp"}


def _database(held: Held, said: Said, relation: str) -> Database | None:
    """Return what the web reaches; None if the status says why it reaches nothing."""
    assert held.wish
    assert held.wish.web_side
    found = held.wish.web_side.database
    for value in (said.get(name, "") for name in ("password", "master")):
        assert len(value) < 8 or value not in held.message
    if isinstance(found, Database):
        assert held.active, held.message
        env = held.files["web"]
        host, port = env["CONCOURSE_POSTGRES_HOST"], env["CONCOURSE_POSTGRES_PORT"]
        assert (f"[{host}]" if ":" in host else host) + f":{port}" in found.endpoints
        return found
    assert isinstance(found, DatabaseTrouble)
    if found.lack is Lack.WAITING:
        assert held.waiting, held.message
        assert "Waiting for the database" in held.message
    else:
        assert held.blocked, held.message
        assert f"{APP}:{relation} no usable data: " in held.message
        assert any(f"data: {name}" in held.message for name in said), held.message
    return None


def workers_keys(held: Held, said: Said) -> None:
    """A worker's key is let in by its own name, as one line, or not at all."""
    assert held.active, held.message
    whole = {**WORKER, **said}
    name, line = whole["worker-name"], whole["worker-public-key"]
    found = held.files["keys"]
    assert set(found) <= {name}
    if name in found:
        assert re.fullmatch(r"[A-Za-z0-9._-]+", name)
        assert re.fullmatch(r"\s*(ssh|ecdsa)-[a-z0-9-]+\s+[A-Za-z0-9+/=]+(\s[^\r\n]*)?\s*", line)
        assert found[name] == " ".join(line.split()[:2])


def goes_on(held: Held, _: Said) -> None:
    """What only units of this application write keeps none of them from its work."""
    assert held.active or held.waiting, held.message
    for each in held.out.relations:
        chosen = dict(each.local_app_data).get("web-unit")
        assert chosen in (None, UNIT, PEER) or not held.out.leader


def _other_peer(**fields: str) -> testing.PeerRelation:
    """The peer runs the web."""
    return peers(app={"web-unit": PEER}, own={}, **{**TSA, **fields})


def _own_bag(**fields: str) -> testing.PeerRelation:
    return peers(app={"turns": _TURNS}, own={**_OWN, **fields})


def _app_bag(**fields: str) -> testing.PeerRelation:
    return peers(app={"turns": _TURNS, **fields}, own=_OWN, turn="8")


_DATABASE = {**DATABASE, "tls": "True", "tls-ca": CA, "secret-user": _SECRET,
             "secret-tls": _SECRET, "subordinated": "true"}  # fmt: skip
_APP = {"web-unit": UNIT, "web-secret": _SECRET, "turns": _TURNS, "migrated": "8.3.0"}
TALKS = (
    Talk("tsa", tsa, "worker", TSA, a_web),
    Talk("tsa of a peer", _other_peer, "auto", TSA, a_web),
    Talk("workers", workers, "web", WORKER, workers_keys),
    Talk("worker of a peer", peers, "auto", {**WORKER, **_OWN}, workers_keys),
    Talk("database", database, "web", _DATABASE, a_database),
    Talk("pgsql", pgsql, "web", PGSQL, a_legacy_database),
    Talk("own bag", _own_bag, "worker", _OWN, goes_on, turn=True, full=40),
    Talk("the application's bag", _app_bag, "auto", _APP, goes_on, turn=True, full=40),
    Talk("the leader's bag", _app_bag, "auto", _APP, goes_on, leader=False, turn=True, full=40),
)
