"""A look at a machine as a whole, at its PCI bus and at NVIDIA's driver."""

from __future__ import annotations

from pathlib import Path

import pytest

from gpu.inventory import Gpu, GpuInventory, Place, look
from tests.unit.gpu_roots import CLOSED_WORDING, OPEN_WORDING, VERSION, Root, gpu_uuid


def snapshot(folder: Path) -> dict[str, tuple[int, bytes]]:
    return {
        str(path): (path.lstat().st_mode, path.read_bytes() if path.is_file() else b"")
        for path in sorted(folder.rglob("*"))
        if path.name != "calls"
    }


# --- the whole look --------------------------------------------------------------------


def test_an_empty_machine_has_nothing(root: Root) -> None:
    assert look(root.layout) == GpuInventory()


def test_a_working_machine_is_seen_whole(root: Root) -> None:
    seen = look(root.worker(2).layout)

    assert seen == GpuInventory(
        pci=("0000:01:00.0", "0000:02:00.0"),
        bound=(("0000:01:00.0", "nvidia"), ("0000:02:00.0", "nvidia")),
        module=VERSION,
        libraries=(VERSION,),
        control=True,
        uvm=True,
        nodes=("/dev/nvidia0", "/dev/nvidia1"),
        smi_present=True,
        smi_code=0,
        gpus=(
            Gpu(0, gpu_uuid(0), "NVIDIA H100 PCIe", "00000000:01:00.0", 81559),
            Gpu(1, gpu_uuid(1), "NVIDIA H100 PCIe", "00000000:02:00.0", 81559),
        ),
        driver=VERSION,
        place=Place("metal", "node-1", unprivileged=False),
    )


def test_a_look_changes_nothing(root: Root) -> None:
    root.worker(2)
    before = snapshot(root.folder)
    look(root.layout)
    assert snapshot(root.folder) == before


def test_a_look_asks_nvidia_smi_once(root: Root) -> None:
    look(root.worker(4).layout)
    assert len(root.smi_calls()) == 1


def test_two_looks_at_an_unchanged_machine_agree(root: Root) -> None:
    root.worker(3)
    assert look(root.layout) == look(root.layout)


def test_look_never_raises_for_folders_in_place_of_files(root: Root) -> None:
    for path in (
        "/sys/module/nvidia/version",
        "/proc/driver/nvidia/version",
        "/proc/sys/kernel/hostname",
        "/proc/self/uid_map",
        "/proc/1/environ",
        "/sys/bus/pci/devices/0000:01:00.0/vendor",
        "/usr/lib/x86_64-linux-gnu/libnvidia-ml.so.580.95.05",
        "/dev/nvidia0",
        "/usr/bin/systemd-detect-virt",
    ):
        root.layout.at(path).mkdir(parents=True)
    look(root.layout)


# --- PCI -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("vendor", "kind", "counts"),
    [
        pytest.param("0x10de", "0x030000", True, id="NVIDIA VGA controller"),
        pytest.param("0x10de", "0x030200", True, id="NVIDIA 3D controller"),
        pytest.param("0x10DE", "0x038000", True, id="NVIDIA other display, capitals"),
        pytest.param("0x10de", "0x040300", False, id="NVIDIA sound function"),
        pytest.param("0x10de", "0x068000", False, id="NVSwitch"),
        pytest.param("0x10de", "0x0c0330", False, id="NVIDIA USB port"),
        pytest.param("0x1002", "0x030000", False, id="another vendor's GPU"),
        pytest.param("", "", False, id="unreadable files"),
        pytest.param("0x10de\x00\xff", "\n\n", False, id="garbage"),
    ],
)
def test_pci_counts_nvidia_display_devices(
    root: Root, vendor: str, kind: str, counts: bool
) -> None:
    root.device("0000:2b:00.0", vendor=vendor, kind=kind)
    assert look(root.layout).pci == (("0000:2b:00.0",) if counts else ())


def test_pci_says_which_driver_has_a_device(root: Root) -> None:
    root.device("0000:01:00.0", driver="vfio-pci")
    root.device("0000:02:00.0")
    assert look(root.layout).bound == (("0000:01:00.0", "vfio-pci"),)


