"""What is here: NVIDIA devices, the driver's parts, the kind of machine.

A look reads and never writes.  In a container /sys and /proc/driver show the
host's devices and driver whatever was passed through; /dev alone says what can
be used, so every part is kept and `diagnosis` weighs them.
"""

from __future__ import annotations

import fnmatch
import os
import re
from dataclasses import dataclass, field
from pathlib import Path

from files import read_text
from gpu import place as places
from gpu import smi
from gpu.place import Place
from gpu.smi import Gpu, Mig, cuda_version
from host import Layout

__all__ = ["Gpu", "GpuInventory", "Mig", "Place", "cuda_version", "look"]

_VERSION = r"[0-9]{2,4}\.[0-9]{1,4}(?:\.[0-9]{1,4})?"
_NVRM = re.compile(rf"NVRM version:.*?(?<![\w.])({_VERSION})(?![\w.])")
_NVIDIA = "0x10de"
# The first device id of Blackwell (GB100, 0x2901).  From there on NVIDIA ships open kernel
# modules only (README of open-gpu-kernel-modules 580, list of compatible GPUs).
_FIRST_OPEN_ONLY = 0x2900
_SECURE_BOOT = "/sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c"


@dataclass(frozen=True)
class GpuInventory:
    """Everything that was seen in one look; nothing of it is interpreted.

    Attributes:
        pci: addresses of NVIDIA display devices; in a container, the host's.
        bound: (address, kernel driver) of those that a driver has taken.
        open_only: whether one of them runs with NVIDIA's open kernel modules only.
        module: the version of the loaded kernel module; empty if none is loaded.
        module_server: whether packages of the -server flavour of its branch are installed.
        driver_built: whether a module for the running kernel lies on disk; looked up only
            outside containers, with none loaded.
        driver_source: whether the driver's source for DKMS lies on disk; likewise.
        kernel: the release of the running kernel; likewise.
        secure_boot: whether the firmware lets signed modules only; likewise.
        libraries: versions of the libnvidia-ml that lie in the usual folders.
        control: whether /dev/nvidiactl is there.
        uvm: whether /dev/nvidia-uvm is there, which CUDA needs.
        nodes: the device nodes of GPUs, as "/dev/nvidia0".
        closed: (node, octal mode) of those that not everybody may read and write.
        smi_present: whether there is an nvidia-smi to run.
        smi_code: its exit status; None if it wasn't run, or not to its end.
        smi_hung: whether it was killed at its time limit.
        smi_error: what it complained of, in one printable line; empty if of nothing.
        gpus: the GPUs that it lists and that answer.
        lost: the GPUs that it lists and that don't, as "GPU 1".
        driver: the driver version that it gives.
        place: the kind of machine.
    """

    pci: tuple[str, ...] = ()
    bound: tuple[tuple[str, str], ...] = ()
    open_only: bool = False
    module: str = ""
    module_server: bool = False
    driver_built: bool = False
    driver_source: bool = False
    kernel: str = ""
    secure_boot: bool = False
    libraries: tuple[str, ...] = ()
    control: bool = False
    uvm: bool = False
    nodes: tuple[str, ...] = ()
    closed: tuple[tuple[str, str], ...] = ()
    smi_present: bool = False
    smi_code: int | None = None
    smi_hung: bool = False
    smi_error: str = ""
    gpus: tuple[Gpu, ...] = ()
    lost: tuple[str, ...] = ()
    driver: str = ""
    place: Place = field(default_factory=Place)


def look(layout: Layout, *, timeout: float = 10) -> GpuInventory:
    """Look at the machine; read-only, bounded, never raises.

    Args:
        layout: the machine.
        timeout: the limit of one nvidia-smi call, in seconds.  There are one to three,
            and none after one that reached it.
    """
    place = places.see(layout)
    pci = _display_devices(layout)
    module = _module(layout)
    asked = smi.Answer(present=smi.is_present(layout))
    if _nodes(layout) or (module and not place.contained):
        asked = smi.ask(layout, timeout=timeout)
    at_rest = not module and not place.contained
    kernel = _kernel(layout) if at_rest else ""
    return GpuInventory(
        pci=tuple(device.name for device in pci),
        bound=tuple((device.name, driver) for device in pci if (driver := _bound_to(device))),
        open_only=any(_number(device / "device") >= _FIRST_OPEN_ONLY for device in pci),
        module=module or (asked.driver if asked.gpus else ""),
        module_server=_server_flavour(layout, module),
        driver_built=bool(kernel) and _driver_built(layout, kernel),
        driver_source=at_rest and _has(layout.at("/usr/src"), "nvidia-[0-9]*/dkms.conf"),
        kernel=kernel,
        secure_boot=at_rest and _secure_boot(layout),
        libraries=_libraries(layout),
        control=os.path.exists(layout.at("/dev/nvidiactl")),
        uvm=os.path.exists(layout.at("/dev/nvidia-uvm")),
        # Only now: run by root, nvidia-smi creates the nodes of a driver that has just loaded.
        nodes=_nodes(layout),
        closed=_closed(layout),
        smi_present=asked.present,
        smi_code=asked.code,
        smi_hung=asked.hung,
        smi_error=asked.error,
        gpus=asked.gpus,
        lost=asked.lost,
        driver=asked.driver,
        place=place,
    )


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError:
        return []


