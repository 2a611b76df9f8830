from __future__ import annotations

import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gpu import smi
from gpu.inventory import Gpu, GpuInventory, Mig, Place, cuda_version, look
from tests.unit.gpu_roots import (
    CLOSED_WORDING,
    FULL_RANGE,
    MAPPED_RANGE,
    OPEN_WORDING,
    VERSION,
    Root,
    gpu_uuid,
    mig_uuid,
    row,
)


@pytest.fixture
def root(tmp_path: Path) -> Root:
    return Root(tmp_path)


def snapshot(folder: Path) -> dict[str, tuple[int, bytes]]:
    return {
        str(path): (path.lstat().st_mode, path.read_bytes() if path.is_file() else b"")
        for path in sorted(folder.rglob("*"))
        if path.name != "calls"
    }


# --- the whole look ---------------------------------------------------------------------


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


# --- PCI --------------------------------------------------------------------------------


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


# --- the driver -------------------------------------------------------------------------


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


# --- libraries and nodes ----------------------------------------------------------------


def test_libraries_of_all_folders_in_numeric_order(root: Root) -> None:
    root.library("580.95.05")
    root.library("580.105.08", "/usr/lib64")
    root.library("580.95.05", "/usr/lib")
    assert look(root.layout).libraries == ("580.95.05", "580.105.08")


def test_libraries_leave_out_names_without_a_version_and_empty_files(root: Root) -> None:
    folder = "/usr/lib/x86_64-linux-gnu"
    root.write(f"{folder}/libnvidia-ml.so.1", "x")
    root.write(f"{folder}/libnvidia-ml.so", "x")
    root.write(f"{folder}/libnvidia-ml.so.580.1.2.3.4", "x")
    root.write(f"{folder}/libnvidia-ml.so.{VERSION}", "")  # a mount point left behind
    root.layout.at(f"{folder}/libnvidia-ml.so.570.10").symlink_to("nowhere")
    assert look(root.layout).libraries == ()


def test_nodes_are_gpus_only_and_in_numeric_order(root: Root) -> None:
    root.nodes(11)
    for name in ("nvidia-modeset", "nvidia-uvm-tools", "nvidia", "nvidia0x", "nvidia-caps/x"):
        root.write(f"/dev/{name}", "")
    seen = look(root.layout)
    assert seen.nodes == tuple(f"/dev/nvidia{index}" for index in range(11))
    assert (seen.control, seen.uvm) == (True, True)


def test_the_node_for_cuda_is_one_of_its_own(root: Root) -> None:
    root.nodes(1)
    root.layout.at("/dev/nvidia-uvm").unlink()
    root.write("/dev/nvidia-uvm-tools", "")
    seen = look(root.layout)
    assert (seen.control, seen.uvm) == (True, False)


@pytest.mark.parametrize(
    ("mode", "closed"),
    [
        (0o666, ()),
        (0o777, ()),
        (0o660, ("0660", "0660", "0660")),
        (0o644, ("0644", "0644", "0644")),
    ],
)
def test_nodes_that_unprivileged_tasks_cannot_open(
    root: Root, mode: int, closed: tuple[str, ...]
) -> None:
    root.nodes(1, mode)
    assert tuple(found for _, found in look(root.layout).closed) == closed


def test_nodes_that_nvidia_smi_has_just_created_are_seen(root: Root) -> None:
    root.place()
    root.module()
    dev = root.layout.at("/dev")
    root.smi(row(0), extra=f"mkdir -p {dev}; : > {dev}/nvidia0; : > {dev}/nvidiactl")
    seen = look(root.layout)
    assert (seen.nodes, seen.control) == (("/dev/nvidia0",), True)


def test_nodes_win_where_pci_and_the_module_are_hidden(root: Root) -> None:
    root.place(container="docker")
    root.nodes(1)
    root.smi(row(0))
    seen = look(root.layout)
    assert (seen.pci, seen.module, len(seen.gpus)) == ((), VERSION, 1)


def test_a_container_without_nodes_does_not_bother_nvidia_smi(root: Root) -> None:
    root.lxd()
    root.pci(1)
    root.module()
    root.smi(row(0))
    assert look(root.layout).smi_present is True
    assert root.smi_calls() == []


