"""The swaps: what may stand where, what is done about it, and what a kill leaves."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from files import ensure_symlink, write_file
from gpu import runtime
from gpu.errors import GpuError
from gpu.runtime import Kind, classify
from gpu.wrapper import WRAPPER_NAME, ensure_wrapper
from host import Layout
from tests.unit.killing import killed_before_change

OLD_WRAPPER = (
    "#!/bin/bash\nexport NVIDIA_VISIBLE_DEVICES=all\nexec nvidia-container-runtime.real $@\n"
)


def program(name: str) -> str:
    return f"#!/bin/sh\necho {name} $1\n"


class Machine:
    """A scratch root with one Concourse tree and, if wanted, NVIDIA's runtime."""

    def __init__(self, root: Path) -> None:
        self.layout = Layout(root)
        self.keep = self.layout.state / "kept"
        self.tree = self.layout.trees / "8.3.0"
        write_file(self.tree / "bin/runc", program("runc"), mode=0o755)
        ensure_symlink(self.layout.concourse, self.tree)
        write_file(self.layout.nvidia_runtime, program("nvidia"), mode=0o755)
        (self.layout.at("/var/lib/dpkg")).mkdir(parents=True)
        os.symlink(shutil.which("dpkg-divert") or "", self.layout.at("/usr/bin/dpkg-divert"))

    def swap(self) -> bool:
        runtime.ensure_backup(self.tree, keep=self.keep)
        changed = ensure_wrapper(self.layout, self.tree)
        changed |= runtime.ensure_link(self.layout, keep=self.keep)
        changed |= runtime.ensure_nvidia_swapped(self.layout, keep=self.keep)
        changed |= runtime.ensure_tree_swapped(self.tree, keep=self.keep)
        return changed

    def undo(self) -> bool:
        changed = runtime.restore_tree(self.tree)
        changed |= runtime.restore_nvidia(self.layout)
        changed |= runtime.drop_backups(self.layout, [self.tree], keep=self.keep)
        return changed

    def picture(self) -> dict[str, str]:
        """Every file and link below the root, with what is in it."""
        found = {}
        for path in sorted(self.layout.root.rglob("*")):
            name = str(path.relative_to(self.layout.root))
            if path.is_symlink():
                found[name] = f"-> {os.readlink(path)}"
            elif path.is_file():
                found[name] = f"{path.stat().st_mode & 0o7777:o} {path.read_text()}"
        return found

    def says(self, path: Path) -> str:
        return subprocess.run(
            [path, "--version"], capture_output=True, text=True, timeout=10, check=False
        ).stdout.strip()


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_the_swap_leaves_originals_at_real_and_the_wrapper_at_both_names(machine: Machine) -> None:
    assert machine.swap()
    layout = machine.layout
    assert os.readlink(layout.runc) == WRAPPER_NAME
    assert layout.runc_real.read_text() == program("runc")
    assert os.readlink(layout.nvidia_runtime) == str(layout.wrapper)
    assert layout.nvidia_runtime_real.read_text() == program("nvidia")
    assert runtime.chain_stands(layout)
    assert runtime.is_diverted(layout)
    assert machine.says(layout.runc) == "runc --version"
    assert machine.says(layout.nvidia_runtime) == "nvidia --version"


def test_a_second_swap_changes_nothing(machine: Machine) -> None:
    machine.swap()
    before = machine.picture()
    assert not machine.swap()
    assert machine.picture() == before


def test_undoing_leaves_the_machine_as_it_was_found(machine: Machine) -> None:
    before = machine.picture()
    machine.swap()
    (machine.tree / "bin/runc-gpu-judge-0123456789ab.awk").write_text("an earlier wrapper's")
    assert machine.undo()
    after = machine.picture()
    assert {name: after[name] for name in before} == before
    assert set(after) - set(before) <= {
        "var/lib/dpkg/diversions",
        "var/lib/dpkg/diversions-old",
    }
    assert "nvidia-container-runtime" not in after.get("var/lib/dpkg/diversions", "")
    assert not machine.undo()


@pytest.mark.parametrize("way", ["swap", "undo"])
def test_killed_anywhere_containers_still_start_and_the_next_hook_finishes(
    way: str, tmp_path: Path
) -> None:
    def prepared(name: str) -> Machine:
        machine = Machine(tmp_path / name)
        if way == "undo":
            machine.swap()
        return machine

    undisturbed = prepared("undisturbed")
    getattr(undisturbed, way)()
    number = 0
    killed = True
    while killed:
        number += 1
        machine = prepared(str(number))
        killed = killed_before_change(number, getattr(machine, way))
        assert machine.says(machine.layout.runc) == "runc --version"
        assert machine.says(machine.layout.nvidia_runtime) == "nvidia --version"
        getattr(machine, way)()
        expected = {
            name: text.replace(str(undisturbed.layout.root), str(machine.layout.root))
            for name, text in undisturbed.picture().items()
        }
        assert machine.picture() == expected
    assert number > 5, "tracing found too few places to kill at"


