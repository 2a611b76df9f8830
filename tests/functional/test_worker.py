"""The worker's service under a real systemd, with a real containerd and runc."""

from __future__ import annotations

import json
import os
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from rehearsal.machine import Machine, MachineOptions

REPOSITORY = Path(__file__).resolve().parents[2]
HEADER = """
import json, sys
sys.path[:0] = [{lib!r}]
from pathlib import Path
from dataclasses import asdict, replace
from host import Layout
from concourse import release, worker, observation
from concourse.environment import quoted
from concourse.worker import WorkerWish
layout = Layout()
KEY = ("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIA" + "A" * 42)
WISH = WorkerWish(name="worker-0", tsa_hosts=("127.0.0.1:2222",), tsa_host_key=KEY)
GPU = replace(WISH, containerd_config=layout.gpu_containerd)
tree = layout.trees / "8.3.0"
def apply(wish):
    return [worker.ensure_files(layout, wish, tree), worker.ensure_running(layout)]
"""
HOSTILE = ['quo"te', "single'", "back\\slash\\", "$HOME ${PATH} `id` $(id)", "# x", " x ", "%h\t✓"]


def inside(machine: Machine, code: str) -> object:
    """Run code inside the machine and return what it puts into `answer`."""
    text = HEADER.format(lib=str(REPOSITORY / "lib")) + textwrap.dedent(code)
    text += "\nprint(json.dumps(answer))\n"
    done = machine.run([sys.executable, "-"], stdin=text, timeout=90)
    return json.loads(done.stdout.splitlines()[-1])


def seen(machine: Machine) -> dict[str, object]:
    found = inside(machine, "answer = asdict(worker.observe(layout))")
    assert isinstance(found, dict)
    return found


def until(machine: Machine, ready: Callable[[dict[str, object]], bool]) -> dict[str, object]:
    deadline = time.monotonic() + 40
    while not ready(state := seen(machine)):
        assert time.monotonic() < deadline, (state, journal(machine))
        time.sleep(0.2)
    return state


def journal(machine: Machine) -> str:
    argv = ["journalctl", "-u", "concourse-worker", "-n", "40", "--no-pager"]
    return machine.run(argv, timeout=20, check=False).stdout


def shell(machine: Machine, script: str, *, check: bool = True) -> str:
    return machine.run(
        ["sh", "-ec", script],
        timeout=60,
        env={"PATH": f"{os.environ['PATH']}:/opt/concourse/bin"},
        check=check,
    ).stdout.strip()


READY = {
    "unit": "active",
    "up_to_date": True,
    "healthy": True,
    "registered": True,
    "socket_taken": "",
    "result": "",
}


@pytest.fixture(scope="module")
def machine() -> Iterator[Machine]:
    binds = (REPOSITORY, Path(sys.prefix), Path(sys.base_prefix))
    with Machine.boot(MachineOptions(binds=binds)) as booted:
        tree = "/opt/concourse-releases/8.3.0/bin"
        shell(booted, f"mkdir -p {tree}")
        source = Path(__file__).with_name("concourse_standin.py").read_text()
        booted.run(["tee", f"{tree}/concourse"], stdin=source, timeout=10)
        shell(
            booted,
            f"chmod 755 {tree}/concourse; cp /run/outside/runtime/* {tree}/\n"
            "ln -s concourse-releases/8.3.0 /opt/concourse\n"
            "systemd-run -q --unit=gateway python3 -c 'import socket,time\n"
            's=socket.create_server(("127.0.0.1",2222)); k=[]\n'
            "while 1: k.append(s.accept())'",
        )
        yield booted


@pytest.fixture
def fresh(machine: Machine) -> Machine:
    """The machine with the worker running, whatever an earlier test did."""
    shell(
        machine,
        "rm -f /run/build /run/broken /run/refused /run/landed /run/retired /run/terminated",
    )
    inside(machine, "answer = apply(WISH)")
    until(machine, lambda state: state == READY)
    return machine


def test_systemd_finds_nothing_to_say_about_the_unit(fresh: Machine) -> None:
    argv = ["systemd-analyze", "verify", "concourse-worker.service"]
    done = fresh.run(argv, timeout=60)
    assert "concourse-worker" not in done.stdout + done.stderr


def test_second_hook_changes_nothing(fresh: Machine) -> None:
    before = shell(
        fresh, "systemctl show -p MainPID concourse-worker; stat -c %Y%i /etc/concourse/*"
    )
    assert inside(fresh, "answer = apply(WISH)") == [False, False]
    after = shell(
        fresh, "systemctl show -p MainPID concourse-worker; stat -c %Y%i /etc/concourse/*"
    )
    assert after == before
    assert shell(fresh, "systemctl is-enabled concourse-worker") == "enabled"