# --- nvidia-smi -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("memory", "mib"),
    [
        ("81559", 81559),
        ("[N/A]", None),
        ("[Not Supported]", None),
        ("[Unknown Error]", None),
        ("-1", None),
        ("1e9", None),
        ("٣", None),
        ("9" * 40, None),
    ],
)
def test_smi_memory(root: Root, memory: str, mib: int | None) -> None:
    root.worker().smi(row(0, memory=memory))
    assert look(root.layout).gpus[0].memory_mib == mib


def test_smi_warnings_among_the_rows_are_no_rows(root: Root) -> None:
    root.worker(2).smi("WARNING: something, with, many, commas, in, it, ok", row(0), "", row(1))
    seen = look(root.layout)
    assert len(seen.gpus) == 2
    assert seen.smi_error.startswith("WARNING: something")


def test_smi_gpus_come_by_index(root: Root) -> None:
    root.worker(3).smi(row(2), row(0), row(1))
    assert [gpu.index for gpu in look(root.layout).gpus] == [0, 1, 2]


def test_smi_names_may_hold_commas(root: Root) -> None:
    root.worker().smi(f"0, {gpu_uuid(0)}, A, B and C, 00000000:01:00.0, 1, {VERSION}, [N/A]")
    assert look(root.layout).gpus[0].name == "A, B and C"


@pytest.mark.parametrize(
    "line",
    [
        "1, [GPU is lost], [GPU is lost], [GPU is lost], [GPU is lost], [GPU is lost], [N/A]",
        "1, [Unknown Error], NVIDIA H100, 00000000:02:00.0, 81559, 580.95.05, [N/A]",
        f"1, {gpu_uuid(1)}, NVIDIA H100, 00000000:02:00.0, [GPU is lost], 580.95.05, [N/A]",
        f"1, {gpu_uuid(1)}, H100, 00000000:02:00.0, [GPU requires reset], 580.95.05, [N/A]",
        "1, GPU-short, NVIDIA H100, 00000000:02:00.0, 81559, 580.95.05, [N/A]",
    ],
)
def test_smi_tells_lost_gpus_from_those_that_answer(root: Root, line: str) -> None:
    root.worker(2).smi(row(0), line)
    seen = look(root.layout)
    assert ([gpu.index for gpu in seen.gpus], seen.lost) == ([0], ("GPU 1",))


def test_smi_inforom_status_is_a_warning(root: Root) -> None:
    root.worker().smi(row(0), "WARNING: infoROM is corrupted at gpu 0000:01:00.0", status=14)
    seen = look(root.layout)
    assert (seen.smi_code, len(seen.gpus)) == (14, 1)


@pytest.mark.parametrize("status", [4, 6, 8, 9, 10, 12, 13, 15, 18, 255])
def test_smi_failures_leave_status_and_words(root: Root, status: int) -> None:
    root.worker().smi(status=status, stderr="It\tdid\x1b[31m not\nwork\n")
    seen = look(root.layout)
    assert (seen.smi_code, seen.gpus, seen.smi_error) == (status, (), "It did [31m not")


def test_smi_failing_silently_leaves_its_status(root: Root) -> None:
    root.worker().smi(status=3)
    assert look(root.layout).smi_error == "status 3"


def test_smi_of_an_old_driver_is_asked_again_without_the_mig_field(root: Root) -> None:
    root.worker().smi(
        row(0).rpartition(",")[0],
        extra='case "$1" in *mig.mode*) echo "Field mig.mode.current is not valid"; exit 2;; esac',
    )
    assert [gpu.uuid for gpu in look(root.layout).gpus] == [gpu_uuid(0)]
    assert len(root.smi_calls()) == 2


@pytest.mark.parametrize(
    "script",
    [
        pytest.param("exec sleep 60", id="the program itself"),
        pytest.param("trap '' TERM INT HUP; sleep 60 & wait", id="a child, signals ignored"),
        pytest.param("while :; do :; done", id="busily"),
    ],
)
def test_smi_that_hangs_costs_its_limit_once(root: Root, script: str) -> None:
    root.worker().smi(row(0, mig="Enabled"), extra=script)
    start = time.monotonic()
    seen = look(root.layout, timeout=0.5)
    assert time.monotonic() - start < 3
    assert (seen.smi_hung, seen.smi_code, seen.gpus) == (True, None, ())
    assert len(root.smi_calls()) == 1


