"""The wrapper with whatever a user, or a neighbour's bundle, can put before it."""

from __future__ import annotations

import json
import os
import random
import re
import stat
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

from gpu.wrapper import ensure_devices
from tests.chaos.frame import Chaos
from tests.chaos.wrapper_plays import PLAYS, Call, Play
from tests.chaos.wrapper_rules import Sharing
from tests.unit.test_wrapper_property import check_specs
from tests.unit.wrapper_leases import EXECS, LEASE
from tests.unit.wrapper_rig import (
    DEVICES,
    GPU_A,
    GPU_B,
    MIG,
    NVIDIA,
    PAIRS,
    REFUSED,
    RUNC,
    TABLE,
    Outcome,
    Rig,
)

PROMISE = (
    "The wrapper with hostile specs, bundles, ids, arguments and neighbours' leases: no shell reads"
    " them, nothing outside the bundle is written, no GPU that isn't allowed, linear time."
)
ALLOWED = {GPU_A, GPU_B, MIG}
MODES = ("shared", "balanced", "exclusive")
OWN = {"config.json", LEASE, EXECS, "gpu-request"}  # what may lie in a bundle afterwards
# The least share of a play's calls that has to end in each way: a play that always meets the same
# refusal tries nothing.
LEAST = {
    "arguments": {NVIDIA: 0.12, REFUSED: 0.02, RUNC: 0.15},
    "bundles": {NVIDIA: 0.4, REFUSED: 0.02, RUNC: 0.01},
    "ids": {NVIDIA: 0.2, REFUSED: 0.04, RUNC: 0.05},
    "neighbours": {NVIDIA: 0.1, REFUSED: 0.12, RUNC: 0.05},
}


def snapshot(rig: Rig) -> dict[str, tuple[int, bytes]]:
    """Return all around the machine, but what is in the bundle and what the rig itself writes."""
    own = {str(rig.root / each) for each in ("argv", "env", "log.json", "output")}
    bundle = str(rig.spec.parent)
    found = {}
    for folder, folders, files in os.walk(rig.root.parent):
        for name in (*folders, *files):
            path = f"{folder}/{name}"
            if path not in own:
                mode = os.lstat(path).st_mode
                found[path] = (mode, content(path, mode))
        folders[:] = [each for each in folders if f"{folder}/{each}" != bundle]
    return found


def content(path: str, mode: int) -> bytes:
    if stat.S_ISLNK(mode):
        return os.fsencode(os.readlink(path))
    if not stat.S_ISREG(mode):
        return b""
    with open(path, "rb", buffering=0) as file:
        return file.read()


def make(rig: Rig, call: Call, mode: str) -> int:
    """Make a call, hold what it did to the promise and the model, and return how it ended."""
    before, spec, started = snapshot(rig), rig.spec.read_bytes(), time.monotonic()
    done = rig.call(*call.words)
    assert time.monotonic() - started < 20
    assert done.status in call.right.statuses, (call, mode, done)
    assert done.output == b"", (call, done)
    assert snapshot(rig) == before, call
    assert not Path("/tmp/pwned").exists(), call
    assert set(os.listdir(rig.spec.parent)) <= {*OWN, call.log}, call
    if done.status == REFUSED:
        check_reason(rig, call, done)
    else:
        assert not done.records, (call, done)
        check_words(call, done)
    if done.status == NVIDIA:
        check_given(rig, call, mode, done)
    elif call.log != LEASE:
        assert not (rig.spec.parent / LEASE).exists(), call
    if done.status == RUNC:
        assert done.config == spec, (call, done)
    return done.status


def check_reason(rig: Rig, call: Call, done: Outcome) -> None:
    """A refusal is one record in the log, of which a line is shown, wherever that is."""
    records = done.records
    if call.log and "/" in call.log:  # a folder that isn't there
        return
    if call.log:
        assert not records, (call, done)
        records = tuple(map(json.loads, (rig.bundle / call.log).read_text().splitlines()))
    (record,) = records
    assert set(record) == {"level", "msg", "time"}, record
    assert record["level"] == "error"
    assert record["msg"].isprintable(), record


def check_words(call: Call, done: Outcome) -> None:
    """What was asked goes on as it came, read with the one kind of line end that the rig knows."""
    told = [re.sub("\r\n?", "\n", each) for each in call.words]
    assert list(done.argv[len(done.argv) - len(told) :]) == told, (call, done)


def check_given(rig: Rig, call: Call, mode: str, done: Outcome) -> None:
    """A task has the devices that are right for it, and where they are leased, their lease."""
    (value,) = [each for each in done.new_env if each.startswith(f"{DEVICES}=")]
    given = tuple(value.partition("=")[2].split(","))
    assert set(given) <= ALLOWED, (call, value)
    assert len(set(given)) == len(given), (call, value)
    assert call.right.uuids in (None, given), (call, mode, value)
    lease = rig.spec.parent / LEASE
    if mode != "shared":
        assert lease.read_text().rstrip("\n").split("\t")[4] == ",".join(given), call


def play(rig: Rig, title: str, dice: random.Random) -> int:
    mode = dice.choice(MODES)
    sharing = Sharing(mode, "all" if mode == "shared" else dice.choice("011"))
    table = replace(TABLE, sharing=mode, default=sharing.standard, timeout=0)
    ensure_devices(rig.layout, table)
    for left in rig.spec.parent.iterdir():
        left.unlink()
    chosen: Play = PLAYS[title]
    return make(rig, chosen(rig, sharing, dice), mode)


def test_hostile_calls(chaos: Chaos, tmp_path: Path) -> None:
    for title in chaos.part(sorted(PLAYS), quick=len(PLAYS)):
        rounds = 15 if chaos.quick else 150
        ended: Counter[int] = Counter()
        for number, (shell, awk) in enumerate(PAIRS):
            rig = Rig(tmp_path / title / str(number) / "machine", shell, awk)
            dice = chaos.dice(f"{title} {number}")
            with chaos.case(PROMISE, title):
                ended.update(play(rig, title, dice) for _ in range(rounds))
            chaos.tried(PROMISE, rounds - 1, 0)
        for status, share in LEAST[title].items():
            assert ended[status] >= int(share * rounds * len(PAIRS)), (title, ended)


def test_hostile_specs(chaos: Chaos, tmp_path: Path) -> None:
    count = 60 if chaos.quick else 1500
    seen: Counter[str] = Counter()
    for number, (shell, awk) in enumerate(PAIRS):
        with chaos.case(PROMISE, awk):
            rig = Rig(tmp_path / str(number), shell, awk)
            seen.update(check_specs(rig, seed=chaos.dice(awk).getrandbits(30), count=count))
        chaos.tried(PROMISE, count - 1, 0)
    for where in ("nvidia", "runc", "refused", "no gpu"):
        assert seen[where] >= count * len(PAIRS) / 60, seen
