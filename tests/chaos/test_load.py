"""Containers come and go while the set-up is toggled and the toolkit's packages change."""

from __future__ import annotations

import itertools
import json
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from rehearsal.containers import SOCKET, bundle
from rehearsal.juju import Unit
from rehearsal.machine import Machine
from rehearsal.world import World
from tests.chaos.frame import Chaos
from tests.chaos.units import GPU, assemble, installed, leave_the_archive, settle

PROMISE = (
    "A container that is created while the GPU set-up is switched on and off and the toolkit is"
    " upgraded and downgraded is created, but while the worker restarts as it announced"
)
TASKS = "A task that runs meanwhile lives on through every restart of the worker"
SWITCHES = "While containers come and go, a hook that switches the GPU on or off ends as wished"
FOLDER = "/run/chaos-load"
CTR = f"/opt/concourse/bin/ctr --address {SOCKET} --namespace concourse"
# What a request can be: a check's container, tasks that ask for all, one and none.
KINDS: tuple[tuple[str, bool, dict[str, str]], ...] = (
    ("check", False, {}),
    ("task", True, {}),
    ("task-0", True, {"NVIDIA_VISIBLE_DEVICES": "0"}),
    ("task-none", True, {"NVIDIA_VISIBLE_DEVICES": "none"}),
)
VERSIONS = ("1.20.1", "1.18.2", "1.20.0")
RESTARTS = "it restarts when its builds are done"  # the log's words for an announced restart
# What gRPC says of a server that isn't there, or goes (code 14); anything else is no restart's.
GONE = re.compile(r"\bunavailable\b", re.IGNORECASE)


@dataclass(frozen=True)
class Extent:
    """How much is done: of containers, of switches, and switches between two toolkits."""

    containers: int
    switches: int
    between: int


LIMIT = 3600.0  # seconds for all of it
COMES_UP = 20.0  # seconds until a worker's containerd that systemd started must answer
FULL = Extent(10_000, 200, 20)
QUICK = Extent(150, 4, 2)


# systemd's own message ids (sd-messages.h): a unit has started, and begins to stop.
_STARTED, _STOPPING = "39f53479d3a045ac8e11786248231fbf", "de5b426a63be47a7b6ac3eaac82e2f6f"


@pytest.fixture(scope="module")
def unit(machine: Machine, world: World, tmp_path_factory: pytest.TempPathFactory) -> Unit:
    """A worker whose tasks have the GPU, and the specs of what is going to be created."""
    leave_the_archive(machine)
    charm = assemble(machine, tmp_path_factory.mktemp("charm"))
    unit = installed(machine, world, charm, enable_gpu=True)
    settle(unit, GPU)
    prepare(machine)
    return unit


def prepare(machine: Machine) -> None:
    """Put the loops' program and the specs of what they create into the machine."""
    machine.copy_in(Path(__file__).with_name("load.py"), f"{FOLDER}/load.py")
    for name, task, env in KINDS:
        spec = f"{bundle(machine, f'load-{name}', task=task, env=env)}/spec.json"
        text = machine.read(spec)
        short = text.replace('["/bin/sleep", "600"]', '["/bin/true"]')
        assert short != text
        machine.write(f"{FOLDER}/{name}.json", short)


def test_containers_come_and_go(chaos: Chaos, unit: Unit) -> None:
    extent = QUICK if chaos.quick else FULL
    machine, begun = unit.machine, time.monotonic()
    tasks = start_tasks(machine)
    with told(machine) as changes, loaded(machine) as records:
        announced = switch(chaos, unit, extent, lambda: sum(not one["said"] for one in records()))
        machine.shell("sleep 1")  # what systemd did last is written down
    found = records()
    spans = restarts(changes(), found)
    with chaos.case(PROMISE, "restarts"):
        assert unannounced(spans, announced) == []
    failed = [record for record in found if record["said"]]
    with chaos.case(PROMISE, "containers"):
        assert breaches(found, spans) == []
    chaos.tried(PROMISE, len(found) - len(failed), time.monotonic() - begun)
    chaos.aside(PROMISE, "refused by announced restarts", len(failed))
    chaos.aside(PROMISE, "restarts, each announced", len(spans))
    with chaos.case(TASKS):
        assert len(tasks) == len(KINDS)
        assert running_tasks(machine) == tasks
    chaos.tried(TASKS, len(tasks) - 1, 0)


def test_a_breach_is_seen(unit: Unit) -> None:
    machine = unit.machine
    folder = "cd /opt/concourse/bin\n"
    with told(machine) as changes, loaded(machine) as records:
        machine.shell(f"{folder}sleep 2\ncp -P runc kept\nln -s /bin/false x\nmv -T x runc")
        machine.shell(f"{folder}sleep 0.5\nmv -T kept runc\nsleep 1")
    found = records()
    assert breaches(found, restarts(changes(), found))
    assert [one for one in found if not one["said"]]


def breaches(
    records: list[dict[str, Any]], spans: list[tuple[float, float]]
) -> list[dict[str, Any]]:
    """Return the containers that were refused for another reason than that it restarts."""
    failed = [record for record in records if record["said"]]
    return [
        one
        for one in failed
        if not GONE.search(one["said"]) or not any(meets(one, span) for span in spans)
    ]


