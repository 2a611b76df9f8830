"""What cures GPU trouble on which kind of machine, in the operator's words."""

from __future__ import annotations

from gpu import smi
from gpu.inventory import GpuInventory

# 580 is the first branch for CUDA 13 and the last one that still runs Maxwell, Pascal and
# Volta, so it fits the most GPUs.  Plain apt works on 22.04 and 24.04 servers as they come;
# `ubuntu-drivers install --gpgpu` needs a package that minimal images lack, and leaves
# nvidia-smi out.
_BRANCH = "580"
_OLDEST = 450  # the oldest branch for CUDA 11


def driver_package(seen: GpuInventory) -> str:
    """Return the package that brings a driver for what is there."""
    return f"nvidia-driver-{_BRANCH}" + ("-open" if seen.open_only else "")


def packages(seen: GpuInventory) -> str:
    """Return what installs the user-space part of exactly the module's version."""
    branch = seen.module.partition(".")[0] + ("-server" if seen.module_server else "")
    return f"sudo apt install {{nvidia-utils,libnvidia-compute}}-{branch}={seen.module}*"


def restart(seen: GpuInventory) -> str:
    """Return what starts the driver afresh."""
    return {
        "lxd": "reboot the LXD host",
        "container": "reboot the container's host",
        "vm": "stop and start this virtual machine",
    }.get(seen.place.kind, "reboot")


def reopen(seen: GpuInventory) -> str:
    """Return what gives a container its devices anew; elsewhere, the driver its start."""
    if seen.place.kind == "lxd" and seen.place.name:
        return f"run `lxc restart {seen.place.name}` on the LXD host"
    return "restart this container" if seen.place.contained else "reboot"


def by_status(seen: GpuInventory, code: int | None) -> str:
    """Return the sentence for an exit status of nvidia-smi that came without any GPU."""
    known = {
        smi.NO_PERMISSION: f"nvidia-smi may not open the GPU: {reopen(seen)}",
        smi.NO_DEVICE: f"The NVIDIA driver finds no GPU that works: {reopen(seen)}; see dmesg",
        smi.NO_POWER: "A GPU's power cable is not attached: attach it, then reboot",
        smi.NO_DRIVER: f"The NVIDIA driver does not answer: {reopen(seen)}; see dmesg",
        smi.INTERRUPT: f"A GPU's interrupts don't reach the kernel: {restart(seen)}; see dmesg",
        smi.NO_LIBRARY: f"nvidia-smi finds no libnvidia-ml.so.{seen.module}: {packages(seen)}",
    }
    if code in known:
        return known[code]
    if code == 0:
        return f"nvidia-smi says nothing that can be read: {reopen(seen)}"
    status = "" if code is None else f" with status {code}"
    said = "" if seen.smi_error.startswith("status") else seen.smi_error
    words = f" ({said[:50]})" if said else ""
    return f"nvidia-smi fails{status}{words}: {reopen(seen)}"


def unwell(seen: GpuInventory) -> str:
    """Return what is wrong beside GPUs that work, or nothing."""
    if seen.lost:
        return f"{', '.join(seen.lost[:4])} lost: {restart(seen)}"
    given = sum(driver == "vfio-pci" for _, driver in seen.bound)
    here = len(seen.nodes) if seen.place.contained else len(seen.pci) - given
    if here > len(seen.gpus):
        return f"{here - len(seen.gpus)} of {here} GPUs missing in nvidia-smi: see dmesg"
    if seen.smi_code:
        warning = "a GPU's infoROM is corrupted" if seen.smi_code == smi.INFOROM else seen.smi_error
        return f"nvidia-smi warns: {warning}"
    return _short_of(seen)


def _short_of(seen: GpuInventory) -> str:
    idle = [str(gpu.index) for gpu in seen.gpus if gpu.mig_on and not gpu.mig]
    if idle:
        return f"GPU {', '.join(idle)} in MIG mode without a MIG device"
    branch = int(seen.module.partition(".")[0] or 0)
    if branch < _OLDEST:
        return f"driver {seen.module} is too old for CUDA 11 ({_OLDEST} or newer)"
    if not seen.uvm:
        return "/dev/nvidia-uvm is not there yet: nvidia-modprobe makes it on demand"
    return ""
