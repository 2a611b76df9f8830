"""The wrapper with whatever a user, or a neighbour's bundle, can put before it."""

from __future__ import annotations

import os
import random
import re
import shutil
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from gpu.wrapper import ensure_devices
from tests.chaos.frame import Chaos
from tests.chaos.hostile import PIECES
from tests.unit.test_wrapper_property import check_specs
from tests.unit.wrapper_rig import (
    GPU_A,
    GPU_B,
    MIG,
    NVIDIA,
    PAIRS,
    REFUSED,
    RUNC,
    TABLE,
    TASK,
    Outcome,
    Rig,
    spec,
)

PROMISE = (
    "The wrapper with hostile specs, bundles, ids, arguments and neighbours' leases: no shell reads"
    " them, nothing outside the bundle is written, no GPU that isn't allowed, linear time."
)
ALLOWED = {GPU_A, GPU_B, MIG}
MODES = ("shared", "balanced", "exclusive")
WORDS = (
    *(piece for piece in PIECES if "\0" not in piece and len(piece) < 200),
    *(
        "--bundle=/nowhere",
        "--log=/nowhere/log",
        "-",
        "--",
        "create",
        "exec",
        "gpu-lease",
        "..",
        "a=b",
    ),
    *("FS=x", "ENVIRON=1", "-f", "/dev/stdin", "*", "?", "[", "~", "!", "\x80", "'\"'\"'"),
)
ASKED = ("0", "1", "2:1", "all", "none", "9", "01", " 0", "0,0", "0,9", GPU_A, MIG, "\u0660")
Play = Callable[[Rig, random.Random], None]


def snapshot(rig: Rig) -> dict[str, object]:
    """Everything below the root but the bundle and what the rig itself writes."""
    own = {"argv", "env", "log.json", "output"}
    return {
        str(path): path.read_bytes() if path.is_file() and not path.is_symlink() else ""
        for folder, folders, files in os.walk(rig.root)
        for path in (Path(folder) / name for name in (*folders, *files))
        if rig.bundle not in (path, *path.parents) and path.name not in own
    }


def hold(done: Outcome, started: float, before: dict[str, object], rig: Rig) -> None:
    """Hold one call to the promise."""
    assert time.monotonic() - started < 20
    assert done.status in (NVIDIA, RUNC, REFUSED), done
    assert done.output == b"", done
    assert snapshot(rig) == before
    assert not Path("/tmp/pwned").exists()
    for record in done.records:
        assert set(record) == {"level", "msg", "time"}
    if done.status == NVIDIA:
        (value,) = [each for each in done.new_env if each.startswith("NVIDIA_VISIBLE_DEVICES=")]
        assert set(value.partition("=")[2].split(",")) <= ALLOWED, value


def word(dice: random.Random) -> str:
    return "".join(dice.choices(WORDS, k=dice.choice((1, 1, 2))))


def name(dice: random.Random) -> str:
    """Return a text that can be a file's name."""
    made = word(dice).replace("/", "_")[:100]
    return made if made not in (".", "..", "") else "x"


def neighbours(rig: Rig, dice: random.Random) -> None:
    """Put bundles beside ours, under any name, with anything where their leases belong."""
    for place in rig.bundle.parent.iterdir():
        if place != rig.bundle:
            shutil.rmtree(place)
    for _ in range(dice.randrange(5)):
        bundle = rig.bundle.parent / name(dice)
        bundle.mkdir(exist_ok=True)
        pid = dice.choice((os.getpid(), 1, 0, -1, 2**40, word(dice)))
        fields = [name(dice), pid, word(dice), dice.choice(("1.0", word(dice))), word(dice)]
        lease = "\t".join(map(str, fields[: dice.randrange(6)]))
        (bundle / "gpu-lease").write_text(lease, errors="surrogateescape")
        for other in ("init.pid", "gpu-execs", "gpu-request"):
            if dice.random() < 0.5:
                (bundle / other).write_text(f"{pid} {word(dice)}\n", errors="surrogateescape")