@pytest.mark.parametrize(
    ("name", "state", "pending", "asked"),
    [
        pytest.param("nvidia-smi", "D (disk sleep)", "0000000000000100", 0, id="held"),
        pytest.param("nvidia-smi", "D (disk sleep)", "0000000000000000", 1, id="at work"),
        pytest.param("nvidia-smi", "R (running)", "0000000000000100", 1, id="ending"),
        pytest.param("rsync", "D (disk sleep)", "0000000000000100", 1, id="another program"),
    ],
)
def test_no_further_smi_is_started_while_the_kernel_holds_one_that_was_killed(
    root: Root, name: str, state: str, pending: str, asked: int
) -> None:
    root.worker().write("/proc/4711/comm", f"{name}\n")
    status = f"Name:\t{name}\nState:\t{state}\nSigPnd:\t{0:016x}\nShdPnd:\t{pending}\n"
    root.write("/proc/4711/status", status)
    seen = look(root.layout)
    assert len(root.smi_calls()) == asked
    assert seen.smi_hung is (not asked)
    assert bool(cuda_version(root.layout)) is False
    assert len(root.smi_calls()) == 2 * asked


def test_smi_that_hangs_over_mig_devices_has_hung(root: Root) -> None:
    root.worker().smi(row(0, mig="Enabled"), extra='[ "$1" != -L ] || exec sleep 60')
    assert look(root.layout, timeout=0.5).smi_hung is True


@pytest.mark.parametrize(
    ("content", "mode", "present"),
    [
        pytest.param(b"\x7fELF no program at all", 0o755, True, id="cannot be started"),
        pytest.param(b"#!/bin/sh\n", 0o644, False, id="not executable"),
    ],
)
def test_smi_that_does_not_start(root: Root, content: bytes, mode: int, present: bool) -> None:
    root.worker().write("/usr/bin/nvidia-smi", content, mode)
    seen = look(root.layout)
    assert (seen.smi_present, seen.smi_code, seen.gpus) == (present, None, ())
    assert bool(seen.smi_error) is present


def test_a_folder_called_nvidia_smi_is_no_program(root: Root) -> None:
    root.worker()
    root.layout.at("/usr/bin/nvidia-smi").unlink()
    root.layout.at("/usr/bin/nvidia-smi").mkdir()
    assert look(root.layout).smi_present is False


# --- MIG --------------------------------------------------------------------------------

LISTING = (
    f"GPU 0: NVIDIA A100-SXM4-40GB (UUID: {gpu_uuid(0)})\n"
    f"  MIG 3g.20gb     Device  0: (UUID: {mig_uuid(0)})\n"
    f"  MIG 1c.3g.20gb  Device  1: (UUID: MIG-{gpu_uuid(0)}/1/0)\n"
    "  MIG 1g.5gb      Device  2: (UUID: nonsense)\n"
    f"GPU 1: NVIDIA A100-SXM4-40GB (UUID: {gpu_uuid(1)})\n"
)


def test_mig_devices_belong_to_the_gpu_above_them(root: Root) -> None:
    root.worker(2).smi(row(0, mig="Enabled"), row(1, mig="Disabled"), listing=LISTING)
    first, second = look(root.layout).gpus
    assert first.mig == (
        Mig("0:0", mig_uuid(0), "3g.20gb"),
        Mig("0:1", f"MIG-{gpu_uuid(0)}/1/0", "1c.3g.20gb"),
    )
    assert (first.mig_on, second.mig_on, second.mig) == (True, False, ())


def test_mig_off_needs_no_listing(root: Root) -> None:
    root.worker().smi(row(0, mig="Disabled"), listing=LISTING)
    assert look(root.layout).gpus[0].mig == ()
    assert len(root.smi_calls()) == 1


# --- CUDA -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("head", "version"),
    [
        ("| NVIDIA-SMI 580.95.05   Driver Version: 580.95.05   CUDA Version: 13.0     |", "13.0"),
        ("| NVIDIA-SMI 595.10   KMD Version: 595.10   CUDA UMD Version: 13.2    |", "13.2"),
        ("| NVIDIA-SMI 580.95.05   Driver Version: 580.95.05   CUDA Version: N/A      |", ""),
        ("garbage", ""),
    ],
)
def test_cuda_version(root: Root, head: str, version: str) -> None:
    root.smi(plain=f"Thu Jan  1\n+----+\n{head}\n")
    assert cuda_version(root.layout) == version


