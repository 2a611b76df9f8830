"""SIGKILL at every place where a hook changes the machine, and what is to be right then."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from rehearsal import footprint
from rehearsal.containers import bundle
from rehearsal.footprint import Footprint
from rehearsal.machine import Machine
from rehearsal.standins import release
from rehearsal.world import World
from tests.chaos import tracing
from tests.chaos.frame import Chaos
from tests.chaos.snapshots import Snapshot
from tests.chaos.tracing import Place
from tests.chaos.units import CPU, GPU, follow, installed, leave_the_archive, settle

PROMISE = (
    "Killed (SIGKILL) before and after every call of {} that changes the machine, and at its"
    " children's start and end: containers can be created at once, and the next hook ends in the"
    " state of an undisturbed run"
)
_QUICK = 3  # places of each procedure in the quick part
_HANDLES = ("chaos-check", "chaos-task")


@dataclass(frozen=True)
class Procedure:
    """What is killed.

    Attributes:
        name: as the promise calls it.
        begins: the state that the machine begins with.
        options: what the operator changes then.
        release: which Concourse the related web runs then, which its workers follow.
    """

    name: str
    begins: str
    options: tuple[tuple[str, object], ...] = ()
    release: str = release.VERSION

    def __str__(self) -> str:
        return self.name.replace(" ", "-")


# What is not compared as files: the commands that tell it.
_TOLD = ("dpkg-divert --list", "dpkg-query -W -f '${Package} ${Version} ${Status}\\n'")
# Prints each release that has no original runc.
_TORN_TREES = (
    "for tree in /opt/concourse-releases/*; do\n"
    '  [ -e "$tree/bin/runc.real" ] || [ "$(head -c 4 "$tree/bin/runc" | tail -c 3)" = ELF ]'
    ' || echo "$tree"\ndone'
)
# When the GPU was last proved: a time, so its content is no state to compare.
_PROVED = "/var/lib/concourse-ci-machine/gpu/proved"
# Until the worker is neither stopped nor started and answers, or twenty seconds are over.
_UP = (
    'timeout 20 sh -c \'until [ -z "$(systemctl list-jobs --no-legend concourse-worker.service)" ]'
    " && curl -sf 127.0.0.1:8888; do sleep 0.1; done' || :"
)
# The states of a machine to begin with; the second is what undo leaves.
BARE, UNDONE, SET_UP = "bare", "undone", "set up"


class Lab:
    """One machine with a unit, and the states that procedures begin with.

    Attributes:
        tried: the places of all procedures so far.
    """

    def __init__(self, machine: Machine, world: World, charm: Path) -> None:
        self.tried: list[Place] = []
        self.machine = machine
        self.unit = installed(machine, world, charm, enable_gpu=False)
        world.offer_release(release.NEXT_VERSION)
        tracing.prepare(machine)
        leave_the_archive(machine)
        for handle in _HANDLES:
            bundle(machine, handle, task=handle.endswith("task"))
        self._plain = dict(self.unit.model.config)
        self._snapshots: dict[str, Snapshot] = {}
        for state, status in ((BARE, CPU), (SET_UP, GPU), (UNDONE, CPU)):
            self.unit.model.config["enable-gpu"] = status == GPU
            settle(self.unit, status)
            self._snapshots[state] = Snapshot(machine)

    def begin(self, procedure: Procedure) -> None:
        """Put the machine into the state that a procedure begins with, and order the change."""
        self._end_orphans()
        self.machine.shell(
            "systemctl kill --kill-who=all -s KILL concourse-worker || :\n"
            "systemctl stop concourse-worker || :",  # else its own restart comes in 10 s
            timeout=60,
        )
        self._snapshots[procedure.begins].restore()
        self.machine.shell(
            "systemctl daemon-reload\n"
            "systemctl reset-failed concourse-worker || :\n"
            f"systemctl start concourse-worker\n{_UP}",
            timeout=90,
        )
        self.unit.model.config = {**self._plain, "enable-gpu": procedure.begins == SET_UP}
        self.unit.model.config.update(procedure.options)
        follow(self.unit, procedure.release)

    def finish(self, procedure: Procedure) -> Footprint:
        """Run the next hook; return what of the machine is not as in the beginning.

        A tree that is no longer current goes when no process uses it any more: a matter of
        when the worker restarts, and of a later hook.  Until then it is whole.

        Returns:
            The files by path; and under the commands that tell them, dpkg's diversions, the
            packages and the unit's status.
        """
        run = self.unit.hook("config-changed")
        assert run.code == 0, run.trouble
        status = self._settled()
        current = self.machine.shell("readlink -f /opt/concourse").strip()
        old = current.rpartition("/")[2] != release.VERSION
        torn = self.machine.shell(_TORN_TREES).split()
        assert not torn, f"trees without an original runc: {torn}"
        changed = self._snapshots[procedure.begins].changed()
        found = {path: what for path, what in changed.items() if not _is_passing(path, of_old=old)}
        if _PROVED in found:
            found[_PROVED] = found[_PROVED][:3]
        told = {command: (self.machine.shell(command),) for command in _TOLD}
        return {**found, **told, "juju status": status}

    def _settled(self) -> tuple[str, str]:
        """Return the status once a restart of the worker, if the killed hook began one, is over."""
        for _ in range(3):
            if self.unit.model.status[0] == "active":
                break
            self.machine.shell(_UP, timeout=60)
            run = self.unit.hook("update-status")
            assert run.code == 0, run.trouble
        return self.unit.model.status

    def undisturbed(self, procedure: Procedure) -> Footprint:
        """Run a procedure without killing it; return what `finish` does."""
        self.begin(procedure)
        state = self.finish(procedure)
        self.create_containers()  # so whatever ends in this state can
        return state

    def create_containers(self) -> None:
        """Create a check's and a task's container through the name that containerd's shim calls.

        Raises:
            MachineError: one can't be created.
        """
        runc = "/opt/concourse/bin/runc --root /run/chaos-runc"
        for handle in _HANDLES:
            folder = f"/run/rehearsal/{handle}"
            self.machine.shell(
                f"cp {folder}/spec.json {folder}/config.json\n"
                f"timeout 20 {runc} --log {folder}/log.json --log-format json"
                f" create --bundle {folder} {handle} </dev/null >/dev/null 2>&1"
                f" || {{ cat {folder}/log.json >&2; exit 1; }}\n"
                f"{runc} delete --force {handle}",
                timeout=60,
            )

    def _end_orphans(self) -> None:
        """Wait until no child of a killed hook lives."""
        wait = "while pgrep -x 'apt-get|dpkg|dpkg-divert|apt' >/dev/null; do sleep 0.1; done"
        self.machine.shell(wait, timeout=120)


def _is_passing(path: str, *, of_old: bool) -> bool:
    """Return whether a path is the old tree's, or what a worker's containerd makes at its start."""
    tree = re.match(r"/opt/concourse-releases/([^/]+)(/lib$)?", path)
    return tree is not None and (bool(tree[2]) or (of_old and tree[1] == release.VERSION))


def kill_everywhere(chaos: Chaos, lab: Lab, procedure: Procedure) -> None:
    """Kill a procedure's hook at each of its places that this run tries."""
    lab.begin(procedure)
    run, places = tracing.traced(lab.unit, "config-changed")
    assert run.code == 0, run.trouble
    # What comes after its packages is the same call with them there, in a fifth of the time.
    known = {place.what for place in lab.tried} if procedure.begins == BARE else set()
    wanted = lab.undisturbed(procedure)
    for place in chaos.part([one for one in places if one.what not in known], quick=_QUICK):
        _kill(chaos, lab, procedure, place, wanted)


def _kill(chaos: Chaos, lab: Lab, procedure: Procedure, place: Place, wanted: Footprint) -> None:
    """Kill the procedure's hook at a place, and hold the machine to the promise."""
    promise = PROMISE.format(procedure.name)
    lab.begin(procedure)
    if not tracing.killed(lab.unit, "config-changed", place):
        # A question that this run did not ask as often.
        chaos.aside(promise, "places that a run did not come to again", 1)
        return
    lab.tried.append(place)
    # Its number finds a place again; what it does there holds temporary names and contents.
    with chaos.case(promise, str(place.number)):
        lab.create_containers()
        found = lab.finish(procedure)
        different = footprint.changes(wanted, found)
        assert not different, {path: (wanted.get(path), found.get(path)) for path in different}
