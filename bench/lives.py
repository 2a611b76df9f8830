"""Containers' lives, timed: this runs inside the machine, with a plan on standard input.

It calls runtimes as containerd's shim does (facts of containerd 1.6 and 2.3: the same global
options, a bundle on a tmpfs, standard streams at /dev/null) and answers with the
milliseconds of each call, round by round.
"""

from __future__ import annotations

import ctypes
import json
import os
import random
import shutil
import sys
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

FOLDER = Path("/run/bench")
_TABLE = Path("/etc/concourse/gpu/devices")
_ENV = {"PATH": "/opt/concourse/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
_SUBREAPER = 36  # PR_SET_CHILD_SUBREAPER: containers' processes end as children of this one
_TRUE = {"args": ["/bin/true"], "cwd": "/", "user": {"uid": 0, "gid": 0}, "env": ["PATH=/bin"]}


@dataclass(frozen=True)
class Case:
    """One kind of life.

    Attributes:
        name: what its figures are called in the answer.
        program: the runtime's path.
        spec: the container's spec, a JSON text.
        table: the table of devices that the wrapper is to find; "" where it reads none.
        sees: whether the container must have a GPU; None where that is not looked at.
        more: whether to call `ps` and `state` too.
        only: the one call to make, where the program creates no container.
    """

    name: str
    program: str
    spec: str
    table: str = ""
    sees: bool | None = None
    more: bool = False
    only: str = ""


@dataclass
class Life:
    """One container, and how long each call took, in milliseconds."""

    case: Case
    name: str
    times: dict[str, float] = field(default_factory=dict)

    @property
    def bundle(self) -> Path:
        return FOLDER / "bundles" / self.name

    def prepare(self) -> None:
        """Write the bundle, as containerd does before it calls."""
        self.bundle.mkdir(parents=True)
        text = self.case.spec.replace("/garden/bench", f"/garden/{self.name}")
        (self.bundle / "config.json").write_text(text)
        (self.bundle / "process.json").write_text(json.dumps(_TRUE))

    def live(self) -> None:
        """Create, start, run a process in it, kill, delete."""
        bundle, begin = self.bundle, time.perf_counter()
        files = ("--bundle", str(bundle), "--pid-file", f"{bundle}/init.pid")
        if self.case.only:
            self._call(self.case.only, *(files if self.case.only == "create" else ()))
            return
        self._call("create", *files)
        init = int((bundle / "init.pid").read_text())
        self._look(init)
        self._call("start")
        files = ("--process", f"{bundle}/process.json", "--pid-file", f"{bundle}/1.pid")
        self._call("exec", *files, "--detach")
        os.waitpid(int((bundle / "1.pid").read_text()), 0)
        if self.case.more:
            self._call("ps", "--format", "json")
            self._call("state")
        self._call("kill", after=("9",))
        os.waitpid(init, 0)
        self._call("delete")
        self.times["life"] = (time.perf_counter() - begin) * 1000

    def clear(self) -> None:
        shutil.rmtree(self.bundle)

    def _look(self, init: int) -> None:
        """Check that it has what it should: a figure of something else is none."""
        sees = self.case.sees
        if sees is not None and any(_nodes(init)) != sees:
            wrong = "sees no GPU" if sees else "sees a GPU"
            raise RuntimeError(f"{self.case.name}: the container {wrong}")

    def _call(self, verb: str, *options: str, after: Sequence[str] = ()) -> None:
        log = f"{self.bundle}/log.json"
        argv = [self.case.program, "--root", str(FOLDER / "runc"), "--log", log]
        argv += ["--log-format", "json", verb, *options, self.name, *after]
        began = time.perf_counter()
        pid = os.posix_spawn(argv[0], argv, _ENV, file_actions=_QUIET)
        _, status = os.waitpid(pid, 0)
        self.times[verb] = (time.perf_counter() - began) * 1000
        if status:
            said = Path(log).read_text() if os.path.exists(log) else ""
            raise RuntimeError(f"{self.case.name}: {verb} failed: {said[-400:]}")


_QUIET = [
    (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
    (os.POSIX_SPAWN_OPEN, 1, "/dev/null", os.O_WRONLY, 0),
    (os.POSIX_SPAWN_OPEN, 2, "/dev/null", os.O_WRONLY, 0),
]


def _nodes(init: int) -> list[str]:
    return [name for name in os.listdir(f"/proc/{init}/root/dev") if name[6:].isdigit()]


def measure(cases: Sequence[Case], rounds: int, at_once: int, seed: int) -> dict[str, Any]:
    """Let every case live in every round, in an order drawn anew for each.

    Returns:
        By case, a list of the rounds: the milliseconds of each call, and of the whole; of
        several at once the whole batch's, for each container.
    """
    found: dict[str, list[dict[str, float]]] = {case.name: [] for case in cases}
    dice = random.Random(seed)
    warm = at_once == 1 and rounds > 1  # a single round's figures are nobody's
    for number in range(-1 if warm else 0, rounds):  # one more first, to fill the caches
        for case in dice.sample(cases, len(cases)):
            times = _batch(case, number, at_once)
            if number >= 0:
                found[case.name].append(times)
    return found


def _batch(case: Case, number: int, count: int) -> dict[str, float]:
    if case.table:
        shutil.copy(case.table, _TABLE)
    lives = [Life(case, f"bench-{number}-{index}") for index in range(count)]
    for life in lives:
        life.prepare()
    try:
        if count == 1:
            lives[0].live()
            return lives[0].times
        gate = threading.Barrier(count + 1)

        def one(life: Life) -> None:
            gate.wait()
            life.live()

        with ThreadPoolExecutor(count) as pool:
            running = [pool.submit(one, life) for life in lives]
            gate.wait()
            began = time.perf_counter()
            for each in running:
                each.result()
            return {"life": (time.perf_counter() - began) * 1000 / count}
    finally:
        for life in lives:
            life.clear()


def main() -> None:
    """Read the plan, measure, print the answer."""
    plan = json.load(sys.stdin)
    ctypes.CDLL(None).prctl(_SUBREAPER, 1, 0, 0, 0)
    cases = [Case(**each) for each in plan["cases"]]
    answer = measure(cases, plan["rounds"], plan["at_once"], plan["seed"])
    json.dump(answer, sys.stdout)


if __name__ == "__main__":
    main()
