"""How the wrapper is called: names, command lines as runc reads them, loops, hostile arguments."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import threading
from pathlib import Path

import pytest

from tests.unit.wrapper_rig import (
    NVIDIA,
    REFUSED,
    RUNC,
    SHELLS,
    TASK,
    Rig,
    spec,
)

GUARD = "CONCOURSE_GPU_WRAPPER_PID"


@pytest.fixture
def one(tmp_path: Path) -> Rig:
    rig = Rig(tmp_path)
    rig.spec.write_text(json.dumps(spec([])))
    return rig


@pytest.fixture(params=SHELLS, ids=" ".join)
def task(request: pytest.FixtureRequest, tmp_path: Path) -> Rig:
    """A machine whose bundle, which is also the working directory, holds a task."""
    rig = Rig(tmp_path, request.param)
    rig.spec.write_text(json.dumps(spec([])))
    return rig


@pytest.mark.parametrize(
    "line",
    [
        "create id",
        "create --bundle . id",
        "create -b . id",
        "create -bundle . id",
        "create --b . id",
        "create --bundle=. id",
        "create -b=. id",
        "create -bundle=. id",
        "create --bundle= id",
        "create --bundle /nowhere --bundle . id",
        "create -b=/nowhere --pid-file x -b . id",
        "create --no-pivot --no-new-keyring=true --preserve-fds 3 id",
        "create --console-socket s --pidfd-socket=p --pid-file=create id",
        "create -- id",
        "create create",
        "--root a:-b create id",
        "create --pid-file create create",
        "--debug create id",
        "--debug=false --systemd-cgroup -debug create id",
        "--root create --log create --log-format create create id",
        "--rootless true --criu=/usr/bin/criu create id",
        "--root= create id",
        "-- create -- id",
    ],
)
def test_a_create_is_one_however_it_is_written(task: Rig, line: str) -> None:
    assert task.call(*line.split(" "), log=False).status == NVIDIA


@pytest.mark.parametrize(
    "line",
    [
        "",
        "create",
        "start create",
        "delete --force create",
        "exec --process p id create",
        "run --bundle . create",
        "--version create id",
        "-v create id",
        "--help create id",
        "--root create",
        "--root create start id",
        "-- start create",
        "-- -- create id",
        "create --bundle",
        "create --help id",
        "create --unknown x id",
        "create --debug id",
        "create ---bundle . id",
        "create --bundle . id another",
        "create id --bundle .",
        "create -- -b",
        "create -- id -b",
        "create --pid-file --bundle . id",
        "create --pid-file -b id",
        "create --bundle -b id",
        "create -",
        "--unknown create id",
        "--unknown=create create id",
        "--log -x create id",
        "--log --root create id",
        "Create id",
        "--root /r - create id",
    ],
)
def test_everything_else_goes_to_runc_as_it_came(task: Rig, line: str) -> None:
    before = task.spec.read_bytes()
    argv = line.split(" ") if line else []
    done = task.call(*argv, log=False)

    assert done.status == RUNC
    assert done.argv == (str(task.tree / "bin/runc.real"), *argv)
    assert done.config == before
    assert done.output == b""
    assert "NVIDIA_CTK_CONFIG_FILE_PATH" not in done.env


HOSTILE = [
    "a b",
    "$(touch pwned)",
    "`touch pwned`",
    "a;touch pwned",
    "a'b\"c\\d",
    "*",
    "a=b",
    "new\nline",
    "tab\there",
    "\u00e9\u2028",
    "%s%n\\n",
    "a&b|c>d",
]


@pytest.mark.parametrize("name", HOSTILE)
def test_a_bundle_may_be_called_anything(rig: Rig, name: str) -> None:
    bundle = rig.root / "run" / name
    bundle.mkdir()
    (bundle / "config.json").write_text(json.dumps(spec([])))

    for given in (str(bundle), f"../{name}"):
        (bundle / "config.json").write_text(json.dumps(spec([])))
        done = rig.call("create", "--bundle", given, "--pid-file", name, name)
        assert done.status == NVIDIA
        assert done.argv[-5:] == ("--bundle", given, "--pid-file", name, name)
        assert "GPU-" in (bundle / "config.json").read_text()
        assert os.listdir(bundle) == ["config.json"]
        assert not list(rig.root.rglob("pwned"))


@pytest.mark.parametrize("name", HOSTILE)
def test_a_log_may_be_called_anything(rig: Rig, name: str) -> None:
    log = rig.root / name
    rig.spec.write_text(json.dumps(spec(["NVIDIA_VISIBLE_DEVICES=7"])))
    done = rig.call("--log", str(log), "create", "id", log=False)

    assert (done.status, done.output) == (REFUSED, b"")
    assert json.loads(log.read_text())["level"] == "error"
    assert not list(rig.root.rglob("pwned"))


def test_roots_may_be_called_anything(tmp_path: Path) -> None:
    rig = Rig(tmp_path / 'it\'s a $(touch pwned) "root"')
    assert rig.create(spec([])).status == NVIDIA
    assert rig.create(spec([], ["/tmp/build/get"])).status == RUNC


@pytest.mark.parametrize("name", ["nvidia-container-runtime", "runc-gpu-wrapper", "crun", "runc2"])
def test_under_another_name_it_is_nvidias_runtime(task: Rig, name: str) -> None:
    """Docker's call: its containers keep the request, and the configuration, they came with."""
    link = task.root / "usr/bin" / name
    link.symlink_to(task.runc)
    text = json.dumps(spec(["NVIDIA_VISIBLE_DEVICES=all"], ["/proc", TASK]))
    task.spec.write_text(text)
    mine = {"NVIDIA_CTK_CONFIG_FILE_PATH": "/mine", GUARD: "1"}
    mine |= dict.fromkeys(("log", "bundle", "name", "value", "version", "spec", "awk"), "mine")
    argv = ("--root", "/var/run/docker/runtime-runc/moby", "create", "--bundle", ".", "id")
    done = task.execute(link, *argv, env=mine)

    assert done.status == NVIDIA
    assert done.argv == (str(task.layout.nvidia_runtime_real), *argv)
    assert done.config.decode() == text
    for variable, value in mine.items():
        assert done.env[variable] == value
    assert set(done.env) - {"PATH", "PWD", "OLDPWD", "SHLVL", "_", *mine} == set()