def test_cuda_version_is_unknown_without_or_with_a_hanging_nvidia_smi(root: Root) -> None:
    assert cuda_version(root.layout) == ""
    root.smi(extra="exec sleep 60")
    assert cuda_version(root.layout, timeout=0.3) == ""


# --- the place --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("container", "vm", "kind"),
    [
        ("none", "none", "metal"),
        ("none", "kvm", "vm"),
        ("lxc", "none", "lxd"),
        ("lxc", "kvm", "lxd"),
        ("docker", "none", "container"),
        ("systemd-nspawn", "kvm", "container"),
        ("wsl", "microsoft", "vm"),
    ],
)
def test_place_by_systemd(root: Root, container: str, vm: str, kind: str) -> None:
    root.place(container=container, vm=vm)
    assert look(root.layout).place.kind == kind


def test_place_by_environment_where_systemd_cannot_say(root: Root) -> None:
    root.write("/proc/1/environ", "HOME=/\0container=lxc\0TERM=linux\0")
    assert look(root.layout).place.kind == "lxd"


@pytest.mark.parametrize(
    ("container", "kind"), [("none", "vm"), ("container-other", "lxd"), ("docker", "lxd")]
)
def test_place_by_socket_inside_a_container_only(root: Root, container: str, kind: str) -> None:
    root.place(container=container, vm="kvm")
    root.write("/dev/lxd/sock", "")
    assert look(root.layout).place.kind == kind


@pytest.mark.parametrize(
    ("hostname", "etc", "name"),
    [
        ("juju-abc123-0\n", "other\n", "juju-abc123-0"),
        ("juju-abc123-0.lxd\n", "", "juju-abc123-0"),
        ("", "from-etc\n", "from-etc"),
        ("$(reboot)\n", "", ""),
        ("-gpu\n", "", ""),
        ("", "", ""),
    ],
)
def test_place_name(root: Root, hostname: str, etc: str, name: str) -> None:
    root.write("/proc/sys/kernel/hostname", hostname)
    root.write("/etc/hostname", etc)
    assert look(root.layout).place.name == name


@pytest.mark.parametrize(
    ("uid_map", "unprivileged"),
    [
        (FULL_RANGE, False),
        ("0 0 4294967295", False),
        (MAPPED_RANGE, True),
        ("0 0 65536\n", True),
        ("", False),
    ],
)
def test_place_unprivileged(root: Root, uid_map: str, unprivileged: bool) -> None:
    root.write("/proc/self/uid_map", uid_map)
    assert look(root.layout).place.unprivileged is unprivileged


def test_place_survives_a_broken_systemd_detect_virt(root: Root) -> None:
    root.program("systemd-detect-virt", "exit 127")
    assert look(root.layout).place.kind == "metal"


# --- it never raises --------------------------------------------------------------------


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


rows = st.lists(
    st.one_of(
        st.just(row(0)),
        st.just(row(1, mig="Enabled")),
        st.lists(
            st.one_of(st.text(max_size=12), st.sampled_from([gpu_uuid(3), "0", "[N/A]", "1"])),
            max_size=9,
        ).map(", ".join),
        st.text(max_size=80),
        st.binary(max_size=80).map(lambda data: data.decode(errors="replace")),
    ),
    max_size=5,
)


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    lines=rows,
    listing=st.one_of(st.just(LISTING), st.text(max_size=80)),
    status=st.sampled_from([0, 2, 14, 255]),
)
def test_smi_garbage_never_becomes_a_gpu(
    tmp_path_factory: pytest.TempPathFactory, lines: list[str], listing: str, status: int
) -> None:
    root = Root(tmp_path_factory.mktemp("root"))
    root.smi(status=status, listing=listing.encode("utf-8", "replace").decode())
    root.write("/smi/rows", "\n".join(lines).encode("utf-8", "replace"))
    answer = smi.ask(root.layout, timeout=10)
    known = {gpu_uuid(0), gpu_uuid(1), gpu_uuid(3)}
    assert {gpu.uuid for gpu in answer.gpus} <= known
    assert answer.error.isprintable()
    assert len(answer.error) <= 120
    assert all(mig.uuid.startswith("MIG-") for gpu in answer.gpus for mig in gpu.mig)
