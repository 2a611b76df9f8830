"""A release becomes a tree: the attached file, what is in it, and what is not let in."""

from __future__ import annotations

import gzip
import os
import tarfile
from dataclasses import replace
from pathlib import Path

import pytest

from concourse import release
from concourse.download import require_space
from concourse.errors import ConcourseError
from concourse.release import ReleaseWish, file_name
from host import Layout
from tests.unit import releases
from tests.unit.releases import ELF, WRAPPER, member, pack, quiet, release_members, tree_of
from tests.unit.releases import release as release_file

site, wish = releases.site, releases.wish

# --- the attached file -----------------------------------------------------------------


def test_attached_file_needs_no_network(layout: Layout, tmp_path: Path) -> None:
    file = tmp_path / "concourse.tgz"
    file.write_bytes(release_file())
    wish = ReleaseWish("8.3.0", url="http://127.0.0.1:1", resource=file)
    assert release.is_complete(release.ensure_tree(layout, wish, quiet))
    assert file.exists()


@pytest.mark.parametrize("content", [None, b""])
def test_absent_or_empty_file_is_not_attached(
    layout: Layout, wish: ReleaseWish, tmp_path: Path, content: bytes | None
) -> None:
    file = tmp_path / "concourse.tgz"
    if content is not None:
        file.write_bytes(content)
    release.ensure_tree(layout, replace(wish, resource=file), quiet)


def test_attached_file_is_compared_with_sha256(layout: Layout, tmp_path: Path) -> None:
    file = tmp_path / "concourse.tgz"
    file.write_bytes(release_file())
    with pytest.raises(ConcourseError, match="but the attached resource concourse has"):
        release.ensure_tree(layout, ReleaseWish("8.3.0", sha256="a" * 64, resource=file), quiet)
    assert file.exists()


def test_attached_file_of_another_version_names_both(layout: Layout, tmp_path: Path) -> None:
    file = tmp_path / "concourse.tgz"
    file.write_bytes(release_file("8.2.5"))
    with pytest.raises(ConcourseError, match=r"it is 8\.2\.5, but 8\.3\.0 is asked for"):
        release.ensure_tree(layout, ReleaseWish("8.3.0", resource=file), quiet)
    assert list(layout.trees.iterdir()) == []


# --- unpacking -------------------------------------------------------------------------


HOSTILE = {
    "absolute": member("/etc/x", b"x"),
    "parent": member("concourse/../../x", b"x"),
    "elsewhere": member("other/x", b"x"),
    "absolute link": member("concourse/l", type=tarfile.SYMTYPE, linkname="/etc/passwd"),
    "escaping link": member("concourse/bin/l", type=tarfile.SYMTYPE, linkname="../../x"),
    "escaping later": member("concourse/l", type=tarfile.SYMTYPE, linkname="bin/../../x"),
    "long link": member("concourse/l", type=tarfile.SYMTYPE, linkname="/\U000e0001" * 999),
    "hard link out": member("concourse/l", type=tarfile.LNKTYPE, linkname="/etc/passwd"),
    "hard link to a folder": member("concourse/l", type=tarfile.LNKTYPE, linkname="concourse/bin"),
    "device": member("concourse/d", type=tarfile.CHRTYPE, devmajor=1, devminor=3),
    "pipe": member("concourse/d", type=tarfile.FIFOTYPE),
    "file over a folder": member("concourse/bin", b"x"),
}


@pytest.mark.parametrize("bad", HOSTILE.values(), ids=HOSTILE.keys())
def test_hostile_member_is_refused_and_nothing_stays(
    layout: Layout, tmp_path: Path, bad: tuple[tarfile.TarInfo, bytes]
) -> None:
    file = tmp_path / "concourse.tgz"
    file.write_bytes(pack([*release_members("8.3.0"), bad]))
    with pytest.raises(ConcourseError, match="not as Concourse makes it") as caught:
        release.ensure_tree(layout, ReleaseWish("8.3.0", resource=file), quiet)
    assert len(str(caught.value)) < 300
    assert str(caught.value).isprintable()
    assert list(layout.trees.iterdir()) == []
    assert not (layout.trees.parent / "x").exists()


def test_file_through_a_link_is_refused(layout: Layout, tmp_path: Path) -> None:
    through = [
        member("concourse/l", type=tarfile.SYMTYPE, linkname="bin"),
        member("concourse/l/x", b"x"),
    ]
    file = tmp_path / "concourse.tgz"
    file.write_bytes(pack([*release_members("8.3.0"), *through]))
    with pytest.raises(ConcourseError, match="leads through a link"):
        release.ensure_tree(layout, ReleaseWish("8.3.0", resource=file), quiet)


def test_links_that_lead_out_together_are_refused(layout: Layout, tmp_path: Path) -> None:
    """The first leads to the top, and the second to what is above the first's end."""
    links = [
        member("concourse/bin/top", type=tarfile.SYMTYPE, linkname=".."),
        member("concourse/out", type=tarfile.SYMTYPE, linkname="bin/top/.."),
    ]
    file = tmp_path / "concourse.tgz"
    file.write_bytes(pack([*release_members("8.3.0"), *links]))
    with pytest.raises(ConcourseError, match="links to"):
        release.ensure_tree(layout, ReleaseWish("8.3.0", resource=file), quiet)


