"""Trees of releases: the current one, those that were adopted, those that are pruned."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from concourse import release, theirs, trees
from concourse.errors import ConcourseError
from concourse.release import ReleaseWish
from host import Layout
from tests.unit.killing import killed_before_change
from tests.unit.releases import ELF, quiet, tree_of, unpacked, write_tree
from tests.unit.releases import release as release_file


def test_switch_is_a_link_and_happens_once(layout: Layout) -> None:
    old, new = tree_of(layout, "8.2.5"), tree_of(layout, "8.3.0")
    assert release.ensure_current(layout, old)
    assert release.ensure_current(layout, new)
    assert not release.ensure_current(layout, new)
    assert layout.concourse.is_symlink()
    assert release.current(layout) == new
    assert (layout.concourse / "bin/runc").read_bytes() == ELF


def test_incomplete_tree_is_never_switched_to(layout: Layout) -> None:
    old, new = tree_of(layout, "8.2.5"), tree_of(layout, "8.3.0")
    release.ensure_current(layout, old)
    (new / "bin/runc").unlink()
    with pytest.raises(ConcourseError, match="not complete"):
        release.ensure_current(layout, new)
    assert release.current(layout) == old


def test_folder_of_the_same_version_is_adopted_and_not_downloaded_again(layout: Layout) -> None:
    write_tree(layout.concourse, "8.3.0")
    wish = ReleaseWish("8.3.0", url="http://127.0.0.1:1")
    tree = release.ensure_tree(layout, wish, quiet)
    assert tree == layout.trees / "8.3.0"
    assert release.current(layout) == tree
    assert layout.concourse.is_symlink()
    assert not release.ensure_current(layout, tree)


def test_folder_of_another_version_is_adopted_and_switched_from(layout: Layout) -> None:
    write_tree(layout.concourse, "7.14.0")
    new = tree_of(layout, "8.3.0")
    assert release.current(layout) == layout.concourse
    assert release.ensure_current(layout, new)
    assert [tree.name for tree in release.trees(layout)] == ["7.14.0", "8.3.0"]
    assert release.current(layout) == new


def test_folder_beside_a_tree_of_its_version_gets_another_name(layout: Layout) -> None:
    tree = tree_of(layout, "8.3.0")
    write_tree(layout.concourse, "8.3.0")
    assert release.adopt(layout) == layout.trees / "8.3.0-adopted2"
    assert release.ensure_current(layout, tree)


def test_folder_that_says_no_version_is_adopted_all_the_same(layout: Layout) -> None:
    (layout.concourse / "bin").mkdir(parents=True)
    assert release.adopt(layout) == layout.trees / "adopted"
    assert release.adopt(layout) is None


def test_adoption_killed_before_the_exchange_is_finished_by_the_next(layout: Layout) -> None:
    write_tree(layout.concourse, "8.3.0")
    layout.trees.mkdir()
    (layout.trees / "8.3.0").symlink_to("opt/concourse-releases/8.3.0")
    assert release.adopt(layout) == layout.trees / "8.3.0"
    assert release.is_complete(layout.trees / "8.3.0")


def test_folder_that_is_not_complete_takes_no_versions_name(layout: Layout, tmp_path: Path) -> None:
    write_tree(layout.concourse, "8.3.0")
    (layout.concourse / "bin/runc").write_bytes(b"")
    file = tmp_path / "concourse.tgz"
    file.write_bytes(release_file())
    tree = release.ensure_tree(layout, ReleaseWish("8.3.0", resource=file), quiet)
    assert release.trees(layout) == (tree, layout.trees / "adopted")
    assert (layout.trees / "adopted/bin/runc").read_bytes() == b""


def test_what_was_adopted_is_never_pruned_and_goes_back(layout: Layout) -> None:
    write_tree(layout.concourse, "7.14.0")
    before = unpacked(layout.concourse)
    number = layout.concourse.stat().st_ino
    new = tree_of(layout, "8.3.0")
    release.ensure_current(layout, new)
    assert release.prune(layout) == ()
    assert trees.give_back(layout) == layout.trees / "7.14.0"
    assert layout.concourse.stat().st_ino == number
    assert unpacked(layout.concourse) == before
    assert trees.give_back(layout) is None
    trees.remove_all(layout)
    assert not layout.trees.exists()
    assert unpacked(layout.concourse) == before


def test_of_several_that_were_adopted_the_last_goes_back_and_none_is_removed(
    layout: Layout,
) -> None:
    for version in ("7.14.0", "7.15.0"):
        layout.concourse.unlink(missing_ok=True)
        write_tree(layout.concourse, version)
        release.adopt(layout)
    tree_of(layout, "8.3.0")
    trees.give_back(layout)
    trees.remove_all(layout)
    assert release.version_of(layout.concourse) == "7.15.0"
    assert [tree.name for tree in layout.trees.iterdir()] == ["7.14.0"]
    layout.concourse.rename(tmp := layout.at("/elsewhere"))
    # A later deployment knows of the one that was left.
    release.ensure_current(layout, tree_of(layout, "8.3.0"))
    assert release.prune(layout) == ()
    assert tmp.is_dir()


def test_a_tree_of_the_charms_own_does_not_go_back(layout: Layout) -> None:
    write_tree(layout.concourse, "8.3.0")
    release.adopt(layout)
    layout.concourse.unlink()
    (layout.trees / "8.3.0").rename(layout.at("/gone"))
    file = layout.at("/concourse.tgz")
    file.write_bytes(release_file())
    tree = release.ensure_tree(layout, ReleaseWish("8.3.0", resource=file), quiet)
    release.ensure_current(layout, tree)
    assert trees.give_back(layout) is None
    trees.remove_all(layout)
    assert not os.path.lexists(layout.concourse)
    assert not layout.trees.exists()


def test_adoption_that_fails_is_not_remembered(layout: Layout) -> None:
    write_tree(layout.concourse, "8.3.0")
    layout.trees.mkdir()
    (layout.trees / "8.3.0").write_text("no folder, so that nothing can be exchanged with it")
    release.adopt(layout)
    assert theirs.adopted(layout) == (layout.trees / "8.3.0-adopted2",)


def test_giving_back_killed_anywhere_is_finished_by_the_next(tmp_path: Path) -> None:
    for number in range(1, 100):
        layout = Layout(tmp_path / str(number))
        write_tree(layout.concourse, "8.2.5")
        release.ensure_current(layout, tree_of(layout, "8.3.0"))

        def remove(layout: Layout = layout) -> None:
            trees.give_back(layout)
            trees.remove_all(layout)

        killed = killed_before_change(number, remove)
        remove()
        assert release.version_of(layout.concourse) == "8.2.5"
        assert not layout.concourse.is_symlink()
        assert not layout.trees.exists()
        if not killed:
            break
    assert number > 3


def process(layout: Layout, pid: int, *, path: str = "/usr/bin", exe: str = "/usr/bin/x") -> None:
    folder = layout.at(f"/proc/{pid}")
    folder.mkdir(parents=True)
    (folder / "environ").write_bytes(f"A=b\0PATH={path}\0C=d\0".encode())
    (folder / "exe").symlink_to(exe)


def test_trees_go_when_no_process_uses_them(layout: Layout) -> None:
    versions = ("8.0.0", "8.1.0", "8.2.0", "8.2.0-adopted2", "8.3.0")
    one, two, three, four, new = (tree_of(layout, version) for version in versions)
    release.ensure_current(layout, new)
    process(layout, 10, path=f"{two}/bin:/usr/bin")
    process(layout, 11, exe=f"{three}/bin/containerd-shim-runc-v2 (deleted)")
    process(layout, 12, path=f"{layout.concourse}/bin")
    layout.at("/proc/13").mkdir()  # ended
    (layout.trees / ".8.4.0.0a1b2c3d.tmp").mkdir()
    assert release.prune(layout) == (one, four)
    assert release.trees(layout) == (two, three, new)
    assert len(list(layout.trees.iterdir())) == 3
    assert release.prune(layout) == ()


def test_pruning_killed_anywhere_leaves_no_part_of_a_tree(tmp_path: Path) -> None:
    """One without its runc stopped the GPU's chain in the next hook."""
    for number in range(1, 50):
        layout = Layout(tmp_path / str(number))
        _, new = (tree_of(layout, version) for version in ("8.2.5", "8.3.0"))
        release.ensure_current(layout, new)
        killed = killed_before_change(number, lambda layout=layout: release.prune(layout))
        assert all(release.is_complete(tree) for tree in release.trees(layout)), number
        release.prune(layout)
        assert list(layout.trees.iterdir()) == [new]
        if not killed:
            break
    assert number > 3


def test_nothing_is_pruned_while_nothing_is_current(layout: Layout) -> None:
    tree = tree_of(layout, "8.3.0")
    layout.concourse.symlink_to("concourse-releases/8.2.0")
    assert release.prune(layout) == ()
    assert release.is_complete(tree)


def test_unpacking_killed_anywhere_is_finished_by_the_next_hook(tmp_path: Path) -> None:
    file = tmp_path / "concourse.tgz"
    file.write_bytes(release_file())
    wish = ReleaseWish("8.3.0", resource=file)
    for number in range(1, 200):
        layout = Layout(tmp_path / str(number))
        write_tree(layout.concourse, "8.2.5")

        def hook(layout: Layout = layout) -> None:
            release.ensure_current(layout, release.ensure_tree(layout, wish, quiet))
            release.prune(layout)

        killed = killed_before_change(number, hook)
        assert release.is_complete(layout.concourse), number  # one or the other, always
        hook()
        assert release.current(layout) == layout.trees / "8.3.0"
        names = sorted(path.name for path in layout.trees.iterdir())
        assert names == ["8.2.5", "8.3.0"]  # the adopted one stays
        if not killed:
            break
    assert number > 10
    assert not killed
