"""What takes a stand-in's place, or is there before the charm comes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from rehearsal.machine import Machine
from rehearsal.world import World

from . import packages
from .gpu import Hardware

# The toolkit asks NVML which GPUs there are, and there is no NVML; in this mode it takes
# a description of them from a file.
_CONFIG = '[nvidia-container-runtime]\nmode = "cdi"\nruntimes = ["runc", "crun"]\n'


def offer_toolkit(world: World, folder: Path, hardware: Hardware) -> None:
    """Offer NVIDIA's own packages, all those in a folder, in the stand-ins' place."""
    machine = world.machine
    arch = machine.shell("dpkg --print-architecture").strip()
    place = f"{packages.TOOLKIT}/{arch}"
    target = world.folder / place
    shutil.rmtree(target)
    target.mkdir()
    for archive in folder.glob("*.deb"):
        shutil.copy2(archive, target)
    packages.publish(machine, place)
    machine.write("/etc/nvidia-container-runtime/config.toml", _CONFIG)
    machine.write("/etc/cdi/nvidia.json", json.dumps(description(hardware), indent=1))


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


def install_libraries(machine: Machine, version: str) -> None:
    """Install the driver's libraries in a version of their own, as an upgrade leaves them."""
    machine.shell("apt-get update -qq", timeout=120)
    names = ("nvidia-utils-580", "libnvidia-compute-580")
    chosen = " ".join(f"{name}={version}-0ubuntu0.24.04.1" for name in names)
    machine.shell(f"DEBIAN_FRONTEND=noninteractive apt-get install -qq -y {chosen}", timeout=120)
