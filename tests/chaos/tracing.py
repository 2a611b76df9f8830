"""Where a hook changes the machine, found by strace; and SIGKILL at each of those places.

No list of places is written by hand: a hook is traced once, children included, and each of its
own system calls that changed something is a place to kill it before, which is after the one
before.  So are the start of each of its children (the child lives on, as it would) and, where
the child changed a file, its end.  A question that changes nothing and was asked before is left
out: the machine is in the state of the place before.  Of many writes in a row to one file, the
first, one in the middle and the last are taken; of many changes in a row within a folder that has
a passing name, being made or on its way out, five.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, replace

from rehearsal.juju import Run, Unit
from rehearsal.machine import Machine

# Linux' calls that change files, owners, modes or mounts, end processes or start them.
_FILES = (
    "rename,renameat,renameat2,link,linkat,symlink,symlinkat,unlink,unlinkat,mkdir,mkdirat,rmdir,"
    "mknod,mknodat,chmod,fchmod,fchmodat,chown,fchown,lchown,fchownat,truncate,ftruncate,"
    "fallocate,utimensat,setxattr,fsetxattr,write,writev,pwrite64,sendfile,copy_file_range,"
    "mount,umount2"
)
_STARTS = "vfork,fork,clone,clone3"
_TRACED = f"{_FILES},kill,{_STARTS},execve,close,exit_group"
_TRACE = "/run/chaos-trace"
_LINE = re.compile(r"(\d+) +(\w+)\((.*)\) += (-?\d+)")
_CALL = re.compile(r"(\d+) +(\w+)\(")
_WRITTEN = re.compile(r"before p?write\w*\(\d+<(.*?)(-journal)?>")  # SQLite's is one file
# A folder under a name of files.sibling's.
_PASSING = re.compile(r'[<"](/[^">]*/\.[^/">]+\.[0-9a-f]{8}\.tmp)[/>"]')
# Juju's own: what ops keeps in the charm's folder, and the hook tools.
_JUJUS = "/var/lib/juju/"


@dataclass(frozen=True)
class Place:
    """Where a hook is killed: when it makes its nth call of a name, before the call is done.

    Attributes:
        what: what it is about to do there, for people.
    """

    number: int
    call: str
    nth: int
    what: str

    def __str__(self) -> str:
        return f"{self.number} {self.what}"


@dataclass
class _Child:
    start: int  # the line of its parent's call
    argv: str = ""
    changes: bool = False


def prepare(machine: Machine) -> None:
    """Have strace in the machine."""
    apt = "DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends strace"
    machine.shell(f"command -v strace || {apt}", timeout=300)


def traced(unit: Unit, name: str) -> tuple[Run, list[Place]]:
    """Run a hook undisturbed; return it and every place where it can be killed."""
    run = _under(unit, name, "-f", "--seccomp-bpf", f"--trace={_TRACED}")
    return run, places(_read(unit.machine))


def killed(unit: Unit, name: str, place: Place) -> str:
    """Run a hook that is killed at a place.

    Returns:
        The last call that strace saw it begin; "" if it was never killed.
    """
    kill = f"--inject={place.call}:signal=KILL:when={place.nth}"
    run = _under(unit, name, f"--trace={place.call}", kill)
    if run.code == 0:
        return ""
    assert run.code in (-9, 137), f"it ended with status {run.code}: {run.trouble}"
    return _read(unit.machine).splitlines()[-1]


def _under(unit: Unit, name: str, *options: str) -> Run:
    """Run a hook under strace."""
    unit.under = ("strace", "-qq", "-y", "-s", "60", "-o", _TRACE, "--signal=none", *options)
    try:
        return unit.hook(name)
    finally:
        unit.under = ()


def _read(machine: Machine) -> str:
    return (machine.root / _TRACE.lstrip("/")).read_text(errors="replace")


class _Places:
    """Collects places in the order of a trace."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._found: list[Place] = []
        self._row: list[Place] = []  # changes in a row to one file, or within one passing folder
        self._of: tuple[str, int] = ("", 0)  # which, and how many of them are taken

    def count(self, call: str) -> None:
        self._counts[call] += 1

    def add(self, call: str, what: str) -> None:
        """Take the call that was counted last."""
        place = Place(0, call, self._counts[call], what)
        of = _row_of(what)
        if of != self._of:
            self._end_row()
        self._of = of
        (self._row if of[1] else self._found).append(place)

    def _end_row(self) -> None:
        last, most = len(self._row) - 1, self._of[1]
        taken = {last * step // (most - 1) for step in range(most)} if self._row else set()
        self._found += [self._row[index] for index in sorted(taken)]
        self._row.clear()

    def end(self) -> list[Place]:
        self._end_row()
        return [replace(place, number=number) for number, place in enumerate(self._found, 1)]


def _row_of(what: str) -> tuple[str, int]:
    """Return what a change belongs to of which few are taken, and how many; "" and 0 if nothing."""
    for pattern, most in ((_PASSING, 5), (_WRITTEN, 3)):
        found = pattern.search(what)
        if found:
            return found[1], most
    return "", 0


def places(trace: str) -> list[Place]:
    """Return where the hook of a trace can be killed: its first line is the hook's own."""
    lines = trace.splitlines()
    hook = lines[0].split()[0]
    children = _children(lines, hook)
    found = _Places()
    pending: _Child | None = None  # started, its parent has made no other call yet
    unsettled = False  # a child has changed something since the last place
    asked: set[str] = set()
    for number, line in enumerate(lines):
        begun = _CALL.match(line)
        if begun is None or begun[1] != hook:
            continue
        call = begun[2]
        found.count(call)
        if call in _STARTS.split(","):
            pending = children.get(number)
            if pending and unsettled:
                found.add(call, f"before starting {pending.argv}")
                unsettled = False
        elif call == "close" and pending:
            if pending.changes or pending.argv not in asked:
                found.add(call, f"after starting {pending.argv}")
            asked.add(pending.argv)
            unsettled, pending = pending.changes, None
        elif call == "exit_group" or _changes(line):
            text = re.sub(r"AT_FDCWD<[^>]*>, ", "", line.split(None, 1)[1])
            found.add(call, f"before {text.rpartition(')')[0][:110]})")
            unsettled = False
    return found.end()


def _children(lines: list[str], hook: str) -> dict[int, _Child]:
    """Return the hook's children but for Juju's tools, by the line on which they were started."""
    parents: dict[str, str] = {}  # a process, and the hook's child that it descends from
    known: dict[str, _Child] = {}
    begun: dict[str, int] = {}  # a process whose call is not over yet
    for number, line in enumerate(lines):
        pid = line.split(None, 1)[0]
        started = re.match(rf"{pid} +(?:<\.\.\. )?(?:{_STARTS.replace(',', '|')})\b.*= (\d+)", line)
        if re.match(rf"{pid} +(?:{_STARTS.replace(',', '|')})\(", line):
            begun[pid] = number
        if started:
            new = started[1]
            parents[new] = new if pid == hook else parents.get(pid, "")
            if pid == hook:
                known.setdefault(new, _Child(begun[pid])).start = begun[pid]
            continue
        child = known.get(parents.get(pid, pid))
        if pid != hook and pid not in parents:  # it ran before its parent's call was over
            child = known.setdefault(pid, _Child(-1))
        if child is None:
            continue
        argv = re.search(r"execve\(\"([^\"]+)\", \[(.*?)\]", line)
        if argv and not child.argv:
            words = re.findall(r'"([^"]*)"', argv[2])
            words = [re.sub("[0-9a-f]{32}", "…", word) for word in words]  # an id of one run
            child.argv = " ".join([argv[1], *words[1:]])[:110]
        child.changes |= _changes(line)
    ours = (child for child in known.values() if _JUJUS not in child.argv)
    return {child.start: child for child in ours}


def _changes(line: str) -> bool:
    """Return whether a line tells of a call that changed a file of the machine."""
    made = _LINE.match(line)
    if made is None or made[4].startswith("-") or made[2] not in _FILES.split(","):
        return False
    arguments = re.sub(r"AT_FDCWD<[^>]*>", "", made[3])
    if _JUJUS in arguments or '"/proc/' in arguments or "</proc/" in arguments:
        return False
    named = re.match(r"\d+<([^>]*)>", arguments)
    # Not what has no name in a folder: a pipe, a device, a file in memory that feeds a child.
    return named is None or re.match("/(?!dev/|memfd:)", named[1]) is not None
