"""Which leases count: rule by rule in Python, and the wrapper's awk held to it."""

from __future__ import annotations

import random
import shutil
import subprocess
from pathlib import Path

import pytest

from gpu import leases
from gpu.leases import GRACE
from host import Layout
from tests.unit.wrapper_rig import AWKS

TEMPLATES = Path(__file__).resolve().parents[2] / "templates"
NOW = 50_000.0
GPU = "GPU-aaaaaaaa-0000-4000-8000-000000000000"
# Prints every lease that counts, as hand_out would see it.
COUNTING = """
BEGIN {
    now = uptime()
    for (i = 1; i < ARGC; i++) {
        path = ARGV[i]
        survey(path)
    }
    for (gpu in load) print gpu, load[gpu], holder[gpu]
}
"""


class Box:
    """A scratch machine: its processes, its cgroups, its bundles."""

    def __init__(self, root: Path, kind: str = "v1") -> None:
        self.root = root
        self.layout = Layout(root)
        self.kind = kind
        self.pids = 100
        self.layout.bundles.mkdir(parents=True)
        (root / "sys/fs/cgroup").mkdir(parents=True)
        (root / "proc").mkdir()
        (root / "proc/uptime").write_text(f"{NOW:.2f} 1.00\n")

    def process(
        self, state: str = "S", start: int = 7, threads: int = 1, name: str = "sh", group: str = ""
    ) -> int:
        """Make a process up, in a cgroup of this path."""
        self.pids += 1
        folder = self.root / "proc" / str(self.pids)
        folder.mkdir()
        numbers = f"1 1 1 0 -1 4194560 0 0 0 0 0 0 0 0 20 0 {threads} 0 {start} 0 0"
        (folder / "stat").write_text(f"{self.pids} ({name}) {state} {numbers}\n")
        lines = {
            "v1": f"12:memory:{group}\n9:pids:{group}\n8:devices:{group}\n0::/\n",
            "devices": f"12:memory:/x\n8:devices:{group}\n1:name=systemd:{group}\n",
            "v2": f"0::{group}\n",
        }[self.kind]
        (folder / "cgroup").write_text(lines)
        return self.pids

    def cgroup(self, path: str, pids: list[int], tasks: int | None = None) -> None:
        controller = {"v1": "pids", "devices": "devices", "v2": ""}[self.kind]
        folder = self.root / "sys/fs/cgroup" / controller / path.lstrip("/")
        folder.mkdir(parents=True)
        (folder / "cgroup.procs").write_text("".join(f"{pid}\n" for pid in pids))
        if tasks is not None and self.kind != "devices":
            (folder / "pids.current").write_text(f"{tasks}\n")

    def bundle(
        self, handle: str, owner: tuple[int, int], *, age: float = 10, init: int | str = ""
    ) -> Path:
        folder = self.layout.bundles / handle
        folder.mkdir()
        line = f"{handle}\t{owner[0]}\t{owner[1]}\t{NOW - age:.2f}\tGPU-{handle}\n"
        (folder / "gpu-lease").write_text(line)
        if init != "":
            (folder / "init.pid").write_text(str(init))  # runc writes no line's end
        return folder

    def by_python(self) -> set[str]:
        return {lease.handle for lease in leases.held(self.layout)}

    def by_awk(self, awk: str) -> set[str]:
        program = shutil.which(awk)
        assert program
        text = "".join(
            (TEMPLATES / f"runc-gpu-{name}.awk").read_text() for name in ("common", "leases")
        ).replace("BEGIN { hand_out() }", "")
        env = {"proc": str(self.root / "proc"), "cgroups": str(self.root / "sys/fs/cgroup")}
        paths = sorted(str(path) for path in self.layout.bundles.glob("*/gpu-lease"))
        done = subprocess.run(
            [program, text + COUNTING, *paths],
            env={"LC_ALL": "C", "PATH": "/usr/bin:/bin", "handle": "mine", **env},
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        assert done.stderr == ""
        return {line.split()[2] for line in done.stdout.splitlines()}


DEAD = (99, 1)


@pytest.fixture(params=["v1", "devices", "v2"])
def box(request: pytest.FixtureRequest, tmp_path: Path) -> Box:
    return Box(tmp_path, request.param)


def counts(box: Box) -> bool:
    """Whether the one lease counts; both must say the same."""
    answers = {bool(box.by_python()), *(bool(box.by_awk(awk)) for awk in AWKS)}
    assert len(answers) == 1
    return answers.pop()


def test_it_counts_while_the_creating_process_lives(box: Box) -> None:
    creator = box.process(start=7)
    box.bundle("0c0ffee1", (creator, 7), age=9999)
    assert counts(box)


def test_a_later_process_with_the_creators_number_is_not_it(box: Box) -> None:
    box.bundle("0c0ffee1", (box.process(start=8), 7))
    assert not counts(box)


@pytest.mark.parametrize("state", ["Z", "X"])
def test_a_dead_creator_that_nobody_reaped_is_dead(box: Box, state: str) -> None:
    box.bundle("0c0ffee1", (box.process(state), 7))
    assert not counts(box)


@pytest.mark.parametrize(("age", "answer"), [(GRACE - 5, True), (GRACE + 5, False)])
def test_before_the_first_exec_it_counts_for_five_minutes(
    box: Box, age: float, answer: bool
) -> None:
    init = box.process(group="/garden/0c0ffee1")
    box.cgroup("/garden/0c0ffee1", [init], 1)
    box.bundle("0c0ffee1", DEAD, age=age, init=init)
    assert counts(box) is answer


def test_once_the_exec_is_over_it_counts_no_more(box: Box) -> None:
    init = box.process(group="/garden/0c0ffee1")
    box.cgroup("/garden/0c0ffee1", [init], 1)
    (box.bundle("0c0ffee1", DEAD, init=init) / "gpu-execs").write_text("98 1\n")
    assert not counts(box)


def test_an_exec_on_its_way_in_counts(box: Box) -> None:
    init, going = box.process(group="/garden/0c0ffee1"), box.process(start=70)
    box.cgroup("/garden/0c0ffee1", [init], 1)
    (box.bundle("0c0ffee1", DEAD, age=999, init=init) / "gpu-execs").write_text(
        f"98 1\n{going} 70\n"
    )
    assert counts(box)


def test_an_execs_process_counts_and_so_does_a_child_that_it_left_behind(box: Box) -> None:
    init = box.process(group="/garden/0c0ffee1")
    child = box.process(group="/garden/0c0ffee1", name="x) Z 1 (y\nz")
    box.cgroup("/garden/0c0ffee1", [init, child], 2)
    (box.bundle("0c0ffee1", DEAD, age=999, init=init) / "gpu-execs").write_text("98 1\n")
    assert counts(box)


def test_a_process_counts_even_if_its_exec_could_leave_no_mark(box: Box) -> None:
    init, child = box.process(group="/garden/0c0ffee1"), box.process(group="/garden/0c0ffee1")
    box.cgroup("/garden/0c0ffee1", [init, child], 2)
    box.bundle("0c0ffee1", DEAD, age=999, init=init)
    assert counts(box)


def test_a_child_that_nobody_reaped_is_dead(box: Box) -> None:
    init, child = box.process(group="/garden/0c0ffee1"), box.process("Z", group="/garden/0c0ffee1")
    box.cgroup("/garden/0c0ffee1", [init, child], 2)
    (box.bundle("0c0ffee1", DEAD, init=init) / "gpu-execs").write_text("98 1\n")
    assert not counts(box)


def test_threads_of_the_init_are_no_other_process(box: Box) -> None:
    init = box.process(group="/garden/0c0ffee1", threads=5)
    box.cgroup("/garden/0c0ffee1", [init], 5)
    (box.bundle("0c0ffee1", DEAD, init=init) / "gpu-execs").write_text("98 1\n")
    assert not counts(box)


def test_a_process_in_a_cgroup_further_down_counts(box: Box) -> None:
    init, child = box.process(group="/garden/0c0ffee1"), box.process()
    box.cgroup("/garden/0c0ffee1", [init], 2)
    box.cgroup("/garden/0c0ffee1/docker/b c", [child], 1)
    (box.bundle("0c0ffee1", DEAD, init=init) / "gpu-execs").write_text("98 1\n")
    assert counts(box)


def test_an_init_that_was_moved_further_down_is_found(box: Box) -> None:
    init, child = box.process(group="/garden/0c0ffee1/init"), box.process()
    box.cgroup("/garden/0c0ffee1", [], 2)
    box.cgroup("/garden/0c0ffee1/init", [init], 1)
    box.cgroup("/garden/0c0ffee1/docker/b", [child], 1)
    (box.bundle("0c0ffee1", DEAD, init=init) / "gpu-execs").write_text("98 1\n")
    assert counts(box)
    (box.root / f"proc/{child}/stat").unlink()
    assert not counts(box)


def test_a_cgroup_that_cannot_be_read_counts_as_long_as_init_lives(box: Box) -> None:
    init = box.process(group="/garden/0c0ffee1")
    (box.bundle("0c0ffee1", DEAD, init=init) / "gpu-execs").write_text("98 1\n")
    assert counts(box)
    (box.root / f"proc/{init}/stat").unlink()
    assert not counts(box)


def test_a_path_that_begins_above_what_is_mounted_is_found(box: Box) -> None:
    """So it is where a container has no cgroup namespace of its own."""
    init = box.process(group="/outer/box/garden/0c0ffee1")
    box.cgroup("/garden/0c0ffee1", [init], 1)
    (box.bundle("0c0ffee1", DEAD, init=init) / "gpu-execs").write_text("98 1\n")
    assert not counts(box)


def test_another_process_with_the_inits_number_is_not_it(box: Box) -> None:
    box.bundle("0c0ffee1", DEAD, init=box.process(group="/garden/b"))
    assert not counts(box)


@pytest.mark.parametrize("init", ["", "0", "-1", "1 2", "x", "../1"])
def test_without_an_init_it_does_not_count(box: Box, init: str) -> None:
    box.bundle("0c0ffee1", DEAD, init=init)
    assert not counts(box)


@pytest.mark.parametrize("text", ["", "\n", "a\t1\t7\t10.00\n", "a\t1\t7\tx\tGPU-a\tb\n"])
def test_a_line_cut_short_is_no_lease(box: Box, text: str) -> None:
    (box.bundle("0c0ffee1", (box.process(), 7)) / "gpu-lease").write_text(text)
    assert not counts(box)


def test_leases_are_shown_with_their_age(box: Box) -> None:
    box.bundle("0c0ffee1", (box.process(), 7), age=10)
    box.bundle("b", (box.process(), 7), age=20)
    first, second = leases.held(box.layout)
    assert (first.handle, first.uuids, round(first.age)) == ("b", ("GPU-b",), 20)
    assert second.handle == "0c0ffee1"


def build(box: Box, dice: random.Random, handle: str) -> None:
    """Make a container up, in any state of its life."""
    group = f"/garden/{handle}"
    states = ["S", "S", "S", "R", "D", "Z", "X"]

    def some(place: str) -> int:
        if dice.random() < 0.2:
            return 90 + dice.randrange(9)  # gone
        name = dice.choice(("sh", "a b", ") S 1", "(", "x\ny", "))"))
        return box.process(
            dice.choice(states), dice.choice((7, 8)), dice.choice((1, 1, 4)), name, place
        )

    place = dice.choice((group, group, group, f"{group}/init", "/garden/other", f"/x{group}", "/"))
    init = some(place)
    inside = [init, *(some(group) for _ in range(dice.choice((0, 0, 1, 2))))]
    if dice.random() < 0.1:
        inside.remove(init)
    cut = place[: place.index(group) + len(group)] if group in place else group
    if dice.random() < 0.9:
        tasks = dice.choice((None, len(inside), 1, 2, 4))
        box.cgroup(cut, inside, tasks)
        for number in range(dice.choice((0, 0, 1))):
            below = [some(group) for _ in range(dice.randrange(2))]
            if dice.random() < 0.3:
                below.append(init)
            box.cgroup(f"{cut}/below {number}", below)
    owner = (some("/"), 7) if dice.random() < 0.2 else DEAD
    age = dice.choice((0, 299.5, 300.5, 4000))
    folder = box.bundle(handle, owner, age=age, init=dice.choice((init, init, init, "", "x")))
    if dice.random() < 0.7:
        marks = [f"{some('/')} {dice.choice((7, 8))}" for _ in range(dice.choice((0, 1, 1, 3)))]
        marks += dice.choice(([], [], ["", "12"]))
        (folder / "gpu-execs").write_text("".join(f"{mark}\n" for mark in marks))


@pytest.mark.parametrize("awk", AWKS)
@pytest.mark.parametrize("kind", ["v1", "devices", "v2"])
def test_awk_and_python_agree_on_every_state_of_a_container(
    tmp_path: Path, awk: str, kind: str
) -> None:
    box = Box(tmp_path, kind)
    dice = random.Random(f"{kind} {awk}")
    handles = [f"0c0ffee{number:x}-1111" for number in range(400)]
    for handle in handles:
        build(box, dice, handle)
    counted = box.by_python()
    assert box.by_awk(awk) == counted
    assert 50 < len(counted) < 350