def test_under_another_name_without_nvidias_runtime_it_says_so(task: Rig) -> None:
    link = task.root / "usr/bin/nvidia-container-runtime"
    link.symlink_to(task.runc)
    task.layout.nvidia_runtime_real.unlink()

    done = task.execute(link, "--log", str(task.log), "create", "id")
    assert (done.status, done.message) == (REFUSED, "nvidia-container-runtime.real is missing")
    assert task.execute(link, "--version").status == REFUSED


@pytest.mark.parametrize("what", ["start id", "create id"])
def test_without_the_original_runc_it_says_so(task: Rig, what: str) -> None:
    (task.tree / "bin/runc.real").unlink()
    done = task.call(*what.split())
    assert done.message == "runc.real is missing from the Concourse tree"
    assert done.status == REFUSED


@pytest.mark.parametrize("what", ["--version", "start id", "state id"])
def test_a_wrapper_in_place_of_runc_real_ends_at_once(task: Rig, what: str) -> None:
    (task.tree / "bin/runc.real").unlink()
    (task.tree / "bin/runc.real").symlink_to("runc-gpu-wrapper")
    done = task.call(*what.split())
    assert (done.status, done.output) == (REFUSED, b"")
    assert "loop" in done.message


@pytest.mark.parametrize("what", ["--version", "create id"])
def test_a_wrapper_in_place_of_nvidias_original_ends_at_once(task: Rig, what: str) -> None:
    real = task.layout.nvidia_runtime_real
    real.unlink()
    real.symlink_to(task.runc)
    link = task.root / "usr/bin/nvidia-container-runtime"
    link.symlink_to(task.runc)

    done = task.execute(link, "--log", str(task.log), *what.split())
    assert (done.status, done.output) == (REFUSED, b"")
    assert "loop" in done.message