def test_hostile_values_reach_a_process_through_systemd(machine: Machine) -> None:
    code = f"""
    values = {HOSTILE!r}
    text = "".join(f"V{{i}}={{quoted(v)}}\\n" for i, v in enumerate(values))
    Path("/run/hostile.env").write_text(text)
    answer = text
    """
    inside(machine, code)
    argv = ["systemd-run", "-q", "--wait", "--pipe", "-p", "EnvironmentFile=/run/hostile.env"]
    code = "import json, os; print(json.dumps(dict(os.environ)))"
    done = machine.run([*argv, "/usr/bin/python3", "-c", code], timeout=30)
    found = json.loads(done.stdout)
    assert [found[f"V{index}"] for index in range(len(HOSTILE))] == HOSTILE


def test_restart_lets_builds_finish_and_holds_no_hook(fresh: Machine) -> None:
    shell(fresh, "touch /run/build")
    pid = shell(fresh, "systemctl show -P MainPID concourse-worker")
    started = time.monotonic()
    assert inside(fresh, "answer = apply(replace(WISH, tags=('gpu',)))") == [True, True]
    assert time.monotonic() - started < 5
    until(fresh, lambda state: state["unit"] == "deactivating")
    for _ in range(2):  # hooks that come meanwhile ask for nothing more
        assert inside(fresh, "answer = apply(replace(WISH, tags=('gpu',)))") == [False, False]
    assert shell(fresh, "systemctl show -P MainPID concourse-worker") == pid
    shell(fresh, "rm /run/build")
    until(fresh, lambda state: state == READY)
    assert shell(fresh, "cat /run/landed; systemctl show -P NRestarts concourse-worker") == "0"
    assert '"CONCOURSE_TAG": "gpu"' in shell(fresh, "cat /run/worker-environ")


def test_worker_on_its_way_down_for_good_comes_up_again(fresh: Machine) -> None:
    shell(fresh, "touch /run/build; systemctl stop --no-block concourse-worker")
    until(fresh, lambda state: state["unit"] == "deactivating")
    assert inside(fresh, "answer = apply(WISH)") == [False, True]
    assert inside(fresh, "answer = apply(WISH)") == [False, False]
    shell(fresh, "rm /run/build")
    until(fresh, lambda state: state == READY)


def test_worker_that_keeps_failing_is_failed_until_it_is_not(fresh: Machine) -> None:
    shell(fresh, "touch /run/broken; systemctl kill -s KILL --kill-who=main concourse-worker")
    state = until(fresh, lambda state: state["unit"] == "failed")
    assert state["result"] in ("signal", "exit-code")
    shell(fresh, "systemctl restart concourse-worker || :")
    state = until(fresh, lambda state: state["result"] == "exit-code")
    assert inside(fresh, "answer = apply(WISH)") in ([False, False], [False, True])
    shell(fresh, "rm /run/broken")
    until(fresh, lambda state: state == READY)  # systemd's own next try


def test_landing_is_left_out_when_the_machine_goes_down(fresh: Machine) -> None:
    shell(
        fresh,
        "touch /run/build; mkdir -p /run/fake\n"
        "printf '#!/bin/sh\\necho stopping\\n' > /run/fake/systemctl\n"
        "chmod +x /run/fake/systemctl; mkdir -p /run/systemd/system/concourse-worker.service.d\n"
        "printf '[Service]\\nEnvironment=PATH=/run/fake:/usr/bin:/bin\\n' "
        "> /run/systemd/system/concourse-worker.service.d/fake.conf; systemctl daemon-reload",
    )
    try:
        started = time.monotonic()
        shell(fresh, "systemctl stop concourse-worker")
        assert time.monotonic() - started < 10
        assert shell(fresh, "ls /run/terminated /run/landed 2>/dev/null || :") == "/run/terminated"
    finally:
        shell(
            fresh, "rm -r /run/systemd/system/concourse-worker.service.d; systemctl daemon-reload"
        )


def test_retiring_worker_leaves_and_stays_away(fresh: Machine) -> None:
    shell(fresh, "touch /run/build")
    inside(fresh, "answer = worker.stop(layout, retire=True, timeout=20)")
    assert shell(fresh, "ls /run/retired /run/landed /run/terminated 2>/dev/null || :") == (
        "/run/retired"
    )
    assert seen(fresh)["unit"] == "inactive"
    assert shell(fresh, "systemctl is-enabled concourse-worker || :") == "disabled"


def test_retiring_in_the_middle_of_a_restart_ends_it(fresh: Machine) -> None:
    shell(fresh, "touch /run/build; systemctl restart --no-block concourse-worker")
    until(fresh, lambda state: state["unit"] == "deactivating")
    inside(fresh, "answer = worker.stop(layout, retire=True, timeout=20)")
    time.sleep(1)
    assert shell(fresh, "ls /run/retired") == "/run/retired"
    assert seen(fresh)["unit"] == "inactive"