def unannounced(spans: list[tuple[float, float]], announced: list[float]) -> list[float]:
    """Return when the worker began a restart that no hook before had announced.

    Args:
        spans: the restarts, in their order.
        announced: when each hook began that announced one; several may come to one restart.
    """
    begun = [stopping for stopping, _ in spans]
    return [
        moment
        for number, moment in enumerate(begun, 1)
        if sum(one < moment for one in announced) < number
    ]


def switch(chaos: Chaos, unit: Unit, extent: Extent, created: Callable[[], int]) -> list[float]:
    """Switch the GPU off and on, and change the toolkit in between.

    Each switch is followed by its share of the containers, so that they meet all of them.

    Returns:
        When each hook began that announced a restart.
    """
    versions, begun = itertools.cycle(VERSIONS), time.monotonic()
    announced = []
    for number in range(extent.switches):
        on = bool(number % 2)
        unit.model.config["enable-gpu"] = on
        if on and number % extent.between == extent.between - 1:
            unit.model.config["nvidia-toolkit-version"] = next(versions)
        with chaos.case(SWITCHES, f"switch {number + 1}"):
            asked = time.monotonic()
            run = unit.hook("config-changed")
            assert run.code == 0, run.trouble
            announced += [asked for line in run.log if RESTARTS in line]
            links = unit.machine.shell("readlink /opt/concourse/bin/runc || echo original").strip()
            assert links == ("runc-gpu-wrapper" if on else "original"), run.log
        while created() < extent.containers * (number + 1) // extent.switches:
            assert time.monotonic() - begun < LIMIT, "containers are not created any more"
            time.sleep(0.5)
    return announced


@contextmanager
def loaded(machine: Machine) -> Iterator[Callable[[], list[dict[str, Any]]]]:
    """Have containers come and go for the length of a `with` block; yields what tells of them."""
    results = machine.root / f"{FOLDER.lstrip('/')}/results"
    argv = ["python3", f"{FOLDER}/load.py", FOLDER, "2"]
    argv += [f"{FOLDER}/{name}.json" for name, _, _ in KINDS]
    machine.shell(f"rm -f {FOLDER}/stop {FOLDER}/results")
    thread = threading.Thread(target=machine.run, args=(argv,), kwargs={"timeout": 7200})
    thread.start()

    def records() -> list[dict[str, Any]]:
        lines = results.read_text().splitlines() if results.exists() else []
        return [json.loads(line) for line in lines]

    try:
        yield records
    finally:
        machine.write(f"{FOLDER}/stop", "")
        thread.join(timeout=90)


@contextmanager
def told(machine: Machine) -> Iterator[Callable[[], list[dict[str, Any]]]]:
    """Write down what systemd does with the worker, for the length of a `with` block.

    It is followed as it is written: the journal may throw its oldest part away meanwhile.
    """
    words = "journalctl --unit=concourse-worker --output=json --no-pager --follow --lines=0 _PID=1"
    changes = f"{FOLDER}/changes"
    process = machine.shell(f"{words} >{changes} 2>/dev/null </dev/null & echo $!").strip()
    machine.shell("sleep 0.5")
    try:
        yield lambda: [json.loads(line) for line in machine.read(changes).splitlines()]
    finally:
        machine.shell(f"kill {process}")


def restarts(
    changes: list[dict[str, Any]], records: list[dict[str, Any]]
) -> list[tuple[float, float]]:
    """Return when the worker restarted.

    Each restart lasts from the moment that systemd begins to stop it until the first container
    is begun that is created by the new one, and at most until it should have come up.
    """
    spans: list[tuple[float, float]] = []
    stopping = 0.0
    for entry in changes:
        moment = int(entry["__MONOTONIC_TIMESTAMP"]) / 1e6
        if entry.get("MESSAGE_ID") == _STOPPING:
            stopping = moment
        elif entry.get("MESSAGE_ID") == _STARTED and stopping:
            after = [one["begun"] for one in records if one["begun"] > moment and not one["said"]]
            spans.append((stopping, min([*after, moment + COMES_UP])))
            stopping = 0.0
    return spans


def meets(record: dict[str, Any], span: tuple[float, float]) -> bool:
    return bool(record["begun"] < span[1] and record["ended"] > span[0])


def start_tasks(machine: Machine) -> dict[str, str]:
    """Start tasks that run for hours; return their process ids by name."""
    for name, task, env in KINDS:
        folder = bundle(machine, f"long-{name}", task=task, env=env)
        spec = f"{folder}/spec.json"
        machine.shell(
            f'sed -i \'s/"600"/"86400"/\' {spec}\n{CTR} run --detach --config {spec} long-{name}',
            timeout=60,
        )
    return running_tasks(machine)


def running_tasks(machine: Machine) -> dict[str, str]:
    lines = [line.split() for line in machine.shell(f"{CTR} tasks list").splitlines()]
    return {one[0]: one[1] for one in lines if one[0].startswith("long-") and one[2] == "RUNNING"}
