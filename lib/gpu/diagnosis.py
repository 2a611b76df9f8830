"""From what was seen to one sentence: can the GPUs be used, and if not, what cures it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from gpu import remedy, smi
from gpu.inventory import GpuInventory
from gpu.remedy import unwell

LONGEST = 150


class Finding(Enum):
    """What an inventory amounts to."""

    READY = "ready"
    NO_GPU = "no-gpu"
    GIVEN_AWAY = "given-away"
    NO_DRIVER = "no-driver"
    DRIVER_NOT_BUILT = "driver-not-built"
    DRIVER_NOT_LOADED = "driver-not-loaded"
    NOT_PASSED_THROUGH = "not-passed-through"
    VERSION_MISMATCH = "version-mismatch"
    NO_SMI = "no-smi"
    LIBRARY_MISSING = "library-missing"
    SMI_HUNG = "smi-hung"
    LOST = "lost"
    SMI_FAILED = "smi-failed"
    NODES_MISSING = "nodes-missing"
    NODES_CLOSED = "nodes-closed"
    MIG_EMPTY = "mig-empty"


@dataclass(frozen=True)
class Diagnosis:
    """The verdict on one look.

    Attributes:
        finding: what it is.
        message: one sentence for the status, remedy included, 150 characters at most;
            empty with READY.
        note: with READY, what is wrong all the same (a lost neighbour, a warning), or empty.
        can_set_up: whether installing packages and the runtime chain makes sense: a GPU and
            a loaded driver are there, and nothing that the operator alone can mend.
    """

    finding: Finding
    message: str = ""
    note: str = ""
    can_set_up: bool = False

    @property
    def usable(self) -> bool:
        """Whether tasks can use a GPU."""
        return self.finding is Finding.READY


def diagnose(inventory: GpuInventory) -> Diagnosis:
    """Return the first that applies, in this order of priority.

    1. no NVIDIA device, driver or node at all;
    2. every GPU given to virtual machines (vfio-pci);
    3. no driver loaded: not built for this kernel, installed but not loaded, not installed;
    4. a container that no GPU was passed to;
    5. outside LXD, libraries of other versions than the module's: what is upgraded halfway
       must not be added to;
    6. nvidia-smi missing, which the charm mends (in LXD, mismatching libraries with it);
    7. in LXD, libraries of other versions;
    8. libnvidia-ml missing beside an nvidia-smi;
    9. nvidia-smi hangs, or lists no GPU, by what it says and by its exit status;
    10. device nodes missing (in a container CUDA's too), or closed to unprivileged tasks;
    11. MIG mode on, with no MIG device on any GPU;
    12. ready, with a note if a part of it is unwell.
    """
    for check in _CHECKS:
        found = check(inventory)
        if found:
            return found
    return Diagnosis(Finding.READY, note=unwell(inventory), can_set_up=True)


def _verdict(finding: Finding, message: str, *, can_set_up: bool = False) -> Diagnosis:
    short = message if len(message) <= LONGEST else message[: LONGEST - 1] + "…"
    return Diagnosis(finding, short, can_set_up=can_set_up)


def _nothing(seen: GpuInventory) -> Diagnosis | None:
    if seen.pci or seen.nodes or seen.gpus:
        return None
    if seen.module and seen.place.contained:
        return None  # a masked /sys: the host has a driver, so probably a GPU
    driver = f" (driver {seen.module} is loaded)" if seen.module else ""
    where = "the LXD host" if seen.place.kind == "lxd" else "this machine"
    return _verdict(
        Finding.NO_GPU,
        f"No NVIDIA GPU on {where}{driver}: use a machine that has one, or set enable-gpu=false",
    )


def _given_away(seen: GpuInventory) -> Diagnosis | None:
    taken = [address for address, driver in seen.bound if driver == "vfio-pci"]
    if not taken or len(taken) < len(seen.pci) or seen.gpus:
        return None
    return _verdict(
        Finding.GIVEN_AWAY,
        f"NVIDIA GPU {taken[0]} is reserved for a virtual machine (vfio-pci): "
        "bind it to the nvidia driver, or set enable-gpu=false",
    )


def _no_driver(seen: GpuInventory) -> Diagnosis | None:
    if seen.module:
        return None
    package = remedy.driver_package(seen)
    if seen.place.kind == "lxd":
        return _verdict(
            Finding.NO_DRIVER,
            f"NVIDIA GPU but no driver on the LXD host: there, sudo apt install {package} and "
            "reboot, then pass the GPU through",
        )
    if seen.place.kind == "container":
        return _verdict(
            Finding.NO_DRIVER,
            f"NVIDIA GPU but no driver on this container's host: install {package} there and "
            "reboot it",
        )
    if seen.driver_built:
        return _not_loaded(seen)
    if seen.driver_source:
        headers = f"linux-headers-{seen.kernel}" if seen.kernel else "linux-headers-generic"
        return _verdict(
            Finding.DRIVER_NOT_BUILT,
            f"NVIDIA driver is not built for the running kernel: sudo apt install {headers}, "
            "then reboot",
        )
    nouveau = any(driver == "nouveau" for _, driver in seen.bound)
    why = "only nouveau has it" if nouveau else "no driver is loaded"
    return _verdict(
        Finding.NO_DRIVER,
        f"NVIDIA GPU found but {why}: sudo apt install {package}, then reboot",
    )


def _not_loaded(seen: GpuInventory) -> Diagnosis:
    why = "NVIDIA driver is installed but not loaded"
    if seen.secure_boot:
        return _verdict(
            Finding.DRIVER_NOT_LOADED,
            f"{why}: reboot; if it stays so, Secure Boot refuses it: enrol its key "
            "(sudo update-secureboot-policy --enroll-key)",
        )
    return _verdict(
        Finding.DRIVER_NOT_LOADED,
        f"{why}: reboot; if it stays so, see sudo modprobe nvidia and dmesg",
    )


def _not_passed(seen: GpuInventory) -> Diagnosis | None:
    if seen.nodes or not seen.place.contained:
        return None
    if seen.place.kind == "lxd":
        name = seen.place.name or "<container>"
        return _verdict(
            Finding.NOT_PASSED_THROUGH,
            f"No GPU passed through: run `lxc config device add {name} gpu0 gpu` on the LXD host",
        )
    return _verdict(
        Finding.NOT_PASSED_THROUGH,
        "No GPU passed to this container: start it with the host's /dev/nvidia* devices",
    )


def _mismatch_before_packages(seen: GpuInventory) -> Diagnosis | None:
    return None if seen.place.kind == "lxd" else _mismatch(seen)


def _mismatch(seen: GpuInventory) -> Diagnosis | None:
    if seen.gpus or not seen.libraries or seen.module in seen.libraries:
        return None
    return _mismatching(seen, seen.libraries[-1])


def _mismatching(seen: GpuInventory, library: str) -> Diagnosis:
    head = f"Driver/library mismatch: kernel module {seen.module}, library {library}"
    if seen.place.contained:
        # The host's driver was upgraded: packages that the charm itself put in here follow it.
        cure = remedy.packages(seen)
        return _verdict(Finding.VERSION_MISMATCH, f"{head}: {cure}", can_set_up=True)
    return _verdict(Finding.VERSION_MISMATCH, f"{head}: reboot")


def _no_smi(seen: GpuInventory) -> Diagnosis | None:
    if seen.smi_present:
        return None
    return _verdict(
        Finding.NO_SMI,
        f"nvidia-smi is missing: nvidia-utils {seen.module} has to be installed; "
        "the action retry-gpu tries it at once",
        can_set_up=True,
    )


def _no_library(seen: GpuInventory) -> Diagnosis | None:
    if seen.module in seen.libraries:
        return None
    return _verdict(
        Finding.LIBRARY_MISSING,
        f"libnvidia-ml.so.{seen.module} is missing: {remedy.packages(seen)}",
    )


def _hung(seen: GpuInventory) -> Diagnosis | None:
    if not seen.smi_hung:
        return None
    return _verdict(Finding.SMI_HUNG, f"nvidia-smi hangs in the driver: {remedy.restart(seen)}")


def _no_answer(seen: GpuInventory) -> Diagnosis | None:
    """Nothing listed: the reason by nvidia-smi's words, else by its exit status."""
    if seen.gpus:
        return None
    code = smi.meaning(seen.smi_error, seen.smi_code)
    if code in {smi.FUNCTION_MISSING, smi.MISMATCH}:
        return _mismatching(seen, _other_library(seen))
    if seen.lost or code == smi.LOST:
        cure = remedy.restart(seen)
        return _verdict(Finding.LOST, f"GPU lost, it does not answer any more: {cure}")
    finding = Finding.LIBRARY_MISSING if code == smi.NO_LIBRARY else Finding.SMI_FAILED
    return _verdict(finding, remedy.by_status(seen, code))


def _other_library(seen: GpuInventory) -> str:
    """Name the library that was loaded though one of the module's version lies there too."""
    others = [version for version in seen.libraries if version != seen.module]
    return others[-1] if others else "of another version"


def _no_nodes(seen: GpuInventory) -> Diagnosis | None:
    if seen.control and seen.nodes:
        return _no_uvm(seen)
    missing = "/dev/nvidiactl" if seen.nodes else "/dev/nvidia0"
    cure = "sudo nvidia-modprobe -c 0 -u, or reboot"
    if seen.place.contained:
        cure = remedy.reopen(seen)
    return _verdict(Finding.NODES_MISSING, f"Device node {missing} is missing: {cure}")


def _no_uvm(seen: GpuInventory) -> Diagnosis | None:
    """In a container nothing can make the node that CUDA needs; elsewhere it comes on demand."""
    if seen.uvm or not seen.place.contained:
        return None
    where = "the LXD host" if seen.place.kind == "lxd" else "its host"
    cure = f"sudo nvidia-modprobe -c 0 -u on {where}, then restart the container"
    return _verdict(Finding.NODES_MISSING, f"/dev/nvidia-uvm is not passed through: {cure}")


def _closed_nodes(seen: GpuInventory) -> Diagnosis | None:
    if not seen.closed:
        return None
    node, mode = seen.closed[0]
    cure = "load the nvidia module with NVreg_DeviceFileMode=0666 (modprobe.d)"
    if seen.place.kind == "lxd":
        cure = "set mode=0666 on its gpu device with `lxc config device set`"
    elif seen.place.contained:
        cure = "pass it in with 0666"
    return _verdict(
        Finding.NODES_CLOSED,
        f"{node} is {mode}, closed to unprivileged tasks: {cure}",
    )


def _empty_mig(seen: GpuInventory) -> Diagnosis | None:
    if any(not gpu.mig_on or gpu.mig for gpu in seen.gpus):
        return None
    return _verdict(
        Finding.MIG_EMPTY,
        "MIG mode is on but there is no MIG device: create one (sudo nvidia-smi mig -cgi … -C), "
        "or turn it off (-mig 0)",
    )


_CHECKS: tuple[Callable[[GpuInventory], Diagnosis | None], ...] = (
    _nothing,
    _given_away,
    _no_driver,
    _not_passed,
    _mismatch_before_packages,
    _no_smi,
    _mismatch,
    _no_library,
    _hung,
    _no_answer,
    _no_nodes,
    _closed_nodes,
    _empty_mig,
)