def test_refused_worker_that_ends_with_an_error_is_not_started_again(fresh: Machine) -> None:
    shell(fresh, "touch /run/refused")
    started = time.monotonic()
    inside(fresh, "answer = worker.stop(layout, retire=True, timeout=2)")
    assert time.monotonic() - started < 10
    assert shell(fresh, "ls /run/retired /run/terminated 2>/dev/null || :") == "/run/terminated"
    time.sleep(11)  # the unit's RestartSec
    assert seen(fresh)["unit"] == "inactive"


def test_another_containerd_on_the_socket_is_named(fresh: Machine) -> None:
    shell(
        fresh,
        "systemctl stop concourse-worker; mkdir -p /run/containerd\n"
        "systemd-run -q --unit=k3s /opt/concourse/bin/containerd "
        "--address /run/containerd/containerd.sock --root /run/k3s-root",
    )
    try:
        await_containerd(fresh)
        assert seen(fresh)["socket_taken"] == "k3s"
    finally:
        shell(fresh, "systemctl stop k3s")
    assert seen(fresh)["socket_taken"] == ""


def test_containerd_takes_the_gpu_configuration(fresh: Machine) -> None:
    shell(fresh, "mkdir -p /opt/containerd/bin; ln -sf /bin/false /opt/containerd/bin/runc")
    inside(fresh, "answer = apply(GPU)")
    until(fresh, lambda state: state == READY)
    containerd = (
        "/opt/concourse/bin/containerd --config /etc/concourse/gpu/containerd.toml config dump"
    )
    assert '"/opt/concourse"' in shell(fresh, f"{containerd} | grep -A1 internal.v1.opt")
    await_containerd(fresh)
    assert "cri" not in shell(fresh, "ctr plugins ls | grep ' ok' | grep -w cri || :")
    start_container(fresh)
    environ = "/proc/$(pgrep -x containerd-shim)/environ"  # a name's first 15 characters
    path = shell(fresh, f"tr '\\0' '\\n' < {environ} | grep ^PATH=")
    assert path.startswith("PATH=/opt/concourse/bin:")  # before /opt/containerd's broken runc
    assert shell(fresh, "ctr -n concourse task ls -q") == "one"


def await_containerd(machine: Machine) -> None:
    shell(machine, "timeout 30 sh -c 'until ctr version; do sleep 0.3; done' >/dev/null 2>&1")


def start_container(machine: Machine) -> None:
    shell(
        machine,
        "mkdir -p /run/rootfs/proc /run/rootfs/lib64 /run/rootfs/lib/x86_64-linux-gnu\n"
        "cp /bin/sleep /run/rootfs/sleep\n"
        "for f in $(ldd /bin/sleep | grep -o '/[^ ]*'); do\n"
        '  mkdir -p "/run/rootfs$(dirname $f)"; cp -L $f /run/rootfs$f\n'
        "done\n"
        "ctr -n concourse run -d --rootfs /run/rootfs one /sleep 1000",
    )


def test_container_outlives_a_restart_and_is_gone_after_removal(fresh: Machine) -> None:
    inside(fresh, "answer = apply(GPU)")
    until(fresh, lambda state: state == READY)
    await_containerd(fresh)
    if not shell(fresh, "ctr -n concourse task ls -q"):
        start_container(fresh)
    sleeper = shell(fresh, "pgrep -f '^/sleep 1000'")
    shell(fresh, "systemctl restart concourse-worker")
    until(fresh, lambda state: state == READY)
    assert shell(fresh, "pgrep -f '^/sleep 1000'") == sleeper
    shell(
        fresh,
        "mkdir -p /srv/precious /var/lib/concourse/worker/volumes/a/b\n"
        "echo x > /srv/precious/file\n"
        "mount --bind /srv/precious /var/lib/concourse/worker/volumes/a/b\n"
        "mount -t tmpfs none /var/lib/concourse/worker/volumes/a/b",
    )
    started = time.monotonic()
    inside(fresh, "worker.remove(layout); answer = 0")
    assert time.monotonic() - started < 40
    assert shell(fresh, "pgrep -f '^/sleep 1000' || pgrep -x containerd-shim || :") == ""
    assert shell(fresh, "grep -c concourse /proc/self/mountinfo || :") == "0"
    assert shell(fresh, "cat /srv/precious/file") == "x"
    left = "ls -d /opt/concourse* /etc/concourse /var/lib/concourse /run/containerd/runc/concourse"
    assert shell(fresh, f"{left} /etc/systemd/system/*/concourse* 2>/dev/null || :") == ""
    assert seen(fresh)["unit"] == "absent"
