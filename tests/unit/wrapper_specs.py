"""Random specs for the wrapper, built piece by piece: where process.env lies in them is known."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from bench import spec
from tests.unit.wrapper_model import CAPABLE, SIDE_DOORS, VISIBLE
from tests.unit.wrapper_rig import GPU_A, GPU_B, MIG, TASK


class Raw(str):
    """JSON text that goes into a spec as it stands."""


@dataclass(frozen=True)
class Drawn:
    """A spec as text; `start` and `end` enclose the value of process.env, or are equal."""

    text: str
    start: int
    end: int


_TEXTS = (
    *("", "a", "plain text", "=", "a=b", '"', "\\", '\\"', "\\\\", "{", "}[],:", "\n", "\t"),
    *("\u00e9", "\u2028", "\U0001f600", "\x7f", "<&>", "null", "/", "//", "#", "\ufeff"),
    *('{"process":{"env":["A=1"]}}', '","mounts":[{"destination":"/tmp/build/get"}],"', TASK),
    *(f"{VISIBLE}=all", f'","{VISIBLE}=all', "process", "mounts", "destination", "env"),
)
_DEVICES = (
    *("all", "none", "void", "", "0", "1", "2:1", "0,1", "1,0,0", GPU_A, f"{GPU_B},0", MIG),
    *("7", "00", " 0", "0,", "all,0", "ALL", "nvidia.com/gpu=0", "0,none", "\u0660", '"', "\\"),
)
_CAPABILITIES = (
    *("all", "", "compute", "utility,compute", "video,nonsense", "nonsense", "ngx,all", '"'),
    *(",", "display,display", "COMPUTE"),
)
_TASK_MOUNTS = (TASK, f"{TASK}/in", "/tmp/build/ffffffff", "/tmp/build/01234567/a/get")
_MOUNTS = (
    *("/proc", "/etc/hosts", "/scratch", "/tmp/build", "/tmp/build/", "/tmp/build/0123abc"),
    *("/tmp/build/0123abcdx", "/tmp/build/getter", "/tmp/build/0123ABCD", "/x/tmp/build/0123abcd"),
)
_NO_TASK_MOUNTS = ("/tmp/build/get", "/tmp/build/put", "/tmp/build/put/../0123abcd")


def draw(dice: random.Random) -> Drawn:
    """Make up a spec; about half are plain GPU tasks in odd clothes."""
    writer = _Writer(dice)
    root = _concourses(dice) if dice.random() < 0.1 else _made_up(dice)
    _disturb(dice, root)
    if dice.random() < 0.5:
        root = _plain(root)
    if dice.random() < 0.7:
        dice.shuffle(root)
    writer.value(root)
    return Drawn("".join(writer.out), writer.start, writer.end)


def _concourses(dice: random.Random) -> list[tuple[str, Any]]:
    """Return a spec as Concourse has containerd write it, with an env of our own."""
    profile = {"syscalls": [{"names": [f"call{number}" for number in range(60)]}]}
    built = spec.build(dice.choice(list(spec.KINDS)), profile)
    process = list((built.pop("process") | {"env": _env(dice)}).items())
    return [("process", process), ("mounts", built.pop("mounts")), *built.items()]


def _made_up(dice: random.Random) -> list[tuple[str, Any]]:
    root: list[tuple[str, Any]] = [("process", _process(dice)), ("mounts", _mounts(dice))]
    root += [("ociVersion", "1.2.0"), ("root", {"path": "rootfs"}), ("hostname", _text(dice))]
    root += [("annotations", {_text(dice): _text(dice) for _ in range(3)})]
    root += [("linux", _anything(dice, 4)), ("hooks", _anything(dice, 2))]
    return root


def _process(dice: random.Random) -> list[tuple[str, Any]]:
    process: list[tuple[str, Any]] = [
        ("args", [_text(dice) for _ in range(dice.randrange(3))]),
        ("cwd", "/"),
        ("noNewPrivileges", True),
        ("rlimits", [{"type": "RLIMIT_NOFILE", "hard": 18446744073709551615}]),
    ]
    if dice.random() < 0.9:
        process.append(("env", None if dice.random() < 0.05 else _env(dice)))
    if dice.random() < 0.05:
        process = process[-1:]
    if dice.random() < 0.7:
        dice.shuffle(process)
    return process


def _env(dice: random.Random) -> list[str]:
    makers: list[Callable[[], str]] = [
        lambda: f"{dice.choice('ABC')}={_text(dice)}",
        lambda: f"{VISIBLE}={dice.choice(_DEVICES)}",
        lambda: f"{VISIBLE}={dice.choice(_DEVICES[:12])}",
        lambda: f"{CAPABLE}={dice.choice(_CAPABILITIES)}",
        lambda: f"{dice.choice(SIDE_DOORS)}={_text(dice)}",
        lambda: f"{dice.choice((*SIDE_DOORS, VISIBLE))}{dice.choice('_ xX')}={_text(dice)}",
        lambda: dice.choice((VISIBLE, "NVIDIA_", "NVIDIA_REQUIRE_CUDA=x", _text(dice))),
    ]
    weights = (8, 3, 2, 2, 2, 1, 1)
    count = 3000 if dice.random() < 0.003 else dice.choice((0, 1, 2, 5, 12))
    return [each() for each in dice.choices(makers, weights, k=count)]


def _mounts(dice: random.Random) -> list[Any]:
    places = dice.choices(_MOUNTS, k=dice.randrange(4))
    if dice.random() < 0.85:
        places.append(dice.choice(_TASK_MOUNTS))
    if dice.random() < 0.1:
        places.append(dice.choice(_NO_TASK_MOUNTS))
    dice.shuffle(places)
    return [
        dict(dice.sample([("destination", each), ("type", "bind"), ("source", _text(dice))], 3))
        for each in places
    ]


def _disturb(dice: random.Random, root: list[tuple[str, Any]]) -> None:
    """Now and then, make the spec one that can be read in two ways."""
    if dice.random() > 0.08:
        return
    process, mounts = root[0][1], root[1][1]
    where = dice.choice((root, process, mounts))
    key = dice.choice(("process", "Process", "PROCESS", "mounts", "mountS", "env", "Env", "\u212a"))
    value = dice.choice((None, [], {}, 1, "x", ["NVIDIA_GDS=1"], _mounts(dice)))
    if where is mounts:
        mounts.append(dice.choice((None, 1, "x", [], {"destination": None}, {"Destination": "/x"})))
    else:
        where.append((key, value))


def _plain(value: Any) -> Any:
    """Return a spec whose strings need no escaped quote, which the wrapper reads another way."""
    if isinstance(value, str) and not isinstance(value, Raw):
        return value.replace('"', "'").replace("\\", "|")
    if isinstance(value, list | tuple):
        return type(value)(_plain(each) for each in value)
    if isinstance(value, dict):
        return {_plain(key): _plain(each) for key, each in value.items()}
    return value


def _text(dice: random.Random) -> str:
    return "".join(dice.choices(_TEXTS, k=dice.choice((0, 1, 1, 2, 3))))


def _anything(dice: random.Random, depth: int) -> Any:
    kind = dice.randrange(8 if depth else 5)
    if kind < 5:
        number = Raw(dice.choice(("0", "-1", "1e400", "18446744073709551615", "0.10", "-0")))
        return (None, True, False, number, _text(dice))[kind]
    if kind == 5:
        return [_anything(dice, depth - 1) for _ in range(dice.randrange(6))]
    return [(_text(dice), _anything(dice, depth - 1)) for _ in range(dice.randrange(1, 6))]


class _Writer:
    """Writes JSON in one of many styles; pairs in a list are an object, as in expect."""

    def __init__(self, dice: random.Random) -> None:
        self.dice = dice
        self.out: list[str] = []
        self.start = self.end = 0
        self.spaces = dice.choice(("", "", " ", "\n  ", None))
        self.ascii = dice.random() < 0.5
        self.odd = 0.02 if dice.random() < 0.05 else 0.0

    def space(self) -> None:
        spaces = self.spaces
        self.out.append(self.dice.choice(("", " ", "\t\r\n")) if spaces is None else spaces)

    def value(self, value: Any, path: str = "") -> None:
        at = sum(map(len, self.out)) if path == "/process/env" else 0
        if isinstance(value, Raw):
            self.out.append(value)
        elif isinstance(value, str):
            self.out.append(self.string(value))
        elif isinstance(value, dict) or (isinstance(value, list) and value and _pairs(value)):
            pairs = list(value.items()) if isinstance(value, dict) else value
            self.many("{}", pairs, path)
        elif isinstance(value, list):
            self.many("[]", value, path)
        else:
            self.out.append(json.dumps(value))
        if path == "/process/env":
            self.start, self.end = at, sum(map(len, self.out))

    def many(self, ends: str, values: Sequence[Any], path: str) -> None:
        self.out.append(ends[0])
        for number, each in enumerate(values):
            if number:
                self.out.append(",")
            self.space()
            if ends == "{}":
                self.out.append(self.string(each[0]))
                self.space()
                self.out.append(":")
                self.space()
                self.value(each[1], f"{path}/{each[0]}")
            else:
                self.value(each, f"{path}/-")
        self.space()
        self.out.append(ends[1])

    def string(self, text: str) -> str:
        written = json.dumps(text, ensure_ascii=self.ascii)
        if self.ascii:  # as Go does
            for each in "<>&":
                written = written.replace(each, f"\\u{ord(each):04x}")
        if self.dice.random() < self.odd and text:
            char = self.dice.choice(text)
            code = f"\\u{ord(char):04{self.dice.choice('xX')}}"
            if ord(char) < 0x10000 and char not in '"\\':
                written = written.replace(char, code, 1)
        return written


def _pairs(value: list[Any]) -> bool:
    return all(isinstance(each, tuple) for each in value)


def spoil(dice: random.Random, text: str) -> str:
    """Damage a text: cut it, or take out, put in or double some of it."""
    at = dice.randrange(len(text))
    to = min(len(text), at + dice.choice((1, 1, 1, 5, 50)))
    put = dice.choice(("", "", '"', "\\", "{", "}", "[", "]", ",", ":", " ", "\x00", "1", "\u00e9"))
    return dice.choice(
        (text[:at], text[:at] + put + text[to:], text[:at] + put + text[at:], text + put + "x"[:at])
    )
