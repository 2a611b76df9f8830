"""The runtimes that are measured, side by side in one machine."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rehearsal.machine import Machine, MachineError
from rehearsal.standins import gpu
from rehearsal.standins.real import description

from . import spec

SOURCE = Path(__file__).resolve().parent.parent
RUNC = "/opt/concourse/bin/runc.real"
CHARM = "/opt/concourse/bin/runc"
NVIDIA = "/usr/bin/nvidia-container-runtime.real"
MISSION = "/run/bench/mission-wrapper"
MODES = ("shared", "balanced", "exclusive")
# The charm's own functions put its wrapper and its tables in place.
_SET_UP = """
import platform, sys
from pathlib import Path
from files import ensure_symlink, write_file
from gpu.wrapper import ensure_wrapper
from host import Layout
layout, tree = Layout(), Path("/opt/concourse-releases/8.3.0")
(tree / "bin/runc").rename(tree / "bin/runc.real")
ensure_wrapper(layout, tree)
ensure_symlink(tree / "bin/runc", "runc-gpu-wrapper")
ensure_symlink(layout.concourse, tree)
config = f'[nvidia-container-runtime]\\nmode = "{mode}"\\nruntimes = ["{{layout.runc_real}}"]\\n'
write_file(layout.chain_config, config)
write_file(layout.nvidia_config, config)
library = f"/usr/lib/{{platform.machine()}}-linux-gnu/libnvidia-ml.so.{driver}"
write_file(layout.at(library), "a stand-in\\n")
"""
_TABLE = """
import shutil
from gpu.wrapper import DeviceTable, ensure_devices
from host import Layout
uuids = {uuids!r}
spellings = tuple((str(index), uuid) for index, uuid in enumerate(uuids))
spellings += tuple((uuid, uuid) for uuid in uuids)
layout = Layout()
for mode in {modes!r}:
    default = "all" if mode == "shared" else "1"
    ensure_devices(layout, DeviceTable(uuids, spellings, "all", mode, default, 60))
    shutil.move(layout.gpu_devices, f"/run/bench/devices.{{mode}}")
"""
_GET_JQ = """
export DEBIAN_FRONTEND=noninteractive
command -v jq >/dev/null && exit 0
apt-get -qq -y install jq >/dev/null && exit 0
apt-get -qq update
apt-get -qq -y install jq >/dev/null
"""
# The stand-in is Python, whose start would be charged to the peers at every call.  NVIDIA's own
# takes a few milliseconds to pass a call on; this front takes less.
_FRONT = f"""#!/bin/sh
# Stand-in for nvidia-container-runtime: passes all but create on to runc.
for word; do
    case $word in create | --version) exec {NVIDIA}.stand-in "$@" ;; esac
done
exec {RUNC} "$@"
"""


@dataclass(frozen=True)
class Runtimes:
    """A machine with every runtime in place.

    Attributes:
        nvidia: what nvidia-container-runtime is here, in words.
        seccomp: containerd's own default profile.
    """

    machine: Machine
    nvidia: str
    seccomp: dict[str, Any]

    @classmethod
    def install(cls, machine: Machine, toolkit: Path | None = None) -> Runtimes:
        """Put them into a machine.

        Args:
            machine: a booted one.
            toolkit: a folder with NVIDIA's own nvidia-container-runtime, as such or in its
                packages; None for the stand-in.

        Raises:
            MachineError: there is none in the folder, or the machine can't be prepared.
        """
        tree = "/opt/concourse-releases/8.3.0"
        machine.shell(f"mkdir -p {tree}\ncp -r /run/outside/runtime {tree}/bin")
        seccomp = _default_profile(machine)
        if toolkit:
            machine.write(NVIDIA, _nvidia_program(toolkit), mode=0o755)
        else:
            machine.write(NVIDIA, _FRONT, mode=0o755)
            machine.write(f"{NVIDIA}.stand-in", _stand_in(), mode=0o755)
        script = _SET_UP.format(driver=gpu.DRIVER, mode="cdi" if toolkit else "auto")
        machine.python(script, timeout=30, path=[SOURCE / "lib"])
        mission = Path(__file__).with_name("mission-wrapper.sh").read_text()
        machine.write(MISSION, mission, mode=0o755)
        machine.shell(_GET_JQ, timeout=180)
        _write_root(machine)
        said = machine.run([NVIDIA, "--version"], timeout=10).stdout.splitlines()[0]
        return cls(machine, said, seccomp)

    def plug(self, count: int) -> None:
        """Have as many GPUs as containers live at once, each with its row in the tables."""
        hardware = gpu.Hardware(count=count)
        gpu.plug(self.machine, hardware)
        self.machine.write("/etc/cdi/nvidia.json", json.dumps(description(hardware)))
        uuids = tuple(each.uuid for each in hardware.gpus())
        script = _TABLE.format(uuids=uuids, modes=MODES)
        self.machine.python(script, timeout=30, path=[SOURCE / "lib"])

    def case(
        self, name: str, program: str, kind: str, mode: str = "", **more: Any
    ) -> dict[str, Any]:
        """Return a case for `lives`: a container of a kind under a runtime.

        A task asks for one GPU in every mode, so that all modes give it the same.
        """
        asks = ("NVIDIA_VISIBLE_DEVICES=0",) if kind == "task" else ()
        if mode not in ("", "shared"):
            asks = ("CONCOURSE_GPU_COUNT=1",)
        built = spec.build(kind, self.seccomp, asks)
        text = json.dumps(built, separators=(",", ":"))
        table = f"/run/bench/devices.{mode}" if mode else ""
        return {"name": name, "program": program, "spec": text, "table": table, **more}

    def measure(
        self, cases: Sequence[dict[str, Any]], *, rounds: int, at_once: int = 1
    ) -> dict[str, list[dict[str, float]]]:
        """Let the cases live; return each one's rounds."""
        plan = {"cases": list(cases), "rounds": rounds, "at_once": at_once, "seed": at_once}
        argv = [sys.executable, str(Path(__file__).with_name("lives.py"))]
        env = {"PYTHONDONTWRITEBYTECODE": "1"}
        done = self.machine.run(argv, timeout=300, env=env, stdin=json.dumps(plan), check=False)
        if done.returncode != 0:
            raise MachineError(done.stderr.strip().splitlines()[-1])
        answer: dict[str, list[dict[str, float]]] = json.loads(done.stdout)
        return answer