def _names(folder: Path) -> list[str]:
    """Return the names in a folder; of those that are asked for some hold thousands."""
    try:
        return os.listdir(folder)
    except OSError:
        return []


def _has(folder: Path, pattern: str) -> bool:
    try:
        return any(True for _ in folder.glob(pattern))
    except OSError:
        return False


def _display_devices(layout: Layout) -> tuple[Path, ...]:
    """Return NVIDIA's devices of PCI class 03 (VGA 0300, 3D controller 0302, other 0380).

    The vendor's bridges (NVSwitch, 0680), sound functions (0403) and USB ports don't count.
    """
    return tuple(
        device
        for device in _entries(layout.at("/sys/bus/pci/devices"))
        if (read_text(device / "vendor") or "").strip().lower() == _NVIDIA
        and (read_text(device / "class") or "").strip().lower().startswith("0x03")
    )


def _bound_to(device: Path) -> str:
    try:
        return (device / "driver").readlink().name
    except OSError:
        return ""


def _number(path: Path) -> int:
    text = (read_text(path) or "").strip()
    return int(text, 16) if re.fullmatch("0x[0-9a-fA-F]{1,4}", text) else 0


def _module(layout: Layout) -> str:
    """Return the loaded module's version; the open and the closed one word it differently."""
    version = (read_text(layout.at("/sys/module/nvidia/version")) or "").strip()
    if re.fullmatch(_VERSION, version):
        return version
    found = _NVRM.search(read_text(layout.at("/proc/driver/nvidia/version")) or "")
    return found.group(1) if found else ""


def _server_flavour(layout: Layout, module: str) -> bool:
    branch = module.partition(".")[0]
    if not branch:
        return False
    installed = _names(layout.at("/var/lib/dpkg/info"))
    return bool(fnmatch.filter(installed, f"*nvidia-*{branch}-server*.list"))


def _kernel(layout: Layout) -> str:
    release = (read_text(layout.at("/proc/sys/kernel/osrelease")) or "").strip()
    return release if re.fullmatch(r"[A-Za-z0-9][\w.+~-]{0,63}", release) else ""


def _driver_built(layout: Layout, kernel: str) -> bool:
    index = read_text(layout.at(f"/lib/modules/{kernel}/modules.dep")) or ""
    return re.search(r"^(?:\S*/)?nvidia\.ko(?:\.\w+)?:", index, re.MULTILINE) is not None


def _secure_boot(layout: Layout) -> bool:
    """Read the firmware's variable: four bytes of attributes, then the value."""
    try:
        return layout.at(_SECURE_BOOT).read_bytes()[4:5] == b"\x01"
    except OSError:
        return False


def _libraries(layout: Layout) -> tuple[str, ...]:
    """Return the versions of libnvidia-ml; empty files are mount points that were left behind."""
    found = {version for folder in layout.driver_libraries for version in _library_versions(folder)}
    return tuple(sorted(found, key=lambda version: [int(part) for part in version.split(".")]))


def _library_versions(folder: Path) -> list[str]:
    versions = []
    for name in _names(folder):
        version = name.removeprefix("libnvidia-ml.so.")
        if version == name or not re.fullmatch(_VERSION, version):
            continue
        try:
            if (folder / name).stat().st_size:
                versions.append(version)
        except OSError:
            continue  # a dangling link
    return versions


def _nodes(layout: Layout) -> tuple[str, ...]:
    names = _names(layout.at("/dev"))
    numbers = [int(name[6:]) for name in names if re.fullmatch("nvidia[0-9]{1,3}", name)]
    return tuple(f"/dev/nvidia{number}" for number in sorted(numbers))


def _closed(layout: Layout) -> tuple[tuple[str, str], ...]:
    """Return the nodes that an unprivileged task can't open: they keep the host's mode."""
    found = []
    for node in (*_nodes(layout), "/dev/nvidiactl", "/dev/nvidia-uvm"):
        try:
            mode = layout.at(node).stat().st_mode & 0o777
        except OSError:
            continue
        if mode & 0o666 != 0o666:
            found.append((node, f"{mode:04o}"))
    return tuple(found)
