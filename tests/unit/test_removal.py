"""The whole removal: a machine that had a Concourse of its own has it again."""

from __future__ import annotations

from pathlib import Path

from concourse import trees
from tests.unit.gpu_machines import WISH, Machine
from tests.unit.workers import Systemd
from workload import Workload


def picture(folder: Path) -> dict[str, tuple[int, bytes]]:
    return {
        str(path.relative_to(folder)): (path.lstat().st_mode, path.read_bytes())
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_removing_a_gpu_worker_gives_the_adopted_concourse_back_unwrapped(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    layout = machine.layout
    Systemd(layout).has(UnitFileState="disabled", LoadState="not-found")
    layout.concourse.unlink()
    machine.tree.rename(layout.concourse)
    layout.trees.rmdir()
    before = picture(layout.concourse)

    tree = trees.adopt(layout)
    assert tree
    machine.tree = tree
    machine.manager.ensure(WISH, [tree], at_once=False)
    assert picture(tree) != before
    Workload(layout, lambda _: None).remove()

    assert not layout.concourse.is_symlink()
    assert picture(layout.concourse) == before
    assert not layout.trees.exists()
    assert not layout.state.exists()
