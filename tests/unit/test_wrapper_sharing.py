"""Shared, balanced, exclusive: what a task gets beside others that hold GPUs already."""

from __future__ import annotations

import os
import time
from dataclasses import replace
from pathlib import Path

import pytest

from gpu.wrapper import ensure_devices
from tests.unit.wrapper_rig import (
    AWKS,
    BOTH,
    DEVICES,
    GPU_A,
    GPU_B,
    MIG,
    NVIDIA,
    REFUSED,
    RUNC,
    SHELLS,
    TABLE,
    Outcome,
    Rig,
    spec,
)

COUNT = "CONCOURSE_GPU_COUNT"
LEASE, EXECS = "gpu-lease", "gpu-execs"


def share(rig: Rig, sharing: str, default: str | None = None, timeout: int = 0) -> None:
    standard = default or ("all" if sharing == "shared" else "1")
    ensure_devices(rig.layout, replace(TABLE, sharing=sharing, default=standard, timeout=timeout))


def start_of(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()[19]


def hold(rig: Rig, handle: str, uuids: str, pid: int | None = None, age: float = 0) -> Path:
    """Give another container a lease, that of a container whose creation this process is."""
    owner = os.getpid() if pid is None else pid
    bundle = rig.bundle.parent / handle
    bundle.mkdir()
    taken = float(Path("/proc/uptime").read_text().split()[0]) - age
    start = start_of(owner) if Path(f"/proc/{owner}").exists() else "1"
    (bundle / LEASE).write_text(f"{handle}\t{owner}\t{start}\t{taken:.2f}\t{uuids}\n")
    return bundle


def given(done: Outcome) -> str:
    """The UUIDs that a task got."""
    assert done.status == NVIDIA, done
    (value,) = [each for each in done.new_env if each.startswith(f"{DEVICES}=")]
    return value.partition("=")[2]


@pytest.mark.parametrize("sharing", ["shared", "balanced", "exclusive"])
@pytest.mark.parametrize(
    ("env", "devices"),
    [
        ([f"{COUNT}=1"], GPU_A),
        ([f"{COUNT}=2"], BOTH),
        ([f"{COUNT}=1", f"{COUNT}=2"], BOTH),
        ([f"{COUNT}=9", f"{COUNT}=1"], GPU_A),
        ([f"{COUNT}=2", f"{DEVICES}=all"], BOTH),
        ([f"{DEVICES}=1"], GPU_B),
        ([f"{DEVICES}=1", f"{COUNT}=1"], GPU_B),
        ([f"{DEVICES}=1,0,1"], f"{GPU_B},{GPU_A}"),
        ([f"{DEVICES}=2:1"], MIG),
        ([f"X{COUNT}=7", f"{COUNT}X=7", f"{DEVICES}=0"], GPU_A),
    ],
)
def test_a_task_gets_as_many_as_it_asks_for(
    one: Rig, sharing: str, env: list[str], devices: str
) -> None:
    share(one, sharing)
    done = one.create(spec(["A=1", *env]))

    assert given(done) == devices
    kept = [each for each in env if not each.startswith(DEVICES)]
    assert done.new_env[:-2] == ["A=1", *kept]
    assert done.new_env[-1] == "NVIDIA_DRIVER_CAPABILITIES=all"
    assert done.output == b""


@pytest.mark.parametrize("sharing", ["shared", "balanced", "exclusive"])
@pytest.mark.parametrize(
    "env",
    [
        [f"{COUNT}=0"],
        [f"{COUNT}=0", f"{DEVICES}=all"],
        [f"{COUNT}=0", f"{DEVICES}=1"],
        [f"{COUNT}=2", f"{COUNT}=0"],
        [f"{DEVICES}=none"],
        [f"{DEVICES}=void", f"{COUNT}=0"],
    ],
)
def test_none_is_none_in_every_mode(rig: Rig, sharing: str, env: list[str]) -> None:
    share(rig, sharing)
    assert rig.create(spec(env)).status == RUNC
    assert not (rig.bundle / LEASE).exists()


@pytest.mark.parametrize("sharing", ["shared", "balanced", "exclusive"])
@pytest.mark.parametrize(
    ("env", "message"),
    [
        ([f"{COUNT}=3"], f"{COUNT} of this task is 3, and this worker has 2 GPUs"),
        ([f"{COUNT}=999"], f"{COUNT} of this task is 999, and this worker has 2 GPUs"),
        ([f"{COUNT}=2", f"{DEVICES}=1"], f"{COUNT} of this task is 2, and {DEVICES} names 1"),
        ([f"{COUNT}=1", f"{DEVICES}=0,1"], f"{COUNT} of this task is 1, and {DEVICES} names 2"),
        ([f"{COUNT}=1", f"{DEVICES}=none"], f"{COUNT} of this task is 1, and {DEVICES} asks for"),
        *(
            ([f"{COUNT}={bad}"], f'{COUNT} of this task is no number of GPUs: "{shown}"')
            for bad, shown in (
                *(("", ""), ("-1", "-1"), ("1.0", "1.0"), (" 1", " 1"), ("01", "01")),
                *(("all", "all"), ("1e0", "1e0"), ("0x1", "0x1"), ("1\n", "1?")),
                *(("1000", "1000"), ("\uff11", "?"), ('1"', "1?"), ("$(id)", "??id?")),
                ("1" * 400, "1" * 64 + "..."),
            )
        ),
    ],
)
def test_a_count_that_cannot_be_is_refused_at_once(
    one: Rig, sharing: str, env: list[str], message: str
) -> None:
    share(one, sharing, timeout=60)
    begin = time.monotonic()
    done = one.create(spec(env))

    assert done.status == REFUSED
    assert done.message.startswith(message)
    assert time.monotonic() - begin < 5
    assert not (one.bundle / LEASE).exists()


def test_a_count_behind_escapes_is_refused_as_doubtful(one: Rig) -> None:
    share(one, "exclusive")
    text = '{"process":{"env":["CONCOURSE_GPU_\\u0043OUNT=2"]},"mounts":[{"destination":'
    done = one.create(text + '"/tmp/build/0123abcd"}]}')
    assert done.message == "config.json of this task cannot be read without doubt"


@pytest.mark.parametrize(
    ("sharing", "default", "env", "devices"),
    [
        ("shared", "all", [], BOTH),
        ("shared", "all", [f"{DEVICES}=all"], BOTH),
        ("balanced", "1", [], GPU_A),
        ("balanced", "1", [f"{DEVICES}=all"], GPU_A),
        ("exclusive", "1", [], GPU_A),
        ("exclusive", "1", [f"{DEVICES}=all"], GPU_A),
        ("exclusive", "0", [], None),
        ("exclusive", "0", [f"{DEVICES}=all"], None),
        ("exclusive", "0", [f"{DEVICES}=1"], GPU_B),
        ("exclusive", "0", [f"{COUNT}=1"], GPU_A),
    ],
)
def test_a_task_that_asks_for_nothing_gets_the_mode_s_share(
    rig: Rig, sharing: str, default: str, env: list[str], devices: str | None
) -> None:
    share(rig, sharing, default)
    done = rig.create(spec(env))
    if devices is None:
        assert done.status == RUNC
    else:
        assert given(done) == devices


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


def test_balanced_takes_those_with_the_fewest_leases(rig: Rig) -> None:
    share(rig, "balanced")
    hold(rig, "a", GPU_A)
    assert given(rig.create(spec([]))) == GPU_B
    hold(rig, "b", GPU_B)
    assert given(rig.create(spec([]))) == GPU_A
    hold(rig, "c", BOTH)
    hold(rig, "d", GPU_A)
    assert given(rig.create(spec([f"{COUNT}=1"]))) == GPU_B
    assert given(rig.create(spec([f"{COUNT}=2"]))) == f"{GPU_B},{GPU_A}"
    assert given(rig.create(spec([f"{DEVICES}=0"]))) == GPU_A


def test_exclusive_gives_what_nobody_holds(rig: Rig) -> None:
    share(rig, "exclusive")
    hold(rig, "a", f"{GPU_A},{MIG}")
    assert given(rig.create(spec([]))) == GPU_B
    assert given(rig.create(spec([f"{DEVICES}=1"]))) == GPU_B


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


def test_an_old_table_means_shared(one: Rig) -> None:
    text = one.layout.gpu_devices.read_text()
    kept = [
        line
        for line in text.splitlines()
        if line.split("\t")[0] not in ("sharing", "default", "timeout")
    ]
    one.layout.gpu_devices.write_text("".join(f"{line}\n" for line in kept))
    assert given(one.create(spec([]))) == BOTH


@pytest.mark.parametrize("awk", AWKS)
def test_the_new_spec_differs_in_the_env_alone(tmp_path: Path, awk: str) -> None:
    """In a leased mode the UUIDs are put in afterwards, at the right byte."""
    rig = Rig(tmp_path, SHELLS[0], awk)
    share(rig, "exclusive")
    env = ["NVIDIA_GDS=1", "ü=é\U0001f600", f"A={DEVICES}=", "NVIDIA_GDS=2", 'B="\\']
    done = rig.create(spec(env))
    assert done.new_env == [
        "ü=é\U0001f600",
        f"A={DEVICES}=",
        'B="\\',
        f"{DEVICES}={GPU_A}",
        "NVIDIA_DRIVER_CAPABILITIES=all",
    ]
