"""Hostile calls of the wrapper: neighbours, command lines, ids and names of bundles.

A play prepares a machine and returns the one call that is to be made, and what is right for it.
"""

from __future__ import annotations

import json
import os
import random
import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.chaos.hostile import PIECES
from tests.chaos.wrapper_rules import (
    CREATE,
    GLOBAL,
    Held,
    Right,
    Sharing,
    create_of,
    creation,
    right,
)
from tests.unit.wrapper_leases import COUNT, LEASE, start_of
from tests.unit.wrapper_rig import DEVICES, GPU_A, GPU_B, MIG, REFUSED, RUNC, TASK, Rig, spec

# The last ones are bytes that are no UTF-8.
WORDS = (
    *(piece for piece in PIECES if "\0" not in piece and len(piece) < 200),
    *("--bundle=/nowhere", "--log=/nowhere/log", "-", "--", "create", "exec", "gpu-lease", ".."),
    *("a=b", "FS=x", "ENVIRON=1", "-f", "/dev/stdin", "*", "?", "[", "~", "!", "\x80", "'\"'\"'"),
    *("\udcff", "\udc80\udcfe"),
)
# What awk could take for one number.
NUMBERS = ("1", "01", "1.0", "+1", "1e0", "0x1")
GOOD_IDS = ("an-id", "a.b+c_d", "..", "x" * 1000, *NUMBERS)
ASKED = ("0", "1", "2:1", "all", "none", "9", "01", " 0", "0,0", "0,9", GPU_A, MIG, "\u0660")
BUNDLES = (
    *("a b", " ", "a\nb", "\n", "a\n", "\t", "\r", "\x01", "\x7f", "'", '"', "'\"'\"'", "a'b\"c"),
    *("$(touch pwned)", "`touch pwned`", ";touch pwned", "a&b|c>d", "${IFS}", "$$", "!", "#", "~"),
    *("*", "?", "a*", "[a-z]*", "[", "]", "{a,b}", "!(*)", "\\", "\\*", "a\\", "a\\nb", "\\\\"),
    *("..x", "...", ".x", "a=b", "RS=x", "spec=x", "%s%n", "\u00e9", "\u202e", "\u2028", "\u0085"),
    *("\U0001f600", "\udcff", "a\udc80"),
    *("x" * 255, "\u00e9" * 127, "$" * 255, "\\" * 255, "an-id", "config.json", "gpu-lease"),
)
DASHED = ("-", "--", "-x", "-f", "--bundle", "-bundle=x", "--help", "-\n")
LONGEST = os.pathconf("/", "PC_PATH_MAX") - 1  # bytes of a path
LONGEST_LEASED = 900  # of one from which every neighbour's lease can be opened
SPELLINGS: tuple[Callable[[str], list[str]], ...] = (
    lambda path: ["--bundle", path],
    lambda path: [f"--bundle={path}"],
    lambda path: ["-b", path],
    lambda path: [f"-b={path}"],
    lambda path: ["-bundle", path],
    lambda path: ["--bundle", "/nowhere", f"--b={path}"],
)


@dataclass(frozen=True)
class Call:
    """A call that is to be made.

    Attributes:
        words: what stands behind the shim's global options.
        right: what is right for it.
        log: where its refusal is written, unless in the shim's log.
    """

    words: tuple[str, ...]
    right: Right
    log: str = ""


Play = Callable[[Rig, Sharing, random.Random], Call]


def word(dice: random.Random) -> str:
    return "".join(dice.choices(WORDS, k=dice.choice((1, 1, 2))))


def name(dice: random.Random) -> str:
    """Return a text that can be a file's name."""
    made = os.fsdecode(os.fsencode(word(dice).replace("/", "_"))[:100])
    return made if made not in (".", "..", "") else "x"


