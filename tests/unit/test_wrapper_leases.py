"""The wrapper's leases: who holds what, who waits, the lock, and the marks of execs."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

from tests.unit.wrapper_leases import COUNT, EXECS, LEASE, given, hold, share, start_of
from tests.unit.wrapper_rig import (
    BOTH,
    DEVICES,
    GPU_A,
    GPU_B,
    NVIDIA,
    REFUSED,
    RUNC,
    SHELLS,
    Rig,
    spec,
)


@pytest.mark.parametrize("sharing", ["shared", "balanced", "exclusive"])
def test_a_lease_says_who_holds_what_since_when(rig: Rig, sharing: str) -> None:
    share(rig, sharing)
    before = float(Path("/proc/uptime").read_text().split()[0])
    assert given(rig.create(spec([f"{COUNT}=2"]))) == BOTH

    handle, pid, start, taken, uuids = (rig.bundle / LEASE).read_text().rstrip("\n").split("\t")
    assert (handle, uuids) == ("an-id", BOTH)
    assert pid.isdecimal()
    assert int(start_of(os.getpid())) <= int(start)
    assert before - 1 <= float(taken) <= before + 60


def test_a_refusal_names_who_holds_them(rig: Rig) -> None:
    share(rig, "exclusive")
    hold(rig, "0c0ffee1-1111-4222-8333-444455556666", GPU_A, age=7)
    text = "GPUs of this worker are taken (wanted: {}, free: {}, waited: 0 s): "
    first = f"GPU 0 ({GPU_A}) is held by 0c0ffee1-1111-4222-8333-444455556666 for 7 s"

    done = rig.create(spec([f"{COUNT}=2"]))
    assert done.status == REFUSED
    assert done.message.startswith(text.format(2, 1) + first[:-3])
    assert done.output == b""
    assert not (rig.bundle / LEASE).exists()

    hold(rig, "b", GPU_B, age=3 * 3600)
    done = rig.create(spec([]))
    assert done.message.startswith(text.format(1, 0) + first[:-3])
    assert done.message.endswith(f"; GPU 1 ({GPU_B}) is held by b for 3 h")
    done = rig.create(spec([f"{DEVICES}=1"]))
    assert done.message == text.format(1, 0) + f"GPU 1 ({GPU_B}) is held by b for 3 h"


def test_a_task_waits_until_a_gpu_is_free(rig: Rig) -> None:
    share(rig, "exclusive", timeout=30)
    hold(rig, "a", GPU_A)
    holder = os.spawnlp(os.P_NOWAIT, "sleep", "sleep", "1.5")
    hold(rig, "b", GPU_B, pid=holder)
    begin = time.monotonic()
    done = rig.create(spec([]))  # the holder isn't reaped until here: dead is enough
    os.waitpid(holder, 0)

    assert given(done) == GPU_B
    assert 1 < time.monotonic() - begin < 15


def test_a_task_waits_as_long_as_the_option_says_and_no_longer(one: Rig) -> None:
    share(one, "exclusive", timeout=2)
    hold(one, "a", BOTH)
    begin = time.monotonic()
    done = one.create(spec([]))

    assert done.status == REFUSED
    assert "waited: 2 s" in done.message
    assert 1 <= time.monotonic() - begin < 10


def test_leases_of_the_dead_do_not_count(rig: Rig) -> None:
    share(rig, "exclusive")
    gone = os.spawnlp(os.P_NOWAIT, "true", "true")
    os.waitpid(gone, 0)
    hold(rig, "a", BOTH, pid=gone)
    later = hold(rig, "b", BOTH)  # this process' number, but another's start
    (later / LEASE).write_text((later / LEASE).read_text().replace(start_of(os.getpid()), "1"))
    cut = hold(rig, "c", BOTH)  # killed while it wrote
    (cut / LEASE).write_text((cut / LEASE).read_text()[:9])
    hold(rig, ".d", BOTH)  # a bundle on its way out
    assert given(rig.create(spec([f"{COUNT}=2"]))) == BOTH


def test_a_container_is_not_in_its_own_way(rig: Rig) -> None:
    """A create comes again for the same bundle when the worker was restarted."""
    share(rig, "exclusive")
    hold(rig, "x", GPU_A)
    lease = (rig.bundle.parent / "x" / LEASE).read_text().replace("x\t", "an-id\t", 1)
    (rig.bundle.parent / "x" / LEASE).unlink()
    (rig.bundle / LEASE).write_text(lease)
    assert given(rig.create(spec([f"{COUNT}=2"]))) == BOTH


@pytest.mark.parametrize("handle", ["1", "1.0", "1e0", "0x1"])
def test_handles_are_no_numbers(rig: Rig, handle: str) -> None:
    share(rig, "exclusive")
    hold(rig, "01", GPU_A)
    rig.spec.write_text(json.dumps(spec([])))
    assert given(rig.call("create", "--bundle", str(rig.bundle), handle)) == GPU_B


@pytest.mark.parametrize("shell", SHELLS, ids=" ".join)
def test_a_bundle_from_which_no_lease_can_be_opened_is_refused(
    tmp_path: Path, shell: tuple[str, ...]
) -> None:
    rig = Rig(tmp_path, shell)
    share(rig, "exclusive")
    hold(rig, "n" * 255, GPU_A)
    for path, status in (("./" * 450, NVIDIA), ("./" * 451, REFUSED), ("./" * 2040, REFUSED)):
        rig.spec.write_text(json.dumps(spec([])))
        done = rig.call("create", "--bundle", path, "an-id")
        assert done.status == status
        assert status == NVIDIA or done.message == "the path of this container's bundle is too long"
    rig.spec.write_text(json.dumps(spec([])))
    assert rig.call("create", "--bundle", "./" * 2045, "an-id").status == RUNC  # nor its spec


def test_no_descriptor_of_the_lock_reaches_runc(rig: Rig) -> None:
    share(rig, "exclusive")
    report = rig.layout.nvidia_runtime_real
    look = f'ls -l /proc/$$/fd >"{rig.root}/fds"'
    report.write_text(f"#!/bin/sh\n{look}\nexit {NVIDIA}\n")
    assert rig.create(spec([])).status == NVIDIA
    open_now = (rig.root / "fds").read_text()
    assert "/output" in open_now
    assert str(rig.layout.gpu_devices.parent) not in open_now


def test_who_waits_holds_no_lock(one: Rig) -> None:
    share(one, "exclusive", timeout=4)
    hold(one, "a", GPU_A)
    pid = os.fork()
    if pid == 0:
        two = one.create(spec([f"{COUNT}=2"]))
        os._exit(0 if two.status == REFUSED else 1)
    time.sleep(1.5)
    lock = str(one.layout.gpu_devices.parent)
    tries = [os.system(f"flock -n {lock} true") for _ in range(20) if not time.sleep(0.1)]
    _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    assert tries.count(0) > 10


def test_a_lock_that_cannot_be_had_is_said(one: Rig) -> None:
    share(one, "exclusive")
    flock = one.root / "awk/flock"
    flock.write_text("#!/bin/sh\nexit 1\n")
    flock.chmod(0o755)
    done = one.create(spec([]))
    assert done.message == "the lock of this worker's GPUs could not be taken"


def test_a_missing_program_is_named(one: Rig) -> None:
    share(one, "exclusive", timeout=60)
    next(one.tree.glob("bin/runc-gpu-leases-*.awk")).unlink()
    done = one.create(spec([f"{COUNT}=1"]))
    assert done.status == REFUSED
    assert done.message == "the program that hands out this worker's GPUs is missing"
    share(one, "shared")
    assert given(one.create(spec([f"{COUNT}=1"]))) == GPU_A


@pytest.mark.parametrize(("deaths", "status"), [(3, NVIDIA), (99, REFUSED)])
def test_an_awk_that_dies_of_what_it_reads_is_asked_again(
    one: Rig, deaths: int, status: int
) -> None:
    """A process can end between mawk's open and its read: a read error, of which mawk dies."""
    share(one, "exclusive")
    awk, calls = one.root / "awk/awk", one.root / "calls"
    real = awk.resolve()
    awk.unlink()
    counted = f"echo >>{calls}; n=$(wc -l <{calls}); [ $n -eq 1 ] || [ $n -gt {deaths + 1} ]"
    awk.write_text(f'#!/bin/sh\n{counted} || exit 2\nexec {real} "$@"\n')
    awk.chmod(0o755)
    done = one.create(spec([]))
    assert done.status == status
    if status == REFUSED:
        assert done.message == "the processes that hold GPUs could not be looked at"


