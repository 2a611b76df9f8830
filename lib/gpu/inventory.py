"""What is here: NVIDIA devices, the driver's parts, the kind of machine."""

from __future__ import annotations

from dataclasses import dataclass

from gpu.smi import Gpu, Mig
from host import Layout

__all__ = ["Gpu", "GpuInventory", "Mig", "Place", "look"]


@dataclass(frozen=True)
class Place:
    """The kind of machine that this is.

    Attributes:
        kind: "metal", "vm", "lxd" (an LXD container) or "container" (another one).
        name: the host name without its domain; in LXD it is the container's name.
        unprivileged: whether root here is an ordinary user of the host.
    """

    kind: str = "metal"
    name: str = ""
    unprivileged: bool = False


@dataclass(frozen=True)
class GpuInventory:
    """Everything that was seen in one look; nothing of it is interpreted.

    Attributes:
        pci: addresses of NVIDIA display devices; in a container, the host's.
        bound: (address, kernel driver) of those that a driver has taken.
        open_only: whether one of them runs with NVIDIA's open kernel modules only.
        module: the version of the loaded kernel module; empty if none is loaded.
        module_server: whether packages of the -server flavour of its branch are installed.
        driver_installed: whether a kernel module for the running kernel lies on disk.
        secure_boot: whether the firmware lets signed modules only.
        libraries: versions of the libnvidia-ml that lie in the usual folders.
        control: whether /dev/nvidiactl is there.
        nodes: the device nodes of GPUs, as "/dev/nvidia0".
        closed: (node, octal mode) of those that not everybody may read and write.
        smi_present: whether there is an nvidia-smi to run.
        smi_code: its exit status; None if it didn't run to its end.
        smi_hung: whether it was killed at its time limit.
        smi_error: what it complained of, in one line; empty if it answered.
        gpus: the GPUs that it lists and that answer.
        lost: the GPUs that it lists and that don't (index or address).
        driver: the driver version that it gives.
        place: the kind of machine.
    """

    pci: tuple[str, ...] = ()
    bound: tuple[tuple[str, str], ...] = ()
    open_only: bool = False
    module: str = ""
    module_server: bool = False
    driver_installed: bool = False
    secure_boot: bool = False
    libraries: tuple[str, ...] = ()
    control: bool = False
    nodes: tuple[str, ...] = ()
    closed: tuple[tuple[str, str], ...] = ()
    smi_present: bool = False
    smi_code: int | None = None
    smi_hung: bool = False
    smi_error: str = ""
    gpus: tuple[Gpu, ...] = ()
    lost: tuple[str, ...] = ()
    driver: str = ""
    place: Place = Place()


def look(layout: Layout, *, timeout: float = 10) -> GpuInventory:
    """Look at the machine; read-only, never raises (first shape: sees nothing yet)."""
    return GpuInventory()
