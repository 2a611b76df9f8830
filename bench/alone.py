"""The rows about the wrapper alone: runc and NVIDIA's runtime are programs that end at once.

From one create to the next runc differs by more than what stands in front of it takes.  What is
left here is the wrapper's own time, beside the least that a shell script in its place could take.
"""

from __future__ import annotations

from dataclasses import dataclass

from . import goals
from .figures import Goal, Row, compare, judge
from .runtimes import CHARM, MODES, NVIDIA, RUNC, Runtimes

_SHELL, _AWK = "/run/bench/shell", "/run/bench/shell-and-awk"


@dataclass(frozen=True)
class _Call:
    name: str
    program: str
    verb: str
    kind: str = "check"
    mode: str = "shared"
    goal: Goal | None = None

    @property
    def base(self) -> str:
        return NVIDIA if self.kind == "task" else RUNC


def wrapper(runtimes: Runtimes, rounds: int) -> list[Row]:
    """Measure each kind of call; no container can be created in the machine any more."""
    machine = runtimes.machine
    machine.shell(f"cp --remove-destination /bin/true {RUNC}\ncp /bin/true {NVIDIA}")
    machine.write(_SHELL, f'#!/bin/sh\nexec {RUNC} "$@"\n', mode=0o755)
    machine.write(_AWK, f"#!/bin/sh\nawk 'BEGIN {{ exit }}'\nexec {RUNC} \"$@\"\n", mode=0o755)
    calls = _calls()
    cases = [
        runtimes.case(f"{who} {call.name}", program, call.kind, call.mode, only=call.verb)
        for call in calls
        for who, program in (("ours", call.program), ("base", call.base))
    ]
    found = runtimes.measure(cases, rounds=rounds)
    rows = []
    for call in calls:
        ours, base = ([one[call.verb] for one in found[f"{who} {call.name}"]]
                      for who in ("ours", "base"))  # fmt: skip
        row = compare(call.name, "a program that ends at once", ours, base, group="alone")
        rows.append(judge(row, call.goal) if call.goal else row)
    return rows


def _calls() -> list[_Call]:
    alone = "the wrapper alone"
    leases = [mode for mode in MODES if mode != "shared"]
    task = f"{alone}, create of a GPU task"
    return [
        _Call("the least: a shell that passes on", _SHELL, "state"),
        _Call("the least: a shell that starts an awk, and passes on", _AWK, "create"),
        _Call(f"{alone}, passing on", CHARM, "state", goal=goals.PASS),
        *(
            _Call(f"{alone}, create of a {kind}", CHARM, "create", kind, goal=goals.NO_TASK)
            for kind in ("check", "get", "put")
        ),
        _Call(f"{task}, shared", CHARM, "create", "task", goal=goals.SHARED),
        *(_Call(f"{task}, {mode}", CHARM, "create", "task", mode, goals.LEASED) for mode in leases),
    ]
