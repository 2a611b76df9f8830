"""GpuManager on scratch machines: in order, undone in reverse, killed anywhere.

Packages are there already (a fake dpkg-query says so) and NVIDIA's runtime is a
script that reads its configuration as the real one does; everything else, the
files, links and dpkg's diversion, is real.
"""

from __future__ import annotations

import logging
import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

import actions
import attempts
from files import ensure_symlink, write_file
from gpu import looks, owned, runtime
from gpu.manager import CHAIN, PACKAGES, GpuManager, GpuWish
from gpu.selection import DeviceRequest
from gpu.sharing import Sharing
from gpu.toolkit import PACKAGES as TOOLKIT
from gpu.toolkit import ToolkitWish
from host import Layout
from tests.unit.gpu_roots import Root, gpu_uuid, row
from tests.unit.killing import killed_before_change

WISH = GpuWish(
    DeviceRequest(), "all", "auto", "worker", ToolkitWish("1.20.0", "https://example.test/deb")
)
RUNC = '#!/bin/sh\nshift $(($# - 1)); [ "$1" = --version ] && echo "runc version 1.1.5"\n'
# Like the real one it runs the first of its `runtimes`, from the file that it is told to read.
NVIDIA = """#!/bin/sh
config=${NVIDIA_CTK_CONFIG_FILE_PATH:-%s}
[ "$1" = --version ] && echo "NVIDIA Container Runtime version 1.20.0"
exec "$(sed -n 's/^runtimes *= *\\["\\([^"]*\\)"\\].*/\\1/p' "$config")" "$@"
"""


class Machine:
    """A scratch machine with GPUs, packages and one Concourse tree."""

    def __init__(self, folder: Path, gpus: int = 1) -> None:
        self.root = Root(folder).worker(gpus)
        self.layout = Layout(folder)
        self.tree = self.layout.trees / "8.3.0"
        write_file(self.tree / "bin/runc", RUNC, mode=0o755)
        write_file(self.tree / "bin/concourse", "#!/bin/sh\necho 8.3.0\n", mode=0o755)
        ensure_symlink(self.layout.concourse, "concourse-releases/8.3.0")
        config = self.layout.nvidia_config
        write_file(self.layout.nvidia_runtime, NVIDIA % config, mode=0o755)
        write_file(config, '# theirs\n[nvidia-container-runtime]\nruntimes = ["runc"]\n')
        self.layout.at("/var/lib/dpkg").mkdir(parents=True)
        self.layout.at("/tmp").mkdir()
        for name in ("dpkg-divert",):
            os.symlink(shutil.which(name) or "", self.layout.at(f"/usr/bin/{name}"))
        self.root.program("jq", "")
        self.packages("1.20.0-1")
        self.said: list[str] = []
        self.manager = GpuManager(self.layout, self.said.append)

    def packages(self, version: str, want: str = "install") -> None:
        """Let dpkg-query show the toolkit's packages in a version; "" for none."""
        lines = [f"{name}\t{want}\tinstalled\t{version}" for name in TOOLKIT if version]
        self.root.write("/packages", "".join(f"{line}\n" for line in lines))
        self.root.program("dpkg-query", f"cat {self.layout.at('/packages')}")

    def ensure(self, wish: GpuWish = WISH, *, at_once: bool = False) -> str:
        """Reconcile and return what the status would say about the GPU."""
        state = self.manager.ensure(wish, [self.tree], at_once=at_once)
        return state.trouble or f"GPU: {state.count}x"

    def undo(self) -> bool:
        return self.manager.undo([self.tree])

    def picture(self) -> dict[str, str]:
        found = {}
        for path in sorted(self.layout.root.rglob("*")):
            name = str(path.relative_to(self.layout.root))
            if name.startswith(("smi", "var/lib/dpkg")):
                continue
            if path.is_symlink():
                found[name] = f"-> {os.readlink(path)}".replace(str(self.layout.root), "")
            elif path.is_file() and path.name != "proved":  # inode numbers
                text = path.read_text().replace(str(self.layout.root), "")
                found[name] = f"{path.stat().st_mode & 0o7777:o} {text}"
        return found

    def runc_works(self) -> bool:
        done = subprocess.run(
            [self.layout.runc, "--version"], capture_output=True, text=True, check=False, timeout=10
        )
        return "runc version" in done.stdout


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    return Machine(tmp_path)