def _stand_in() -> str:
    return gpu.stand_in("nvidia_container_runtime").read_text().replace("@VERSION@", "1.20.0")


def _nvidia_program(toolkit: Path) -> bytes:
    """Return NVIDIA's own program, out of a package if need be."""
    name = "nvidia-container-runtime"
    plain = toolkit / name
    if plain.is_file():
        return plain.read_bytes()
    for archive in sorted(toolkit.glob("*.deb")):
        files = subprocess.run(
            ["dpkg-deb", "--fsys-tarfile", str(archive)],
            capture_output=True,
            check=True,
            timeout=60,
        ).stdout
        found = subprocess.run(
            ["tar", "--extract", "--to-stdout", "--file=-", f"./usr/bin/{name}"],
            input=files, capture_output=True, check=False, timeout=60,
        )  # fmt: skip
        if found.returncode == 0:
            return found.stdout
    raise MachineError(f"{toolkit} holds no {name}, and no package with one.")


def _default_profile(machine: Machine) -> dict[str, Any]:
    """Have containerd's ctr make a container with its default profile, and read that."""
    bin_ = "/opt/concourse-releases/8.3.0/bin"
    ctr = f"{bin_}/ctr --address /run/bench/containerd.sock"
    state = "/run/bench/state"
    machine.shell(
        "mkdir -p /run/bench/empty\n"
        f"PATH={bin_}:$PATH {bin_}/containerd --address /run/bench/containerd.sock "
        f"--root /run/bench/lib --state {state} --config /dev/null >/dev/null 2>&1 &\n"
        f"for i in $(seq 100); do {ctr} version >/dev/null 2>&1 && break; sleep 0.1; done\n"
        f"{ctr} containers create --seccomp --rootfs /run/bench/empty probe /bin/true\n"
        f"{ctr} containers info --spec probe >/run/bench/spec.json\n"
        f"{ctr} containers delete probe\n"
        "kill $!; wait",
        timeout=60,
    )
    profile: dict[str, Any] = json.loads(machine.read("/run/bench/spec.json"))["linux"]["seccomp"]
    return profile


def _write_root(machine: Machine) -> None:
    places = " ".join(f".{place}" for places in spec.KINDS.values() for place in places)
    machine.shell(
        f"mkdir -p {spec.ROOT} /run/bench/volume/source /run/bench/volume/built\n"
        "echo >/run/bench/file\n"
        f"cd {spec.ROOT}\n"
        f"mkdir -p dev etc proc scratch sys tmp usr {places}\n"
        "touch tmp/gdn-init etc/hosts etc/resolv.conf etc/hostname\n"
        "for name in bin sbin lib lib64; do ln -s usr/$name $name; done\n"
        "chmod -R a+rX /run/bench"
    )


__all__ = ["CHARM", "MISSION", "MODES", "NVIDIA", "RUNC", "Runtimes"]