def test_an_upgrade_that_put_a_new_runc_at_the_name_is_swapped_again(machine: Machine) -> None:
    machine.swap()
    machine.layout.runc.unlink()
    write_file(machine.layout.runc, program("newer-runc"), mode=0o755)
    machine.swap()
    assert machine.says(machine.layout.runc) == "newer-runc --version"
    assert machine.layout.runc_real.read_text() == program("newer-runc")
    kept = [file.read_text() for file in machine.keep.iterdir()]
    assert kept == [program("runc")]


def test_a_hand_made_swap_is_adopted(machine: Machine) -> None:
    layout = machine.layout
    layout.runc.rename(layout.runc_real)
    layout.nvidia_runtime.rename(layout.nvidia_runtime_real)
    write_file(layout.wrapper, OLD_WRAPPER, mode=0o755)
    os.symlink(layout.wrapper, layout.runc)
    os.symlink(layout.wrapper, layout.nvidia_runtime)
    machine.swap()
    assert runtime.chain_stands(layout)
    assert runtime.is_diverted(layout)
    assert layout.runc_real.read_text() == program("runc")
    assert layout.nvidia_runtime_real.read_text() == program("nvidia")
    assert [file.read_text() for file in machine.keep.iterdir()] == [OLD_WRAPPER]


def test_a_stale_backup_after_a_package_upgrade_makes_way_for_the_packaged_file(
    machine: Machine,
) -> None:
    layout = machine.layout
    write_file(layout.nvidia_runtime_real, program("stale"), mode=0o755)
    machine.swap()
    assert layout.nvidia_runtime_real.read_text() == program("nvidia")
    assert [file.read_text() for file in machine.keep.iterdir()] == [program("stale")]


def test_a_package_upgrade_between_diversion_and_link_keeps_the_packaged_file(
    machine: Machine,
) -> None:
    layout = machine.layout
    machine.swap()
    layout.nvidia_runtime.unlink()
    write_file(layout.nvidia_runtime, program("nvidia"), mode=0o755)
    layout.nvidia_runtime_real.unlink()
    write_file(layout.nvidia_runtime_real, program("upgraded"), mode=0o755)
    digest = subprocess.run(
        ["md5sum", layout.nvidia_runtime_real], capture_output=True, text=True, check=True
    ).stdout.split()[0]
    write_file(
        layout.at("/var/lib/dpkg/info/nvidia-container-toolkit-base.md5sums"),
        f"{digest}  usr/bin/nvidia-container-runtime\n",
    )
    machine.swap()
    assert machine.says(layout.nvidia_runtime) == "upgraded --version"


def test_a_wrapper_is_never_taken_for_a_backup(machine: Machine) -> None:
    layout = machine.layout
    write_file(layout.runc, OLD_WRAPPER, mode=0o755)
    with pytest.raises(GpuError, match="no original runc"):
        machine.swap()
    write_file(layout.runc_real, OLD_WRAPPER, mode=0o755)
    with pytest.raises(GpuError, match="no original runc"):
        machine.swap()


def test_a_package_removed_under_the_swap_leaves_no_dangling_name(machine: Machine) -> None:
    machine.swap()
    machine.layout.nvidia_runtime_real.unlink()
    machine.undo()
    assert not os.path.lexists(machine.layout.nvidia_runtime)
    assert not runtime.is_diverted(machine.layout)


def test_a_runc_that_is_a_link_to_its_backup_is_made_whole_again(machine: Machine) -> None:
    layout = machine.layout
    layout.runc.rename(layout.runc_real)
    os.symlink("runc.real", layout.runc)
    machine.undo()
    assert not layout.runc.is_symlink()
    assert machine.says(layout.runc) == "runc --version"


STANDS = st.sampled_from(
    ["original", "other", "wrapper", "link to wrapper", "dangling", "empty", "nothing"]
)


def place(path: Path, what: str, machine: Machine) -> None:
    path.unlink(missing_ok=True)
    contents = {"original": program("runc"), "other": program("runc other"), "empty": ""}
    if what in contents:
        write_file(path, contents[what], mode=0o755)
    elif what == "wrapper":
        write_file(path, OLD_WRAPPER, mode=0o755)
    elif what == "link to wrapper":
        ensure_wrapper(machine.layout, machine.tree)
        os.symlink(WRAPPER_NAME, path)
    elif what == "dangling":
        os.symlink("/nowhere/at/all", path)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(main=STANDS, real=STANDS)
def test_whatever_stands_there_no_original_is_lost_and_no_loop_is_made(
    main: str, real: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    machine = Machine(tmp_path_factory.mktemp("machine"))
    place(machine.layout.runc_real, real, machine)
    place(machine.layout.runc, main, machine)
    originals = {
        program("runc" if what == "original" else "runc other")
        for what in (main, real)
        if what in ("original", "other")
    }
    try:
        machine.swap()
    except GpuError:
        assert not originals
        return
    assert machine.says(machine.layout.runc).startswith("runc")
    assert classify(machine.layout.runc_real) is Kind.ORIGINAL
    left = [machine.layout.runc_real, *(machine.keep.glob("*"))]
    assert originals <= {file.read_text() for file in left}
    machine.undo()
    assert machine.says(machine.layout.runc).startswith("runc")
    assert not machine.layout.runc.is_symlink()
