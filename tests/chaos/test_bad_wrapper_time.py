"""The time that the wrapper takes grows as what is put before it does, and no faster."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from gpu.wrapper import ensure_devices
from tests.chaos.frame import Chaos
from tests.chaos.test_bad_wrapper import PROMISE
from tests.unit.wrapper_clock import cpu, hold_to_linear
from tests.unit.wrapper_leases import EXECS, LEASE, start_of
from tests.unit.wrapper_rig import DEVICES, GPU_A, GPU_B, NVIDIA, REFUSED, TABLE, TASK, Rig, spec

FIRST, LAST = 200_000, 3_200_000  # bytes of the quarter: grown until they cost more than a start
ROUNDS = 3


def entries(size: int, entry: str) -> str:
    return json.dumps(spec([entry] * (size // (len(entry) + 3))))


def mounts(size: int, place: str) -> str:
    one = len(json.dumps(spec([], [place, place]))) - len(json.dumps(spec([], [place])))
    return json.dumps(spec([], [*[place] * (size // one), TASK]))


def depth(size: int, head: str, tail: str) -> str:
    """Return a task's spec with another member in front, which is as deep as its size allows."""
    count = size // (len(head) + len(tail))
    return '{"x":' + head * count + "1" + tail * count + "," + json.dumps(spec())[1:]


def keys(size: int) -> str:
    made = spec()
    made["process"] |= {f"{number:08}": "y" for number in range(size // 17)}
    return json.dumps(made)


# A spec of about so many bytes each; the unit tests have strings of every kind, and in any place.
SPECS: dict[str, Callable[[int], str]] = {
    "a long string": lambda size: json.dumps(spec(["A=" + "x" * size])),
    "a long request": lambda size: json.dumps(spec([f"{DEVICES}=" + "0," * (size // 2)])),
    "many env entries": lambda size: entries(size, "A=1"),
    "many requests": lambda size: entries(size, f"{DEVICES}=0"),
    "many mounts": lambda size: mounts(size, "/x"),
    "many tasks' mounts": lambda size: mounts(size, f"{TASK}/x"),
    "deep lists": lambda size: depth(size, "[", "]"),
    "deep objects": lambda size: depth(size, '{"a":', "}"),
    "many keys": keys,
    "many quotes": lambda size: json.dumps(spec(["A=" + '"' * (size // 2)])),
}


def test_time_grows_as_a_spec_does(chaos: Chaos, tmp_path: Path) -> None:
    rig = Rig(tmp_path)

    def creation(text: str) -> Callable[[], None]:
        def call() -> None:
            assert rig.create(text).status in (NVIDIA, REFUSED)

        return call

    start = min(cpu(creation(json.dumps(spec()))) for _ in range(ROUNDS))
    for title in chaos.part(sorted(SPECS), quick=4):
        with chaos.case(PROMISE, title):
            size, build = FIRST, SPECS[title]
            while cpu(creation(build(size))) < 3 * start and size < LAST:
                size *= 2
            hold_to_linear(creation(build(size)), creation(build(4 * size)), rounds=ROUNDS)


def many(run: Path, count: int) -> None:
    """As many containers as that: every second one of a creator that is gone."""
    pids = (os.getpid(), 2**22)
    start = start_of(pids[0])
    for number in range(count):
        (run / f"n{number}").mkdir()
        lease = f"n{number}\t{pids[number % 2]}\t{start}\t1\t{GPU_A}\n"
        (run / f"n{number}" / LEASE).write_text(lease)


def long_lease(run: Path, count: int) -> None:
    (run / "n").mkdir()
    uuids = ",".join([GPU_A, *["x"] * count * 100])
    (run / "n" / LEASE).write_text(f"n\t{os.getpid()}\t{start_of(os.getpid())}\t1\t{uuids}\n")


def long_line(run: Path, count: int) -> None:
    long_lease(run, 1)
    (run / "o").mkdir()
    (run / "o" / LEASE).write_text("\t" * count * 200)


def many_execs(run: Path, count: int) -> None:
    """One whose creator is gone, whose init lives, and in which as many processes were started."""
    (run / "n").mkdir()
    # Part of every cgroup's path, so that it passes for the container's own.
    (run / "n" / LEASE).write_text(f"/\t{os.getpid()}\t1\t1\t{GPU_A}\n")
    (run / "n" / "init.pid").write_text(str(os.getpid()))
    (run / "n" / EXECS).write_text(f"{os.getpid()} 1\n" * count)


NEIGHBOURS: dict[str, Callable[[Path, int], None]] = {
    "many neighbours": many,
    "a long lease": long_lease,
    "a long line": long_line,
    "many execs": many_execs,
}


def test_time_grows_as_neighbours_do(chaos: Chaos, tmp_path: Path) -> None:
    count = 1000
    for title in chaos.part(sorted(NEIGHBOURS), quick=2):
        calls = []
        for size in (count, 4 * count):
            rig = Rig(tmp_path / title / str(size))
            table = replace(TABLE, sharing="balanced", default="1", timeout=0)
            ensure_devices(rig.layout, table)
            NEIGHBOURS[title](rig.spec.parent.parent, size)
            calls.append(creation_beside(rig))
        with chaos.case(PROMISE, title):
            hold_to_linear(calls[0], calls[1], rounds=ROUNDS)


def creation_beside(rig: Rig) -> Callable[[], None]:
    def call() -> None:
        done = rig.create(spec())
        assert done.status == NVIDIA, done
        # What neighbours hold was seen: the other GPU is the quieter one.
        assert f"{DEVICES}={GPU_B}" in done.new_env, done

    return call