def a_spec(dice: random.Random) -> dict[str, object]:
    env = [f"NVIDIA_VISIBLE_DEVICES={dice.choice((*ASKED, word(dice)))}"]
    env += [f"CONCOURSE_GPU_COUNT={dice.choice((*ASKED, word(dice)))}"]
    made = dice.sample([*env, f"A={word(dice)}"], k=dice.randrange(1, 4))
    return spec(made, ["/proc", dice.choice((TASK, f"{TASK}/{word(dice)}", "/tmp/build/get"))])


def share(rig: Rig, dice: random.Random) -> None:
    mode = dice.choice(MODES)
    standard = "all" if mode == "shared" else dice.choice("01")
    ensure_devices(rig.layout, replace(TABLE, sharing=mode, default=standard, timeout=0))


def create_among_neighbours(rig: Rig, dice: random.Random) -> None:
    neighbours(rig, dice)
    for left in ("gpu-lease", "gpu-request", "gpu-execs"):
        (rig.bundle / left).unlink(missing_ok=True)
    before, started = snapshot(rig), time.monotonic()
    hold(rig.create(a_spec(dice)), started, before, rig)


def call_with_any_arguments(rig: Rig, dice: random.Random) -> None:
    words = [word(dice) for _ in range(dice.randrange(6))]
    at = dice.randrange(len(words) + 1)
    words[at:at] = dice.choice((["create"], ["exec"], ["--bundle", "."], ["create", "-b", "."], []))
    before, started = snapshot(rig), time.monotonic()
    done = rig.call(*words)
    hold(done, started, before, rig)
    if done.status == RUNC and words:  # the rig reads what it was told with one kind of line end
        told = [re.sub("\r\n?", "\n", each) for each in words]
        assert list(done.argv[-len(words) :]) == told


def create_with_any_id(rig: Rig, dice: random.Random) -> None:
    rig.spec.write_text(re.sub("x", "y", str(spec())).replace("'", '"').replace("False", "false"))
    before, started = snapshot(rig), time.monotonic()
    hold(rig.call("create", "--bundle", str(rig.bundle), word(dice)), started, before, rig)


PLAYS: dict[str, Play] = {
    "neighbours": create_among_neighbours,
    "arguments": call_with_any_arguments,
    "ids": create_with_any_id,
}


def test_hostile_calls(chaos: Chaos, tmp_path: Path) -> None:
    for title in chaos.part(sorted(PLAYS), quick=len(PLAYS)):
        rounds = 15 if chaos.quick else 150
        for number, (shell, awk) in enumerate(PAIRS):
            rig = Rig(tmp_path / title / str(number), shell, awk)
            dice = chaos.dice(f"{title} {number}")
            with chaos.case(PROMISE, title):
                for _ in range(rounds):
                    share(rig, dice)
                    PLAYS[title](rig, dice)
            chaos.tried(PROMISE, rounds - 1, 0)


def test_hostile_specs(chaos: Chaos, tmp_path: Path) -> None:
    count = 60 if chaos.quick else 1500
    for number, (shell, awk) in enumerate(PAIRS):
        with chaos.case(PROMISE, awk):
            rig = Rig(tmp_path / str(number), shell, awk)
            check_specs(rig, seed=chaos.dice(awk).getrandbits(30), count=count)
        chaos.tried(PROMISE, count - 1, 0)


def test_many_neighbours_take_no_time(chaos: Chaos, tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    ensure_devices(rig.layout, replace(TABLE, sharing="balanced", default="1", timeout=0))
    with chaos.case(PROMISE, "250 neighbours"):
        for number in range(250):
            bundle = rig.bundle.parent / f"n{number}"
            bundle.mkdir()
            (bundle / "gpu-lease").write_text(f"n{number}\t{2**22}\t1\t1.0\t{GPU_A}\n")
        started = time.monotonic()
        assert rig.create(spec()).status == NVIDIA
        assert time.monotonic() - started < 5