@pytest.mark.parametrize(
    ("number", "open_only"),
    [("0x2331", False), ("0x28f8", False), ("0x2901", True), ("0x2b85", True), ("junk", False)],
)
def test_blackwell_and_later_need_the_open_modules(
    root: Root, number: str, open_only: bool
) -> None:
    root.device("0000:01:00.0", number=number)
    assert look(root.layout).open_only is open_only


# --- the driver ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sys_file", "proc_file", "version"),
    [
        pytest.param(f"{VERSION}\n", "", VERSION, id="sys alone"),
        pytest.param("", CLOSED_WORDING, VERSION, id="proc, closed module"),
        pytest.param("", OPEN_WORDING, VERSION, id="proc, open module"),
        pytest.param("570.10\n", OPEN_WORDING, "570.10", id="sys before proc, two parts"),
        pytest.param("garbage\n", CLOSED_WORDING, VERSION, id="garbage in sys, good proc"),
        pytest.param("", "NVRM version: 12 monkeys\n", "", id="garbage in proc"),
        pytest.param("580.95.05; rm -rf /\n", "", "", id="no version but a command"),
        pytest.param("", "", "", id="nothing loaded"),
    ],
)
def test_module_version(root: Root, sys_file: str, proc_file: str, version: str) -> None:
    if sys_file:
        root.write("/sys/module/nvidia/version", sys_file)
    if proc_file:
        root.write("/proc/driver/nvidia/version", proc_file)
    assert look(root.layout).module == version


@pytest.mark.parametrize(
    ("package", "server"),
    [
        ("libnvidia-compute-580-server:amd64", True),
        ("nvidia-kernel-common-580-server", True),
        ("linux-modules-nvidia-580-server-open-generic", True),
        ("nvidia-utils-580", False),
        ("nvidia-utils-570-server", False),
    ],
)
def test_server_flavour_of_the_loaded_branch(root: Root, package: str, server: bool) -> None:
    root.module()
    root.write(f"/var/lib/dpkg/info/{package}.list", "")
    assert look(root.layout).module_server is server


@pytest.mark.parametrize(
    ("index", "built"),
    [
        pytest.param("updates/dkms/nvidia.ko.zst: kernel/a.ko.zst", True, id="DKMS"),
        pytest.param("kernel/nvidia-580srv/nvidia.ko:", True, id="Ubuntu's signed modules"),
        pytest.param("kernel/drivers/i2c/i2c-nvidia-gpu.ko.zst:", False, id="another module"),
        pytest.param("kernel/a.ko: updates/dkms/nvidia.ko", False, id="a mere dependency"),
        pytest.param("updates/dkms/nvidia-uvm.ko:", False, id="only a part of it"),
    ],
)
def test_driver_built_for_the_running_kernel(root: Root, index: str, built: bool) -> None:
    root.write("/proc/sys/kernel/osrelease", "6.8.0-60-generic\n")
    root.write("/lib/modules/6.8.0-60-generic/modules.dep", f"kernel/x.ko:\n{index}\n")
    assert look(root.layout).driver_built is built


def test_driver_built_for_another_kernel_does_not_count(root: Root) -> None:
    root.write("/proc/sys/kernel/osrelease", "6.8.0-61-generic\n")
    root.write("/lib/modules/6.8.0-60-generic/modules.dep", "updates/dkms/nvidia.ko:\n")
    root.write("/usr/src/nvidia-580.95.05/dkms.conf", "")
    seen = look(root.layout)
    assert (seen.driver_built, seen.driver_source) == (False, True)


def test_a_container_does_not_look_for_a_driver_of_its_own(root: Root) -> None:
    root.lxd()
    root.write("/usr/src/nvidia-580.95.05/dkms.conf", "")
    assert look(root.layout).driver_source is False


@pytest.mark.parametrize(
    ("value", "on"), [(b"\x06\0\0\0\x01", True), (b"\x06\0\0\0\0", False), (b"", False)]
)
def test_secure_boot(root: Root, value: bytes, on: bool) -> None:
    root.write("/sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c", value)
    assert look(root.layout).secure_boot is on