def among_neighbours(rig: Rig, sharing: Sharing, dice: random.Random) -> Call:
    """A create beside bundles of any name, with anything where their leases belong."""
    handle = dice.choice(("an-id", *NUMBERS))
    held = neighbours(rig, handle, dice)
    env = [f"A={word(dice)}"]
    if dice.random() < 0.5:
        env.append(f"{DEVICES}={dice.choice((*ASKED, *ASKED, word(dice)))}")
    if dice.random() < 0.4:
        env.append(f"{COUNT}={dice.choice(('1', '1', '2', *ASKED, word(dice)))}")
    dice.shuffle(env)
    places = (TASK, TASK, TASK, f"{TASK}/{word(dice)}", f"{TASK}/{word(dice)}", "/tmp/build/get")
    made = spec(env, ["/proc", dice.choice(places)])
    rig.spec.write_text(json.dumps(made))
    words = ("create", "--bundle", str(rig.spec.parent), "--pid-file", "p", handle)
    return Call(words, creation(made, sharing, handle, held))


def with_any_arguments(rig: Rig, sharing: Sharing, dice: random.Random) -> Call:
    """A command line that is a create, or nearly; the bundle is also the working directory."""
    made = spec()
    rig.spec.write_text(json.dumps(made))
    words = command_line(dice)
    create = create_of(words)
    if create is None or not os.path.isfile(rig.bundle / create.bundle / "config.json"):
        return Call(tuple(words), right(RUNC))
    rightly = creation(made, sharing, create.handle, Held())
    return Call(tuple(words), rightly, create.log)


def with_any_id(rig: Rig, sharing: Sharing, dice: random.Random) -> Call:
    made = spec()
    rig.spec.write_text(json.dumps(made))
    handle = dice.choice((word(dice), word(dice), dice.choice(GOOD_IDS)))
    words = ("create", "--bundle", str(rig.spec.parent), handle)
    if handle.startswith("-"):
        return Call(words, right(RUNC))
    return Call(words, creation(made, sharing, handle, Held()))


def in_any_bundle(rig: Rig, sharing: Sharing, dice: random.Random) -> Call:
    """A create in a bundle of any name, which is written in any way, from any folder."""
    run = rig.root / "run"
    long = os.fsdecode(os.fsencode(name(dice) * 3)[:255])
    chosen = dice.choice((*dice.choices(BUNDLES, k=3), long, dice.choice(DASHED)))
    bundle, beside = run / chosen, run / "beside"
    for place in run.iterdir():
        shutil.rmtree(place)
    for place in (bundle, beside):
        place.mkdir()
    rig.bundle, rig.spec = dice.choice((bundle, run, run, beside)), bundle / "config.json"
    load: Counter[str] = Counter()
    if dice.random() < 0.7:
        hold(run / "a neighbour", "a neighbour", GPU_A, load)
    made = spec([dice.choice((f"{COUNT}=1", f"{COUNT}=2", f"{DEVICES}=1", f"{DEVICES}={GPU_A}"))])
    rig.spec.write_text(json.dumps(made))
    if rig.bundle == bundle and dice.random() < 0.3:
        return Call(("create", "an-id"), creation(made, sharing, "an-id", Held(load)))
    path = written(bundle, rig.bundle, dice)
    words = ("create", *dice.choice(SPELLINGS)(path), "an-id")
    rightly = creation(made, sharing, "an-id", Held(load))
    size = len(os.fsencode(path))
    if path.startswith("-") or size + len("/config.json") > LONGEST:
        rightly = right(RUNC)  # which finds no bundle either
    elif size > LONGEST_LEASED and sharing.mode != "shared":
        rightly = right(REFUSED)
    return Call(words, rightly)


