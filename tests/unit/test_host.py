"""The ground floor: commands with limits, and files that change in one step."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

import host
from files import (
    ensure_copy,
    ensure_dir,
    ensure_symlink,
    exchange,
    remove,
    same_inode,
    sibling,
    write_file,
)
from host import CommandError, Layout, Trouble, run, trouble_of, wait_until
from tests.unit.killing import killed_before_change


def test_a_command_sees_a_plain_environment_and_what_was_added(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("JUJU_UNIT_NAME", "worker/0")
    done = run(["/usr/bin/env"], timeout=10, env={"http_proxy": "http://proxy:3128"})
    assert "http_proxy=http://proxy:3128" in done.stdout
    assert "JUJU" not in done.stdout


def test_a_failing_command_says_its_status_and_its_last_line() -> None:
    with pytest.raises(CommandError, match=r"sh failed with status 3 \(second\)") as caught:
        run(["/bin/sh", "-c", "echo first >&2; echo second >&2; exit 3"], timeout=10)
    assert caught.value.returncode == 3
    assert not caught.value.timed_out


def test_a_command_at_its_limit_is_killed_with_its_children(tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    script = f"sleep 600 & echo $! > {pid_file}; wait"
    with pytest.raises(CommandError, match="did not finish within 0.5 s") as caught:
        run(["/bin/sh", "-c", script], timeout=0.5)
    assert caught.value.timed_out
    child = Path(f"/proc/{pid_file.read_text().strip()}/stat")
    assert wait_until(lambda: not child.exists() or child.read_text().split()[2] == "Z", timeout=5)


def test_a_loop_ends_even_where_whoever_started_it_was_killed(tmp_path: Path) -> None:
    loop, pid_file = tmp_path / "loop", tmp_path / "pid"
    write_file(
        loop, f'#!/bin/sh\n[ -s {pid_file} ] || echo $$ >{pid_file}\nexec "$0"\n', mode=0o755
    )
    hook = f"import host; host.run([{str(loop)!r}], timeout=600, cpu_limit=1)"
    started = subprocess.Popen([sys.executable, "-c", hook], cwd=Path(host.__file__).parent)
    assert wait_until(lambda: pid_file.exists() and pid_file.read_text().strip() != "", timeout=30)
    started.kill()
    started.wait()
    left = Path(f"/proc/{pid_file.read_text().strip()}/stat")
    assert wait_until(lambda: not left.exists() or left.read_text().split()[2] == "Z", timeout=60)


def test_a_missing_command_is_named() -> None:
    with pytest.raises(CommandError, match="no-such-thing could not be started"):
        run([Layout().program("no-such-thing")], timeout=1)


def test_a_discarded_command_does_not_wait_for_the_child_it_leaves() -> None:
    start = time.monotonic()
    run(["/bin/sh", "-c", "sleep 5 &"], timeout=4, discard=True)
    assert time.monotonic() - start < 4


def test_programs_are_found_below_the_root(tmp_path: Path) -> None:
    write_file(tmp_path / "usr/sbin/tool", "#!/bin/sh\n", mode=0o755)
    assert Layout(tmp_path).program("tool") == str(tmp_path / "usr/sbin/tool")
    assert Layout(tmp_path).program("other") == str(tmp_path / "usr/bin/other")


def test_trouble_reads_as_one_sentence() -> None:
    assert str(Trouble("apt is locked", remedy="wait")) == "apt is locked: wait"


def test_writing_the_same_again_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "deep/down/file"
    assert write_file(path, "text", mode=0o600)
    before = path.stat()
    assert not write_file(path, "text", mode=0o600)
    assert path.stat().st_mtime_ns == before.st_mtime_ns
    assert write_file(path, "text", mode=0o644)
    assert path.stat().st_mode & 0o777 == 0o644


def test_a_link_in_the_way_is_replaced_not_followed(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("untouched")
    os.symlink(victim, tmp_path / "file")
    assert write_file(tmp_path / "file", "new")
    assert victim.read_text() == "untouched"
    assert not (tmp_path / "file").is_symlink()


def test_a_killed_write_leaves_the_old_content_and_the_next_one_tidies_up(tmp_path: Path) -> None:
    path = tmp_path / "file"
    number, killed = 0, True
    while killed:
        number += 1
        path.write_text("old")
        killed = killed_before_change(number, lambda: write_file(path, "new"))
        assert path.read_text() == ("old" if killed else "new")
        write_file(path, "new")
        assert list(tmp_path.iterdir()) == [path]
    assert number > 1


def test_a_copy_is_a_hard_link_that_survives_its_source(tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    write_file(source, "text", mode=0o755)
    target.write_text("something else")
    assert ensure_copy(source, target)
    assert same_inode(source, target)
    assert not ensure_copy(source, target)
    source.unlink()
    assert target.read_text() == "text"
    assert list(tmp_path.iterdir()) == [target]


def test_a_link_is_changed_in_one_step(tmp_path: Path) -> None:
    link = tmp_path / "link"
    assert ensure_symlink(link, "one")
    assert not ensure_symlink(link, "one")
    assert ensure_symlink(link, "two")
    assert os.readlink(link) == "two"
    assert list(tmp_path.iterdir()) == [link]


def test_exchange_swaps_a_folder_and_a_link(tmp_path: Path) -> None:
    folder, link = tmp_path / "folder", tmp_path / "link"
    folder.mkdir()
    os.symlink("elsewhere", link)
    exchange(folder, link)
    assert os.readlink(folder) == "elsewhere"
    assert link.is_dir()
    with pytest.raises(FileNotFoundError):
        exchange(folder, tmp_path / "missing")


def test_ensure_dir_mends_the_mode(tmp_path: Path) -> None:
    assert ensure_dir(tmp_path / "a/b", 0o700)
    assert not ensure_dir(tmp_path / "a/b", 0o700)
    assert (tmp_path / "a/b").stat().st_mode & 0o777 == 0o700


def test_remove_takes_files_links_and_folders_but_never_a_links_target(tmp_path: Path) -> None:
    (tmp_path / "folder/below").mkdir(parents=True)
    os.symlink(tmp_path / "folder", tmp_path / "link")
    assert remove(tmp_path / "link")
    assert (tmp_path / "folder/below").is_dir()
    assert remove(tmp_path / "folder")
    assert not remove(tmp_path / "folder")


def test_siblings_are_hidden_and_never_meet(tmp_path: Path) -> None:
    names = {sibling(tmp_path / "file").name for _ in range(100)}
    assert len(names) == 100
    assert all(name.startswith(".file.") for name in names)


def test_a_command_that_writes_without_end_is_stopped_before_it_fills_the_memory() -> None:
    with pytest.raises(CommandError, match="yes wrote without end") as caught:
        run(["/usr/bin/yes"], timeout=30)
    assert not caught.value.timed_out


def test_what_a_command_reads_and_writes_is_text_however_large() -> None:
    text = "line\n" * 200_000
    assert run(["/bin/cat"], timeout=30, stdin=text).stdout == text
    assert run(["/usr/bin/printf", r"a\r\n\377"], timeout=5).stdout == "a\n\ufffd"


def test_what_the_operating_system_refuses_is_said_in_the_operators_words() -> None:
    full = OSError(errno.ENOSPC, "No space left on device", "/var/x")
    assert str(trouble_of(full)) == "the disk is full (/var/x): free space or inodes"
    fixed = OSError(errno.EROFS, "Read-only file system", "/usr/x")
    assert str(trouble_of(fixed)) == "the disk is read-only (/usr/x): see dmesg"
    busy = OSError(errno.EBUSY, "Device or resource busy", "/etc/x")
    assert str(trouble_of(busy)) == "Device or resource busy (/etc/x)"
    assert trouble_of(busy).retry
    half = OSError(errno.EBUSY, "Device or resource busy", "/etc/.x.tmp", None, "/etc/x")
    assert str(trouble_of(half)) == str(trouble_of(busy))
    assert "(/etc/x)" in str(trouble_of(OSError(errno.EIO, "I/O error", "/etc/.x.tmp")))
