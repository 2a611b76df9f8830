"""The one thing that is wrong with a machine's GPUs, and the sentence about it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from gpu.diagnosis import LONGEST, Finding, diagnose
from gpu.inventory import Place
from tests.unit.diagnoses import DOCKER, GOOD, LXD, NO_DRIVER, NO_NODES, VM
from tests.unit.diagnoses_with_driver import WITH_DRIVER
from tests.unit.gpu_roots import VERSION

TABLE = [
    # --- nothing here
    pytest.param(
        {**NO_DRIVER, "pci": ()},
        Finding.NO_GPU,
        "No NVIDIA GPU on this machine: use a machine that has one, or set enable-gpu=false",
        id="no GPU at all",
    ),
    pytest.param(
        {**NO_DRIVER, "pci": (), "place": LXD},
        Finding.NO_GPU,
        "No NVIDIA GPU on the LXD host: use a machine that has one, or set enable-gpu=false",
        id="LXD: no GPU on the host",
    ),
    pytest.param(
        {**NO_NODES, "pci": ()},
        Finding.NO_GPU,
        f"No NVIDIA GPU on this machine (driver {VERSION} is loaded): use a machine that has one, "
        "or set enable-gpu=false",
        id="a driver for no GPU",
    ),
    pytest.param(
        {**NO_DRIVER, "bound": (("0000:01:00.0", "vfio-pci"),)},
        Finding.GIVEN_AWAY,
        "NVIDIA GPU 0000:01:00.0 is reserved for a virtual machine (vfio-pci): bind it to the "
        "nvidia driver, or set enable-gpu=false",
        id="vfio-pci has the only GPU",
    ),
    # --- no driver
    pytest.param(
        NO_DRIVER,
        Finding.NO_DRIVER,
        "NVIDIA GPU found but no driver is loaded: sudo apt install nvidia-driver-580, then reboot",
        id="metal: no driver",
    ),
    pytest.param(
        {**NO_DRIVER, "place": VM},
        Finding.NO_DRIVER,
        "NVIDIA GPU found but no driver is loaded: sudo apt install nvidia-driver-580, then reboot",
        id="VM: no driver",
    ),
    pytest.param(
        {**NO_DRIVER, "open_only": True},
        Finding.NO_DRIVER,
        "NVIDIA GPU found but no driver is loaded: sudo apt install nvidia-driver-580-open, "
        "then reboot",
        id="metal: no driver, Blackwell",
    ),
    pytest.param(
        {**NO_DRIVER, "bound": (("0000:01:00.0", "nouveau"),)},
        Finding.NO_DRIVER,
        "NVIDIA GPU found but only nouveau has it: sudo apt install nvidia-driver-580, then reboot",
        id="metal: nouveau",
    ),
    pytest.param(
        {**NO_DRIVER, "place": LXD},
        Finding.NO_DRIVER,
        "NVIDIA GPU but no driver on the LXD host: there, sudo apt install nvidia-driver-580 "
        "and reboot, then pass the GPU through",
        id="LXD: no driver on the host",
    ),
    pytest.param(
        {**NO_DRIVER, "place": DOCKER},
        Finding.NO_DRIVER,
        "NVIDIA GPU but no driver on this container's host: install nvidia-driver-580 there and "
        "reboot it",
        id="container: no driver on the host",
    ),
    pytest.param(
        {**NO_DRIVER, "driver_built": True},
        Finding.DRIVER_NOT_LOADED,
        "NVIDIA driver is installed but not loaded: reboot; if it stays so, see sudo modprobe "
        "nvidia and dmesg",
        id="metal: driver installed, not yet rebooted",
    ),
    pytest.param(
        {**NO_DRIVER, "driver_built": True, "secure_boot": True},
        Finding.DRIVER_NOT_LOADED,
        "NVIDIA driver is installed but not loaded: reboot; if it stays so, Secure Boot refuses "
        "it: enrol its key (sudo update-secureboot-policy --enroll-key)",
        id="metal: driver installed, Secure Boot",
    ),
    pytest.param(
        {**NO_DRIVER, "driver_source": True, "kernel": "6.8.0-61-generic"},
        Finding.DRIVER_NOT_BUILT,
        "NVIDIA driver is not built for the running kernel: sudo apt install "
        "linux-headers-6.8.0-61-generic, then reboot",
        id="metal: a new kernel without the driver",
    ),
    # --- not passed through
    pytest.param(
        {**NO_NODES, "place": LXD},
        Finding.NOT_PASSED_THROUGH,
        "No GPU passed through: run `lxc config device add juju-abc123-0 gpu0 gpu` on the LXD host",
        id="LXD: nothing passed through",
    ),
    pytest.param(
        {**NO_NODES, "place": LXD, "smi_present": False, "libraries": ("570.10",)},
        Finding.NOT_PASSED_THROUGH,
        "No GPU passed through: run `lxc config device add juju-abc123-0 gpu0 gpu` on the LXD host",
        id="LXD: nothing passed through comes before what is missing inside",
    ),
    pytest.param(
        {**NO_NODES, "pci": (), "place": LXD},
        Finding.NOT_PASSED_THROUGH,
        "No GPU passed through: run `lxc config device add juju-abc123-0 gpu0 gpu` on the LXD host",
        id="LXD: nothing passed through, /sys hidden",
    ),
    pytest.param(
        {**NO_NODES, "place": Place("lxd", "")},
        Finding.NOT_PASSED_THROUGH,
        "No GPU passed through: run `lxc config device add <container> gpu0 gpu` on the LXD host",
        id="LXD: nothing passed through, name unknown",
    ),
    pytest.param(
        {**NO_NODES, "place": DOCKER},
        Finding.NOT_PASSED_THROUGH,
        "No GPU passed to this container: start it with the host's /dev/nvidia* devices",
        id="container: nothing passed",
    ),
    *WITH_DRIVER,
]


@pytest.mark.parametrize(("seen", "finding", "message"), TABLE)
def test_diagnosis(seen: dict[str, Any], finding: Finding, message: str) -> None:
    found = diagnose(replace(GOOD, **seen))
    assert (found.finding, found.message) == (finding, message)
    assert len(message) <= LONGEST
    assert not found.usable
    mends_itself = finding is Finding.NO_SMI or (
        finding is Finding.VERSION_MISMATCH and seen.get("place") is LXD
    )
    assert found.can_set_up is mends_itself
