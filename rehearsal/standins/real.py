"""What takes a stand-in's place, or is there before the charm comes."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

from rehearsal.machine import Machine, MachineError
from rehearsal.world import World

from . import packages
from .gpu import Hardware

# The toolkit asks NVML which GPUs there are, and there is no NVML; in this mode it takes
# a description of them from a file.
_CONFIG = '[nvidia-container-runtime]\nmode = "cdi"\nruntimes = ["runc", "crun"]\n'


def offer_toolkit(world: World, folder: Path, hardware: Hardware) -> str:
    """Offer NVIDIA's own packages, all those in a folder, in the stand-ins' place.

    Returns:
        The toolkit's version in it.

    Raises:
        MachineError: it isn't among them.
    """
    machine = world.machine
    arch = machine.shell("dpkg --print-architecture").strip()
    place = f"{packages.TOOLKIT}/{arch}"
    target = world.folder / place
    shutil.rmtree(target)
    target.mkdir()
    for archive in folder.glob("*.deb"):
        shutil.copy2(archive, target)
    packages.publish(machine, place)
    index = (target / "Packages").read_text()
    found = re.findall(r"^Package: nvidia-container-toolkit$(?:\n.+)*?\nVersion: (.+)", index, re.M)
    if not found:
        raise MachineError(f"{folder} holds no package nvidia-container-toolkit.")
    machine.write("/etc/nvidia-container-runtime/config.toml", _CONFIG)
    machine.write("/etc/cdi/nvidia.json", json.dumps(description(hardware), indent=1))
    version: str = found[-1]
    return version


def description(hardware: Hardware) -> dict[str, object]:
    """Return a CDI specification of a machine's GPUs, by index, by UUID and as "all"."""
    nodes = {gpu.uuid: f"/dev/nvidia{gpu.index}" for gpu in hardware.gpus()}
    devices = [(str(gpu.index), [nodes[gpu.uuid]]) for gpu in hardware.gpus()]
    devices += [(uuid, [node]) for uuid, node in nodes.items()] + [("all", list(nodes.values()))]
    common = ("/dev/nvidiactl", "/dev/nvidia-uvm", "/dev/nvidia-uvm-tools")
    return {
        "cdiVersion": "0.5.0",
        "kind": "nvidia.com/gpu",
        "devices": [
            {"name": name, "containerEdits": {"deviceNodes": [{"path": one} for one in paths]}}
            for name, paths in devices
        ],
        "containerEdits": {"deviceNodes": [{"path": path} for path in common]},
    }


def prepare_release(machine: Machine) -> None:
    """Install what a real worker needs of a machine: iptables, for containers' networks."""
    script = "command -v iptables || { apt-get update -qq; apt-get install -qq -y iptables; }"
    machine.shell(f"export DEBIAN_FRONTEND=noninteractive\n{script}", timeout=180)


def connect(machine: Machine) -> None:
    """Give a machine an address and a way out: a real worker asks which address leads out.

    Nothing answers there.
    """
    machine.shell(
        "ip link add eth0 type veth peer name uplink\n"
        "ip address add 10.20.30.2/24 dev eth0\n"
        "ip link set uplink up\n"
        "ip link set eth0 up\n"
        "ip route add default via 10.20.30.1"
    )


def install_libraries(machine: Machine, version: str) -> None:
    """Install the driver's libraries in a version of their own, as an upgrade leaves them."""
    machine.shell("apt-get update -qq", timeout=120)
    names = ("nvidia-utils-580", "libnvidia-compute-580")
    chosen = " ".join(f"{name}={version}-0ubuntu0.24.04.1" for name in names)
    machine.shell(f"DEBIAN_FRONTEND=noninteractive apt-get install -qq -y {chosen}", timeout=120)
