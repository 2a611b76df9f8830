"""The wrapper between a real containerd and a real runc, as a Concourse worker has them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence

import pytest

from rehearsal import containers
from rehearsal.containers import RefusedError
from rehearsal.machine import Machine
from rehearsal.standins import gpu, packages
from tests.functional.conftest import SOURCE

HARDWARE = gpu.Hardware(count=2)
FIRST, SECOND = (each.uuid for each in HARDWARE.gpus())
COMMON = ("nvidia-uvm", "nvidia-uvm-tools", "nvidiactl")
BIN = "/opt/concourse/bin"
SET_UP = """
import platform
from pathlib import Path
from files import ensure_symlink, write_file
from gpu.wrapper import DeviceTable, ensure_devices, ensure_wrapper
from host import Layout
layout, tree = Layout(), Path("/opt/concourse-releases/8.3.0")
(tree / "bin/runc").rename(tree / "bin/runc.real")
ensure_wrapper(layout, tree)
ensure_symlink(tree / "bin/runc", "runc-gpu-wrapper")
ensure_symlink(layout.concourse, tree)
ensure_symlink(layout.wrapper, layout.runc)
ensure_symlink(layout.nvidia_runtime, layout.wrapper)
config = f'[nvidia-container-runtime]\\nruntimes = ["{{layout.runc_real}}"]\\n'
write_file(layout.chain_config, config)
write_file(layout.nvidia_config, config)
library = f"/usr/lib/{{platform.machine()}}-linux-gnu/libnvidia-ml.so.{driver}"
write_file(layout.at(library), "")
uuids = {uuids!r}
spellings = tuple((str(i), uuid) for i, uuid in enumerate(uuids))
spellings += tuple((uuid, uuid) for uuid in uuids)
default = "all" if {sharing!r} == "shared" else "1"
table = DeviceTable(uuids, spellings, "all", {sharing!r}, default, {timeout})
ensure_devices(layout, table)
"""


@pytest.fixture(scope="module")
def worker(machine: Machine) -> Iterator[Machine]:
    put_wrapper_up(machine)
    yield machine
    take_wrapper_down(machine)


def put_wrapper_up(
    machine: Machine, *, count: int = 2, sharing: str = "shared", timeout: int = 0
) -> None:
    """Make a tree with the wrapper in front of runc, and start its containerd."""
    hardware = gpu.Hardware(count=count)
    gpu.plug(machine, hardware)
    machine.shell("mkdir -p /opt/concourse-releases/8.3.0")
    machine.shell("cp -r /run/outside/runtime /opt/concourse-releases/8.3.0/bin")
    runtime = packages.stand_in("nvidia_container_runtime").read_text()
    real = "/usr/bin/nvidia-container-runtime.real"
    machine.write(real, runtime.replace("@VERSION@", "1.20.0"), mode=0o755)
    uuids = tuple(each.uuid for each in hardware.gpus())
    script = SET_UP.format(driver=hardware.driver, uuids=uuids, sharing=sharing, timeout=timeout)
    machine.python(script, timeout=30, path=[SOURCE / "lib"])
    pinned = 'version = 2\n[plugins."io.containerd.internal.v1.opt"]\npath = "/opt/concourse"\n'
    machine.write("/run/containerd.toml", pinned)
    path = f"PATH={BIN}:/usr/sbin:/usr/bin:/sbin:/bin"
    argv = [f"{BIN}/containerd", f"--address={containers.SOCKET}", "--config=/run/containerd.toml"]
    unit = ["systemd-run", "-q", "--unit=wrapped", "-p", "Delegate=yes", "-p", "KillMode=process"]
    machine.run([*unit, "-E", path, *argv], timeout=20)
    machine.shell(
        f"for i in $(seq 100); do {BIN}/ctr --address {containers.SOCKET} version && exit 0\n"
        "sleep 0.1; done; exit 1"
    )


def take_wrapper_down(machine: Machine) -> None:
    machine.shell("systemctl stop wrapped")


@pytest.mark.parametrize(
    ("env", "nodes"),
    [
        pytest.param({}, ("nvidia0", "nvidia1"), id="nothing asked"),
        pytest.param({"NVIDIA_VISIBLE_DEVICES": "all"}, ("nvidia0", "nvidia1"), id="all"),
        pytest.param({"NVIDIA_VISIBLE_DEVICES": "1"}, ("nvidia1",), id="an index"),
        pytest.param({"NVIDIA_VISIBLE_DEVICES": SECOND}, ("nvidia1",), id="a UUID"),
        pytest.param({"NVIDIA_VISIBLE_DEVICES": f"0,0,{FIRST}"}, ("nvidia0",), id="duplicates"),
        pytest.param(
            {"NVIDIA_VISIBLE_DEVICES": "0", "NVIDIA_GDS": "enabled"}, ("nvidia0",), id="side door"
        ),
    ],
)
def test_a_task_sees_the_devices_that_it_asked_for(
    worker: Machine, env: dict[str, str], nodes: Sequence[str]
) -> None:
    with containers.running(worker, "a-task", task=True, env=env):
        assert containers.devices(worker, "a-task") == tuple(sorted((*nodes, *COMMON)))


@pytest.mark.parametrize(
    ("task", "env"),
    [(True, "none"), (True, "void"), (True, ""), (False, "all"), (False, "0"), (False, "7")],
)
def test_who_wants_none_and_who_is_no_task_sees_none(worker: Machine, task: bool, env: str) -> None:
    with containers.running(worker, "cpu", task=task, env={"NVIDIA_VISIBLE_DEVICES": env}):
        assert containers.devices(worker, "cpu") == ()


def test_a_refusal_is_what_the_build_shows(worker: Machine) -> None:
    wanted = {"NVIDIA_VISIBLE_DEVICES": 'GPU-"7"'}
    with (
        pytest.raises(RefusedError) as refusal,
        containers.running(worker, "refused", task=True, env=wanted),
    ):
        pass
    assert str(refusal.value).endswith(
        'OCI runtime create failed: GPU "GPU-?7?" is not available on this worker '
        f"(available: 0, 1, {FIRST}, {SECOND}): unknown"
    )


def test_a_driver_that_went_away_stops_nobody_else(worker: Machine) -> None:
    worker.shell("mv /dev/nvidiactl /dev/gone")
    try:
        with containers.running(worker, "still", task=True):
            assert containers.devices(worker, "still") == ()
        with (
            pytest.raises(RefusedError, match="no usable GPU: /dev/nvidiactl is missing: unknown"),
            containers.running(worker, "no", task=True, env={"NVIDIA_VISIBLE_DEVICES": "all"}),
        ):
            pass
    finally:
        worker.shell("mv /dev/gone /dev/nvidiactl")


def test_dockers_containers_get_their_gpu_as_before(worker: Machine) -> None:
    """Docker calls nvidia-container-runtime by that name, and knows nothing of tasks."""
    worker.shell(
        "mkdir -p /run/docker-shaped/rootfs/usr /run/docker-shaped/rootfs/dev && cd "
        "/run/docker-shaped && ln -s usr/bin usr/lib usr/lib64 usr/sbin rootfs/ "
        f"&& {BIN}/runc.real spec"
    )
    spec = json.loads(worker.read("/run/docker-shaped/config.json"))
    script = "ls /dev | grep nvidia"
    spec["process"] |= {"terminal": False, "args": ["/bin/sh", "-c", script]}
    spec["process"]["env"] += ["NVIDIA_VISIBLE_DEVICES=1"]
    usr = {"destination": "/usr", "type": "bind", "source": "/usr", "options": ["rbind", "ro"]}
    spec["mounts"].append(usr)
    spec["linux"]["cgroupsPath"] = "/docker/moby"
    worker.write("/run/docker-shaped/config.json", json.dumps(spec))
    seen = worker.shell(
        "cd /run/docker-shaped; R='nvidia-container-runtime --root /run/docker-shaped/state'\n"
        "$R create --bundle . --pid-file pid moby >seen 2>&1 </dev/null; $R start moby\n"
        "for i in $(seq 50); do $R state moby | grep -q stopped && break; sleep 0.1; done\n"
        "$R delete --force moby; cat seen"
    )
    assert sorted(seen.split()) == sorted(("nvidia1", *COMMON))


def test_the_health_probe_reaches_runc_by_every_name(worker: Machine) -> None:
    for name in (f"{BIN}/runc", "/usr/bin/nvidia-container-runtime", "runc-gpu-wrapper"):
        env = {"PATH": "/usr/local/bin:/usr/bin:/bin"}
        done = worker.run([name, "--version"], timeout=5, env=env)
        assert "runc version" in done.stdout
        assert done.stderr == ""