@pytest.mark.parametrize("what", ["create id", "start id"])
def test_a_chain_that_leads_back_to_runc_ends_at_once(task: Rig, what: str) -> None:
    """NVIDIA's runtime with `runtimes = ["runc"]` and this tree first in PATH."""
    for real in (task.layout.nvidia_runtime_real, task.tree / "bin/runc.real"):
        real.write_text(f'#!/bin/sh\nexec {" ".join(task.shell)} "{task.runc}" "$@"\n')
    done = task.call(*what.split())
    assert (done.status, done.output) == (REFUSED, b"")
    assert done.message == "the GPU wrapper called itself: loop"


def test_a_guard_from_elsewhere_is_no_loop(task: Rig) -> None:
    assert task.call("start", "id", env={GUARD: "1"}).status == RUNC
    assert task.call("create", "id", env={GUARD: str(os.getpid())}).status == NVIDIA


@pytest.mark.parametrize("shell", SHELLS, ids=" ".join)
def test_read_only_output_does_not_matter(tmp_path: Path, shell: tuple[str, ...]) -> None:
    """What containerd does: /dev/null as all three, opened for reading."""
    rig = Rig(tmp_path, shell)
    command = [*shell, str(rig.runc), "--log", str(rig.log), "create", "-b", str(rig.bundle), "i"]
    for request, status in (("0", NVIDIA), ("none", RUNC), ("7", REFUSED)):
        rig.spec.write_text(json.dumps(spec([f"NVIDIA_VISIBLE_DEVICES={request}"])))
        for closed in (False, True):
            with open(os.devnull, "rb") as null:
                ends = "<&- >&- 2>&-" if closed else ""
                done = subprocess.run(
                    ["/bin/sh", "-c", f'exec "$@" {ends}', "sh", *command],
                    stdin=null,
                    stdout=null,
                    stderr=null,
                    timeout=10,
                    check=False,
                )
            assert done.returncode == status
    assert [json.loads(each)["level"] for each in rig.log.read_text().splitlines()] == ["error"] * 2


def test_no_fork_to_pass_through_and_one_to_judge(one: Rig) -> None:
    """Counted by a stand-in for awk and by the process id, which exec keeps."""
    (one.root / "awk/awk").unlink()
    one.put("/awk/awk", f'#!/bin/sh\necho awk >>"{one.root}/forks"\nexec mawk "$@"\n')
    (one.root / "awk/awk").chmod(0o755)
    (one.tree / "bin/runc.real").write_text(f'#!/bin/sh\necho $$ >"{one.root}/pid"\nexit 40\n')
    for argv, forks in ((("start", "id"), 0), (("create", "-b", "/none", "id"), 0)):
        assert one.call(*argv).status == RUNC
        assert not (one.root / "forks").exists(), forks
    one.create(spec([], ["/proc"]))
    assert (one.root / "forks").read_text() == "awk\n"
    one.create(spec([]))
    assert (one.root / "forks").read_text() == "awk\n" * 2


def test_the_original_may_come_back_between_the_kernels_look_and_the_shells(one: Rig) -> None:
    """Found under load: the shell opened the called name, which was runc itself by then."""
    original, beside = one.tree / "bin/original", one.tree / "bin/beside"
    shutil.copy("/bin/true", original)
    one.program(one.tree / "bin/runc.real", 0)
    over = threading.Event()

    def switch() -> None:
        while not over.is_set():
            os.link(original, beside)
            beside.rename(one.runc)
            beside.symlink_to("runc-gpu-wrapper")
            beside.rename(one.runc)

    hands = threading.Thread(target=switch)
    hands.start()
    try:
        for _ in range(150):
            subprocess.run([one.runc, "--version"], check=True, timeout=9)
    finally:
        over.set()
        hands.join()