def test_a_machine_with_everything_ends_ready(
    machine: Machine, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    assert machine.ensure() == "GPU: 1x"
    assert runtime.chain_stands(machine.layout)
    for line in (
        "Creating GPU wrapper script...",
        "Backing up original runc...",
        "GPU wrapper installed successfully",
    ):
        assert line in caplog.messages
    state = machine.manager.observe()
    assert state.tags == ("gpu", "gpu-type=nvidia", "gpu-count=1")
    table = machine.layout.gpu_devices.read_text()
    assert f"allowed\t{gpu_uuid(0)}\n" in table


@pytest.mark.parametrize(
    ("mode", "tags", "default"),
    [("balanced", "auto", "1"), ("exclusive", "auto", "1"), ("exclusive", "none", "0")],
)
def test_how_gpus_are_shared_is_written_for_the_next_task(
    machine: Machine, mode: str, tags: str, default: str
) -> None:
    machine.ensure()
    assert machine.manager.observe().sharing == "shared"
    machine.ensure(replace(WISH, tags=tags, sharing=Sharing(mode, 90)))
    table = machine.layout.gpu_devices.read_text()
    assert f"sharing\t{mode}\ndefault\t{default}\ntimeout\t90\n" in table
    assert machine.manager.observe().sharing == mode


def test_gpu_status_shows_who_holds_what(tmp_path: Path) -> None:
    machine = Machine(tmp_path, gpus=2)
    machine.ensure(replace(WISH, sharing=Sharing("exclusive")))
    mine = Path("/proc/self/stat").read_text().rpartition(") ")[2].split()[19]
    lease = f"0c0ffee1-aaaa\t{os.getpid()}\t{mine}\t40.00\t{gpu_uuid(1)}\n"
    write_file(machine.layout.bundles / "0c0ffee1-aaaa/gpu-lease", lease)
    write_file(machine.layout.at("/proc/uptime"), "100.00 1.00\n")
    write_file(machine.layout.at(f"/proc/{os.getpid()}/stat"), Path("/proc/self/stat").read_text())
    shown = actions.gpu_status(machine.layout, machine.manager)
    assert shown["sharing"] == "exclusive"
    assert shown["gpu-0"]["held-by"] == ""
    assert shown["gpu-1"]["held-by"] == "0c0ffee1-aaaa (60 s)"


def test_a_machine_that_agrees_is_left_alone(
    machine: Machine, caplog: pytest.LogCaptureFixture
) -> None:
    machine.ensure()
    before = machine.picture()
    times = {path: path.lstat().st_mtime_ns for path in machine.layout.root.rglob("*")}
    caplog.clear()
    caplog.set_level(logging.INFO)
    for _ in range(3):
        assert machine.ensure() == "GPU: 1x"
    assert machine.picture() == before
    for path, stamp in times.items():
        if "smi" not in path.parts and "calls" not in path.name:
            assert path.lstat().st_mtime_ns == stamp, path
    assert not caplog.messages


def test_undoing_leaves_the_files_as_they_were_found(machine: Machine) -> None:
    before = machine.picture()
    machine.ensure()
    assert machine.undo()
    assert machine.picture() == before
    assert not machine.undo()


@pytest.mark.parametrize("way", ["ensure", "undo"])
def test_killed_anywhere_runc_works_and_the_next_hook_ends_the_same(
    way: str, tmp_path: Path
) -> None:
    def prepared(name: str) -> Machine:
        machine = Machine(tmp_path / name)
        if way == "undo":
            machine.ensure()
        return machine

    undisturbed = prepared("undisturbed")
    getattr(undisturbed, way)()
    expected = undisturbed.picture()
    number, killed = 0, True
    while killed:
        number += 1
        machine = prepared(str(number))
        killed = killed_before_change(number, getattr(machine, way))
        assert machine.runc_works(), f"killed before change {number}"
        getattr(machine, way)()
        assert machine.picture() == expected, f"killed before change {number}"
        shutil.rmtree(machine.layout.root)
    assert number > 20, "tracing found too few places to kill at"


@pytest.mark.parametrize("started", ["swap", "undone"])
def test_what_was_begun_and_killed_can_be_turned_the_other_way(
    started: str, tmp_path: Path
) -> None:
    """enable-gpu may change while a killed hook's work is half done."""
    before = Machine(tmp_path / "before").picture()
    number, killed = 0, True
    while killed:
        number += 1
        machine = Machine(tmp_path / str(number))
        if started == "undone":
            machine.ensure()
        first, then = (
            (machine.undo, machine.ensure)
            if started == "undone"
            else (
                machine.ensure,
                machine.undo,
            )
        )
        killed = killed_before_change(number, first)
        then()
        assert machine.runc_works()
        if started == "swap":
            assert machine.picture() == before, f"killed before change {number}"
        else:
            assert runtime.chain_stands(machine.layout)
        shutil.rmtree(machine.layout.root)


def test_no_gpu_touches_nothing(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    shutil.rmtree(machine.layout.at("/sys"))
    shutil.rmtree(machine.layout.at("/dev"))
    shutil.rmtree(machine.layout.at("/usr/lib/x86_64-linux-gnu"))
    assert "No NVIDIA GPU" in machine.ensure()
    assert not machine.manager.begun
    assert not runtime.chain_stands(machine.layout)


def test_one_glitch_changes_nothing_and_two_take_the_gpu_away(machine: Machine) -> None:
    machine.ensure()
    table = machine.layout.gpu_devices.read_text()
    machine.root.smi(status=255, stderr="Unknown Error")
    assert machine.ensure() == "GPU: 1x"
    assert machine.layout.gpu_devices.read_text() == table
    assert "GPU: 1x" not in machine.ensure()
    assert machine.manager.observe().tags == ()
    assert runtime.chain_stands(machine.layout), "the wrapper tells tasks why"


def test_a_gpu_that_comes_back_is_believed_after_two_looks_in_one_hook(machine: Machine) -> None:
    machine.root.smi(status=255, stderr="Unknown Error")
    machine.ensure()
    machine.root.smi(row(0))
    assert machine.ensure() == "GPU: 1x"


def test_a_subset_is_tagged_and_tabled(tmp_path: Path) -> None:
    machine = Machine(tmp_path, gpus=3)
    wish = replace(WISH, request=DeviceRequest(everything=False, wanted=("0", "2", "7")))
    assert machine.ensure(wish) == "GPU: 2x"
    assert "gpu-devices=0+2" in machine.manager.observe().tags
    assert gpu_uuid(1) not in machine.layout.gpu_devices.read_text()


def test_a_list_without_a_gpu_that_is_here_blocks(machine: Machine) -> None:
    wish = replace(WISH, request=DeviceRequest(everything=False, wanted=("7",)))
    assert "gpu-device-ids" in machine.ensure(wish)


def test_a_changed_list_counts_at_once(tmp_path: Path) -> None:
    machine = Machine(tmp_path, gpus=2)
    machine.ensure()
    wish = replace(WISH, request=DeviceRequest(everything=False, wanted=("1",)))
    assert machine.ensure(wish) == "GPU: 1x"


def test_packages_that_fail_are_tried_again_later_and_at_once_on_request(
    machine: Machine,
) -> None:
    machine.packages("")
    calls = machine.layout.at("/apt-calls")
    machine.root.program(
        "apt-get", f'echo "$*" >> {calls}; echo "E: Could not resolve" >&2; exit 100'
    )
    machine.root.program("apt-cache", "true")
    wish = replace(WISH, toolkit=ToolkitWish("1.20.0", "https://example.invalid/deb"))
    first = machine.ensure(wish)
    assert "GPU: " not in first
    assert machine.manager.observe().waiting
    assert attempts.last(machine.layout, PACKAGES) is not None
    tried = attempts.last(machine.layout, PACKAGES)
    machine.ensure(wish)
    assert attempts.last(machine.layout, PACKAGES) == tried, "the pause is not over"
    machine.ensure(wish, at_once=True)
    again = attempts.last(machine.layout, PACKAGES)
    assert again is not None
    assert again.failures == 2
    assert machine.runc_works()
    assert not runtime.tree_is_wrapped(machine.tree)


def test_a_held_old_toolkit_leaves_the_gpu_off(machine: Machine) -> None:
    machine.packages("1.17.0-1", want="hold")
    said = machine.ensure()
    assert "held at 1.17.0-1" in said
    assert not runtime.tree_is_wrapped(machine.tree)


@pytest.mark.parametrize(
    "break_it",
    ["exit 1", "sleep 60", 'exec "$0" "$@"', "echo NVIDIA Container Runtime version 1.20.0"],
    ids=["fails", "hangs", "loops", "never reaches runc"],
)
def test_a_chain_that_does_not_answer_leaves_plain_runc_in_place(
    break_it: str, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gpu.selftest.LIMIT", 1.0)
    write_file(machine.layout.nvidia_runtime, f"#!/bin/sh\n{break_it}\n", mode=0o755)
    said = machine.ensure()
    assert said.startswith("GPU self-test failed")
    assert machine.runc_works()
    assert not runtime.tree_is_wrapped(machine.tree)
    write_file(machine.layout.nvidia_runtime, NVIDIA % machine.layout.nvidia_config, mode=0o755)
    assert machine.ensure() == "GPU: 1x", "it recovers when the cause ends"


def test_every_tree_is_wrapped_and_every_tree_is_restored(machine: Machine) -> None:
    older = machine.layout.trees / "8.2.5"
    write_file(older / "bin/runc", RUNC, mode=0o755)
    trees = [older, machine.tree]
    machine.manager.ensure(WISH, trees, at_once=False)
    assert all(runtime.tree_is_wrapped(tree) for tree in trees)
    machine.manager.undo(trees)
    for tree in trees:
        assert runtime.classify(tree / "bin/runc") is runtime.Kind.ORIGINAL
        assert sorted(os.listdir(tree / "bin"))[-1] == "runc"


def test_disabled_and_never_begun_leaves_a_hand_made_swap_alone(machine: Machine) -> None:
    layout = machine.layout
    layout.runc.rename(layout.runc_real)
    write_file(layout.runc, "#!/bin/sh\n# NVIDIA_VISIBLE_DEVICES runc.real\n", mode=0o755)
    before = machine.picture()
    assert not machine.undo()
    assert machine.picture() == before


def test_observing_an_untouched_machine_says_that_nothing_ran_yet(machine: Machine) -> None:
    assert machine.manager.observe().waiting
    assert looks.settled(machine.layout) is None
    assert attempts.last(machine.layout, CHAIN) is None


def test_a_new_tree_gets_the_wrapper_before_it_becomes_current(machine: Machine) -> None:
    """Docker's nvidia-container-runtime goes through the current tree, whatever the wish is."""
    machine.ensure()
    newer = machine.layout.trees / "8.4.0"
    write_file(newer / "bin/runc", RUNC, mode=0o755)
    machine.packages("1.17.0-1", want="hold")  # nothing can be built any more
    assert machine.manager.carry(newer)
    assert not machine.manager.carry(newer)
    ensure_symlink(machine.layout.concourse, "concourse-releases/8.4.0")
    done = subprocess.run(
        [machine.layout.nvidia_runtime, "--version"], capture_output=True, text=True, check=True
    )
    assert "runc version" in done.stdout
    assert runtime.tree_is_wrapped(newer)


def test_a_tree_is_left_alone_where_the_gpu_was_never_begun(machine: Machine) -> None:
    assert not machine.manager.carry(machine.tree)
    assert runtime.classify(machine.layout.runc) is runtime.Kind.ORIGINAL


def test_a_failed_change_of_the_toolkit_is_a_note_while_the_old_one_works(
    machine: Machine,
) -> None:
    machine.ensure()
    owned.remember(machine.layout, TOOLKIT)
    machine.root.program("apt-get", 'echo "E: Could not resolve" >&2; exit 100')
    machine.root.program("apt-cache", "true")
    machine.root.program("dpkg", "true")
    wish = replace(WISH, toolkit=replace(WISH.toolkit, version="1.20.1"))
    assert machine.ensure(wish, at_once=True) == "GPU: 1x"
    remembered = attempts.last(machine.layout, PACKAGES)
    assert remembered is not None
    assert machine.manager.observe().note == remembered.what


def test_a_glitch_in_the_moment_of_a_changed_option_takes_no_gpu_away(machine: Machine) -> None:
    machine.ensure()
    once = machine.layout.at("/glitched")
    machine.root.smi(row(0), extra=f"[ -e {once} ] || {{ : > {once}; exit 255; }}")
    assert machine.ensure(replace(WISH, tags="mine")) == "GPU: 1x"
    assert machine.manager.observe().tags == ("mine",)


def test_jq_that_can_not_be_had_keeps_no_toolkit_away(machine: Machine) -> None:
    machine.layout.at("/usr/bin/jq").unlink()
    machine.root.program("apt-get", 'echo "E: Unable to locate package jq" >&2; exit 100')
    machine.root.program("dpkg", "true")
    assert machine.ensure() == "GPU: 1x"
    assert "jq" in machine.manager.observe().note


def test_what_is_here_is_said_as_an_operator_would_write_it(tmp_path: Path) -> None:
    assert Machine(tmp_path, gpus=2).manager.here() == "0, 1"