def test_links_modes_and_times_inside_are_kept(layout: Layout, tmp_path: Path) -> None:
    more = [
        member("./concourse/bin/link", type=tarfile.SYMTYPE, linkname="../bin/runc"),
        member("concourse/bin/hard", type=tarfile.LNKTYPE, linkname="concourse/bin/runc"),
        member("concourse/bin/suid", b"x", mode=0o6777, mtime=1_700_000_000, uid=1000),
    ]
    file = tmp_path / "concourse.tgz"
    file.write_bytes(pack([*release_members("8.3.0"), *more]))
    tree = release.ensure_tree(layout, ReleaseWish("8.3.0", resource=file), quiet)
    assert os.readlink(tree / "bin/link") == "../bin/runc"
    assert (tree / "bin/hard").samefile(tree / "bin/runc")
    status = (tree / "bin/suid").stat()
    assert (status.st_mode & 0o7777, status.st_mtime) == (0o755, 1_700_000_000)
    assert status.st_uid == os.geteuid()


@pytest.mark.parametrize(
    "damage",
    [lambda data: data[:-300], lambda data: data[:-8] + b"\0" * 8, lambda data: b"not a tarball"],
    ids=["cut", "wrong checksum", "something else"],
)
def test_damaged_file_is_refused_and_nothing_stays(
    layout: Layout, tmp_path: Path, damage: object
) -> None:
    file = tmp_path / "concourse.tgz"
    file.write_bytes(damage(release_file()))  # type: ignore[operator]
    with pytest.raises(ConcourseError, match="damaged"):
        release.ensure_tree(layout, ReleaseWish("8.3.0", resource=file), quiet)
    assert list(layout.trees.iterdir()) == []


def chained(count: int) -> bytes:
    """Headers about the next header, one behind the other."""
    info = tarfile.TarInfo("x")
    info.type = tarfile.XHDTYPE
    return gzip.compress(info.tobuf(tarfile.USTAR_FORMAT) * count + bytes(1024), mtime=0)


def extended(**headers: str) -> bytes:
    kind = tarfile.SYMTYPE if "linkpath" in headers else tarfile.REGTYPE
    odd = {name.replace("_", "."): value for name, value in headers.items()}
    return pack([member("concourse/x", type=kind, linkname="y", pax_headers=odd)])


@pytest.mark.parametrize(
    "content",
    [
        extended(mtime="nan"),
        extended(mtime="inf"),
        extended(mtime="1e30"),
        extended(linkpath="x\0y"),
        extended(GNU_sparse_map="a,b"),
        chained(1500),
    ],
    ids=["no time", "an endless time", "a far time", "a zero byte", "no map", "too deep"],
)
def test_what_no_tar_program_writes_is_damaged(
    layout: Layout, tmp_path: Path, content: bytes
) -> None:
    file = tmp_path / "concourse.tgz"
    file.write_bytes(content)
    with pytest.raises(ConcourseError, match="damaged"):
        release.ensure_tree(layout, ReleaseWish("8.3.0", resource=file), quiet)
    assert list(layout.trees.iterdir()) == []


def test_release_without_runc_is_none(layout: Layout, tmp_path: Path) -> None:
    file = tmp_path / "concourse.tgz"
    file.write_bytes(pack([m for m in release_members("8.3.0") if not m[0].name.endswith("runc")]))
    with pytest.raises(ConcourseError, match="no release"):
        release.ensure_tree(layout, ReleaseWish("8.3.0", resource=file), quiet)


def test_space_is_asked_for_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(ConcourseError, match=r"1000000000\.0 GB needed in .*, \d+\.\d GB free"):
        require_space(tmp_path, 10**18, "to unpack Concourse 8.3.0")


def test_killed_unpacking_is_cleared_by_the_next_one(layout: Layout, wish: ReleaseWish) -> None:
    left = layout.trees / ".8.3.0.0a1b2c3d.tmp"
    (left / "bin").mkdir(parents=True)
    release.ensure_tree(layout, wish, quiet)
    assert [path.name for path in layout.trees.iterdir()] == ["8.3.0"]


@pytest.mark.parametrize("damage", ["no runc", "wrapper only", "empty concourse"])
def test_incomplete_tree_is_replaced_in_one_step(
    layout: Layout, wish: ReleaseWish, damage: str
) -> None:
    tree = tree_of(layout, "8.3.0")
    (tree / "old").write_text("")
    if damage == "no runc":
        (tree / "bin/runc").unlink()
    elif damage == "wrapper only":
        (tree / "bin/runc").write_bytes(WRAPPER)
    else:
        (tree / "bin/concourse").write_bytes(b"")
    assert not release.is_complete(tree)
    assert release.ensure_tree(layout, wish, quiet) == tree
    assert release.is_complete(tree)
    assert not (tree / "old").exists()
    assert list(layout.trees.iterdir()) == [tree]


def test_wrapped_tree_is_complete(layout: Layout) -> None:
    tree = tree_of(layout, "8.3.0", runc=WRAPPER)
    (tree / "bin/runc.real").write_bytes(ELF)
    assert not release.is_complete(tree)
    (tree / "bin/runc.real").chmod(0o755)
    assert release.is_complete(tree)


# --- the file's name -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("machine", "name"),
    [("x86_64", "concourse-8.3.0-linux-amd64.tgz"), ("aarch64", "concourse-8.3.0-linux-arm64.tgz")],
)
def test_file_name_follows_the_machine(machine: str, name: str) -> None:
    assert file_name("8.3.0", machine) == name


def test_machine_without_a_release_says_so() -> None:
    with pytest.raises(ConcourseError, match="riscv64"):
        file_name("8.3.0", "riscv64")
