"""What is right for a call of the wrapper: a small model of command lines, requests and leases.

Whether a spec is a task's, and one that can be read without doubt, is the unit tests' model's.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.unit.wrapper_leases import COUNT
from tests.unit.wrapper_model import expect
from tests.unit.wrapper_rig import DEVICES, NVIDIA, REFUSED, RUNC, TABLE

# runc's options and whether they take a value (main.go and create.go, 1.1 to 1.5).
GLOBAL = {
    "debug": False,
    "systemd-cgroup": False,
    **dict.fromkeys(("log", "log-format", "root", "rootless", "criu"), True),
}
CREATE = {
    "no-pivot": False,
    "no-new-keyring": False,
    **dict.fromkeys(("bundle", "b", "pid-file", "console-socket"), True),
    **dict.fromkeys(("pidfd-socket", "preserve-fds"), True),
}


@dataclass(frozen=True)
class Right:
    """What a call has to lead to.

    Attributes:
        statuses: any of these.
        uuids: what the task is given if it is given a GPU; None for whatever is allowed.
    """

    statuses: frozenset[int]
    uuids: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Sharing:
    """How GPUs are shared: the mode, and what a task gets that asks for nothing."""

    mode: str
    standard: str


@dataclass(frozen=True)
class Held:
    """What neighbours hold: how many hold a GPU for sure, and those that may be held."""

    load: Counter[str] = field(default_factory=Counter)
    perhaps: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Create:
    """A command line that is a create and nothing else.

    Attributes:
        handle: the container's id.
        bundle: as it is written; "." where it isn't.
        log: the file that the last --log names, or "".
    """

    handle: str
    bundle: str
    log: str


def right(*statuses: int, uuids: Sequence[str] | None = None) -> Right:
    return Right(frozenset(statuses), None if uuids is None else tuple(uuids))


def create_of(words: Sequence[str]) -> Create | None:
    """Return the create that a command line is; None if runc could take it for anything else."""
    log: dict[str, str] = {}
    values: dict[str, str] = {}
    rest = _options(words, GLOBAL, log)
    if not rest or rest[0] != "create":
        return None
    rest = _options(rest[1:], CREATE, values)
    if rest is None or len(rest) != 1 or rest[0].startswith("-"):
        return None
    return Create(rest[0], values.get("bundle", "") or ".", log.get("log", ""))


def _options(
    words: Sequence[str], known: Mapping[str, bool], values: dict[str, str]
) -> list[str] | None:
    """Take the options off the front; None for one that is unknown or can be read twice."""
    rest = list(words)
    while rest and rest[0].startswith("-"):
        word = rest.pop(0)
        if word == "--":
            break
        name, equals, value = word.partition("=")
        name = re.sub("^--?", "", name)
        if name not in known:
            return None
        if not known[name]:
            continue
        if not equals:
            if not rest:
                return None
            value = rest.pop(0)
        if value.startswith("-"):
            return None
        values["bundle" if name == "b" else name] = value
    return rest


def creation(made: Mapping[str, Any], sharing: Sharing, handle: str, held: Held) -> Right:
    """Return what is right for a spec that is created with a handle among neighbours."""
    without = {**made, "process": {**made["process"], "env": []}}
    where = expect(json.dumps(without)).where
    if where == "runc":
        return right(RUNC)
    if where == "no gpu":  # neither read as a task's nor given anything
        return right(RUNC, REFUSED)
    entries = [entry.partition("=") for entry in made["process"]["env"]]
    wish = _wish({name: value for name, _, value in entries}, sharing)
    if not isinstance(wish, _Wish):
        return right(wish)
    if sharing.mode == "shared":
        return right(NVIDIA, uuids=wish.pool[: wish.count])
    if re.search(r"[^A-Za-z0-9_.+-]", handle):  # no lease can name it
        return right(REFUSED)
    return _balanced(wish, held) if sharing.mode == "balanced" else _exclusive(wish, held)


@dataclass(frozen=True)
class _Wish:
    """How many GPUs a task wants, of which, and whether it named them."""

    count: int
    pool: tuple[str, ...]
    named: bool


def _wish(env: Mapping[str, str], sharing: Sharing) -> _Wish | int:
    """Return what a task wants, or the status it ends with."""
    asked, number = env.get(DEVICES, "all"), env.get(COUNT)
    nothing = asked in ("", "none", "void")
    if number is not None and not re.fullmatch(r"0|[1-9][0-9]{0,2}", number):
        return REFUSED
    if number == "0" or (number is None and nothing):
        return RUNC
    if nothing:
        return REFUSED
    if asked != "all":
        return _named(asked.split(","), number)
    total = len(TABLE.allowed)
    count = int(number or (total if sharing.standard == "all" else sharing.standard))
    if not count:
        return RUNC
    return REFUSED if count > total else _Wish(count, TABLE.allowed, named=False)


def _named(tokens: Sequence[str], number: str | None) -> _Wish | int:
    spelled = dict(TABLE.spellings)
    if any(token not in spelled for token in tokens):
        return REFUSED
    pool = tuple(dict.fromkeys(spelled[token] for token in tokens))
    return REFUSED if number and int(number) != len(pool) else _Wish(len(pool), pool, named=True)


def _balanced(wish: _Wish, held: Held) -> Right:
    if wish.named:
        return right(NVIDIA, uuids=wish.pool)
    if held.perhaps:
        return right(NVIDIA)
    return right(NVIDIA, uuids=sorted(wish.pool, key=lambda uuid: held.load[uuid])[: wish.count])


def _exclusive(wish: _Wish, held: Held) -> Right:
    free = [uuid for uuid in wish.pool if uuid not in held.load]
    sure = [uuid for uuid in free if uuid not in held.perhaps]
    if len(free) < wish.count:
        return right(REFUSED)
    if sure == free:
        return right(NVIDIA, uuids=free[: wish.count])
    return right(NVIDIA) if len(sure) >= wish.count else right(NVIDIA, REFUSED)
