"""Stand-in for the GPU: device nodes, what /proc and /sys tell of it, and where it is.

Nothing in the machine's disk changes: nodes lie in its /dev, the rest in small
mounts of its own, and the kind of machine is told by what systemd-detect-virt reads.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from rehearsal.machine import Machine

DRIVER = "580.95.05"
OLDER_DRIVER = "580.82.07"
STATE = "/run/stand-in-gpu.json"
_PLACES = {"metal": "none", "lxd": "lxc"}  # what systemd-detect-virt --container says


@dataclass(frozen=True)
class Gpu:
    """One GPU as the stand-ins know it."""

    index: int
    uuid: str
    name: str = "NVIDIA L4 (stand-in)"
    pci: str = ""
    lost: bool = False


@dataclass(frozen=True)
class Hardware:
    """What a machine has.

    Attributes:
        count: how many GPUs sit on its bus.
        driver: the loaded kernel module's version; "" for none.
        passed: whether the device nodes are there (LXD: passed through).
        place: "metal" or "lxd".
        trouble: of nvidia-smi: "hang", "fail", or "".
        lost: the indices of GPUs that fell off the bus.
    """

    count: int = 1
    driver: str = DRIVER
    passed: bool = True
    place: str = "metal"
    trouble: str = ""
    lost: tuple[int, ...] = ()

    def gpus(self) -> tuple[Gpu, ...]:
        """Return the GPUs, with UUIDs that are the same in every run."""
        return tuple(
            Gpu(
                index=index,
                uuid=f"GPU-5a4d1e00-c0de-4000-8000-{index:012x}",
                pci=f"00000000:{0x2B + index:02X}:00.0",
                lost=index in self.lost,
            )
            for index in range(self.count)
        )

    def without_gpus(self) -> Hardware:
        """Return the same machine with empty slots and no driver."""
        return replace(self, count=0, driver="", passed=False)


def plug(machine: Machine, hardware: Hardware) -> None:
    """Make a booted machine have exactly this hardware, whatever it had before."""
    _prepare(machine)
    _place(machine, hardware.place)
    _nodes(machine, hardware)
    _proc_and_sys(machine, hardware)
    facts = {
        "driver": hardware.driver,
        "trouble": hardware.trouble,
        "gpus": [asdict(gpu) for gpu in hardware.gpus()],
    }
    machine.write(STATE, json.dumps(facts, indent=1))


def _prepare(machine: Machine) -> None:
    """Cover, once, the folders of /proc and /sys that would show this machine's own hardware."""
    machine.shell(
        "mountpoint -q /proc/driver && exit 0\n"
        "mount -t tmpfs -o mode=755 stand-in /proc/driver\n"
        "mount -o remount,rw /sys\n"
        "mkdir -p /sys/module\n"
        "mount -t tmpfs -o mode=755 stand-in /sys/module\n"
        "mount -t tmpfs -o mode=755 stand-in /sys/bus/pci/devices\n"
        "mount -o remount,ro /sys\n"
        "mkdir -p /run/stand-in\n"
        "touch /run/stand-in/detect-virt\n"
        "chmod 755 /run/stand-in/detect-virt\n"
        "mount --bind /run/stand-in/detect-virt /usr/bin/systemd-detect-virt\n"
    )


def _place(machine: Machine, place: str) -> None:
    """Say what kind of machine this is, in the words of systemd-detect-virt.

    The real one finds nspawn by half a dozen marks that can't all be hidden.
    """
    container = _PLACES[place]
    machine.write(
        "/run/stand-in/detect-virt",
        "#!/bin/sh\n# Stand-in of the rehearsal: the kind of machine is the rehearsal's choice.\n"
        f"[ '{container}' = none ] || [ \"$1\" = --vm ] || {{ echo {container}; exit 0; }}\n"
        "echo none\nexit 1\n",
        mode=0o755,
    )
    socket = "import socket; socket.socket(socket.AF_UNIX).bind('/dev/lxd/sock')"
    machine.shell(
        "rm -rf /dev/lxd\n"
        + (f'mkdir /dev/lxd; /usr/bin/python3 -c "{socket}"\n' if place == "lxd" else "")
    )


def _nodes(machine: Machine, hardware: Hardware) -> None:
    """Make the device nodes; opening one fails with ENXIO, which is all that is missing."""
    wanted = []
    if hardware.passed and hardware.driver:
        wanted = [(f"nvidia{gpu.index}", 195, gpu.index) for gpu in hardware.gpus()]
        wanted += [("nvidiactl", 195, 255), ("nvidia-uvm", 511, 0), ("nvidia-uvm-tools", 511, 1)]
    lines = ["rm -f /dev/nvidia*"]
    lines += [f"mknod -m 666 /dev/{name} c {major} {minor}" for name, major, minor in wanted]
    machine.shell("\n".join(lines))


def _proc_and_sys(machine: Machine, hardware: Hardware) -> None:
    version = (
        "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  "
        f"{hardware.driver}  Release Build  (stand-in)  Tue Sep 23 09:55:41 UTC 2025\n"
        "GCC version:  gcc version 12.2.0\n"
    )
    files = {}
    if hardware.driver:
        files["proc/driver/nvidia/version"] = version
        files["sys/module/nvidia/version"] = f"{hardware.driver}\n"
    for gpu in hardware.gpus():
        device = f"sys/bus/pci/devices/{gpu.pci[4:].lower()}"
        files[f"{device}/vendor"] = "0x10de\n"
        files[f"{device}/device"] = "0x27b8\n"
        files[f"{device}/class"] = "0x030200\n"
    machine.shell("rm -rf /proc/driver/nvidia /sys/module/nvidia /sys/bus/pci/devices/*")
    for name, text in files.items():
        machine.write(f"/{name}", text)


def stand_in(name: str) -> Path:
    """Return the file of a stand-in program."""
    return Path(__file__).with_name(f"{name}.py")