def written(bundle: Path, here: Path, dice: random.Random) -> str:
    """Return one of the many ways to write where a bundle is."""
    relative = os.path.relpath(bundle, here)
    around = f"../{here.name}/./{relative}"
    path = dice.choice((str(bundle), relative, relative, f"./{relative}", around))
    again = f"/../{bundle.name}"
    more = dice.choice(("", "/", "//", "/.", again, again * 3, dice.choice((150, 1000, 2500))))
    if more == 1000:  # up to what can just be opened
        more = dice.choice((1000, (LONGEST - len("/config.json") - len(os.fsencode(path))) // 2))
    return path + ("/." * more if isinstance(more, int) else more)


def neighbours(rig: Rig, handle: str, dice: random.Random) -> Held:
    """Put bundles beside that of a handle, and return what they hold."""
    own, run = rig.spec.parent, rig.spec.parent.parent
    for place in run.iterdir():
        if place != own:
            shutil.rmtree(place)
    load: Counter[str] = Counter()
    perhaps: set[str] = set()
    for number in range(dice.randrange(5)):
        bundle = run / f"{number}{name(dice)}"
        kind = dice.choice(("junk", "junk", "live", "live", "orphan"))
        uuids = dice.choice((GPU_A, GPU_B, f"{GPU_A},{GPU_B}", MIG))
        other = dice.choice((*(each for each in NUMBERS if each != handle), name(dice), name(dice)))
        if kind == "live":
            hold(bundle, "".join(other.split()) or "x", uuids, load)
        elif kind == "orphan":
            orphan(bundle, other, uuids, dice)
            perhaps |= set(uuids.split(","))
        else:
            junk(bundle, dice)
    return Held(load, frozenset(perhaps))


def hold(bundle: Path, handle: str, uuids: str, load: Counter[str]) -> None:
    """Give a bundle the lease of a container whose creator lives: this process."""
    bundle.mkdir()
    lease = f"{handle}\t{os.getpid()}\t{start_of(os.getpid())}\t1.0\t{uuids}\n"
    (bundle / LEASE).write_text(lease, errors="surrogateescape")
    load.update(uuids.split(","))


def orphan(bundle: Path, handle: str, uuids: str, dice: random.Random) -> None:
    """Give it that of a container whose creator is gone, and whose process lives: it may count."""
    bundle.mkdir()
    taken = dice.choice(("1.0", word(dice)))
    lease = f"{handle}\t{os.getpid()}\t1\t{taken}\t{uuids}\n"
    (bundle / LEASE).write_text(lease, errors="surrogateescape")
    (bundle / "init.pid").write_text(str(os.getpid()))
    marks = f"{os.getpid()} {word(dice)}\n{word(dice)}\n" * dice.randrange(3)
    (bundle / "gpu-execs").write_text(marks, errors="surrogateescape")


def junk(bundle: Path, dice: random.Random) -> None:
    """Put anything where a lease belongs: it holds nothing, as no process began at such a time."""
    bundle.mkdir()
    pid = dice.choice((os.getpid(), 1, 0, -1, 2**40, word(dice)))
    fields = [name(dice), pid, word(dice), dice.choice(("1.0", word(dice))), word(dice)]
    lease = "\t".join(map(str, fields[: dice.randrange(6)]))
    (bundle / LEASE).write_text(lease, errors="surrogateescape")
    for other in ("init.pid", "gpu-execs", "gpu-request"):
        if dice.random() < 0.5:
            (bundle / other).write_text(f"{pid} {word(dice)}\n", errors="surrogateescape")


def command_line(dice: random.Random) -> list[str]:
    handle = dice.choice((*GOOD_IDS, *(word(dice).lstrip("-") for _ in GOOD_IDS)))
    words = [*options(GLOBAL, dice), "create", *options(CREATE, dice), handle]
    for _ in range(dice.choice((0, 0, 0, 1, 2))):
        words.insert(dice.randrange(len(words) + 1), word(dice))
    if dice.random() < 0.1:
        dice.shuffle(words)
    return words


def options(known: dict[str, bool], dice: random.Random) -> list[str]:
    """Return some options of runc as they are or could be written."""
    made: list[str] = []
    for option in dice.choices(list(known), k=dice.randrange(3)):
        flag = dice.choice(("-", "--")) + option
        value = dice.choice((".", "", "./")) if option in ("b", "bundle") else word(dice)
        if dice.random() < 0.8:  # a value like an option makes it no create
            value = value.lstrip("-")
        if not known[option]:
            made += [flag]
        elif option == "log":  # in one word, so that no other can become the file that is written
            made += [f"{flag}={name(dice)}"]
        else:
            made += dice.choice(([flag, value], [f"{flag}={value}"]))
    return made


PLAYS: dict[str, Play] = {
    "arguments": with_any_arguments,
    "bundles": in_any_bundle,
    "ids": with_any_id,
    "neighbours": among_neighbours,
}