@pytest.mark.parametrize("sharing", ["balanced", "exclusive"])
def test_who_wants_no_gpu_takes_no_lock(one: Rig, sharing: str) -> None:
    share(one, sharing)
    (one.root / "awk/flock").write_text("#!/bin/sh\nexit 1\n")
    (one.root / "awk/flock").chmod(0o755)
    assert one.create(spec([], ["/proc"])).status == RUNC
    assert one.create(spec([f"{DEVICES}=none"])).status == RUNC
    assert one.create(spec([f"{COUNT}=0"])).status == RUNC


@pytest.mark.parametrize("shell", SHELLS, ids=" ".join)
def test_an_exec_in_a_leased_bundle_leaves_its_mark(tmp_path: Path, shell: tuple[str, ...]) -> None:
    rig = Rig(tmp_path, shell)
    exec_ = ("exec", "--process", "/p.json", "--detach", "--pid-file", "x.pid", "an-id")
    assert rig.call(*exec_).status == RUNC
    assert not (rig.bundle / EXECS).exists()

    (rig.bundle / LEASE).write_text("")
    program = rig.tree / "bin/runc.real"
    program.write_text(
        f'#!/bin/sh\necho $$ >"{rig.root}/pid"\ncut -d" " -f22 /proc/$$/stat '
        f'>"{rig.root}/start"\nprintf "%s\\0" "$0" "$@" >"{rig.root}/argv"\n'
        f"exit {RUNC}\n"
    )
    done = rig.call(*exec_)
    assert (done.status, done.output) == (RUNC, b"")
    assert done.argv[-7:] == exec_
    mark = f"{(rig.root / 'pid').read_text().strip()} {(rig.root / 'start').read_text().strip()}"
    assert (rig.bundle / EXECS).read_text() == f"{mark}\n"
    for other in ("start", "kill", "delete", "state", "ps"):
        rig.call(other, "an-id")
    assert (rig.bundle / EXECS).read_text() == f"{mark}\n"
    rig.call(*exec_)
    assert len((rig.bundle / EXECS).read_text().splitlines()) == 2


def test_an_exec_goes_on_where_no_mark_can_be_left(one: Rig) -> None:
    (one.bundle / LEASE).write_text("")
    (one.bundle / EXECS).mkdir()
    assert one.call("exec", "--process", "/p", "an-id").status == RUNC
