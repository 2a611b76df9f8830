from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpu.diagnosis import LONGEST, Finding, diagnose
from gpu.inventory import Gpu, GpuInventory, Mig, Place, look
from tests.unit.gpu_roots import VERSION, Root, gpu_uuid, mig_uuid, row

METAL = Place("metal", "node-1")
VM = Place("vm", "vm-1")
LXD = Place("lxd", "juju-abc123-0", unprivileged=True)
DOCKER = Place("container", "3f2a")
MIG = Gpu(0, gpu_uuid(0), mig_on=True, mig=(Mig("0:0", mig_uuid(0), "1g.5gb"),))
GOOD = GpuInventory(
    pci=("0000:01:00.0",),
    bound=(("0000:01:00.0", "nvidia"),),
    module=VERSION,
    libraries=(VERSION,),
    control=True,
    uvm=True,
    nodes=("/dev/nvidia0",),
    smi_present=True,
    smi_code=0,
    gpus=(Gpu(0, gpu_uuid(0)),),
    driver=VERSION,
    place=METAL,
)
NO_NODES: dict[str, Any] = {"nodes": (), "control": False, "gpus": (), "smi_code": None}
NO_DRIVER: dict[str, Any] = {**NO_NODES, "module": "", "bound": (), "driver": ""}


def failing(code: int | None, said: str = "", **more: object) -> dict[str, Any]:
    return {"gpus": (), "driver": "", "smi_code": code, "smi_error": said, **more}


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
    # --- user-space parts
    pytest.param(
        failing(18, "Failed to initialize NVML", libraries=("580.82.07",)),
        Finding.VERSION_MISMATCH,
        "Driver/library mismatch: kernel module 580.95.05, library 580.82.07: reboot",
        id="metal: mismatch",
    ),
    pytest.param(
        failing(18, "Failed to initialize NVML", libraries=("580.82.07",), place=LXD),
        Finding.VERSION_MISMATCH,
        "Driver/library mismatch: kernel module 580.95.05, library 580.82.07: sudo apt install "
        "{nvidia-utils,libnvidia-compute}-580=580.95.05*",
        id="LXD: mismatch",
    ),
    pytest.param(
        failing(18, libraries=("580.82.07",), place=LXD, module_server=True),
        Finding.VERSION_MISMATCH,
        "Driver/library mismatch: kernel module 580.95.05, library 580.82.07: sudo apt install "
        "{nvidia-utils,libnvidia-compute}-580-server=580.95.05*",
        id="LXD: mismatch, server flavour",
    ),
    pytest.param(
        failing(255, "Failed to initialize NVML: Driver/library version mismatch"),
        Finding.VERSION_MISMATCH,
        "Driver/library mismatch: kernel module 580.95.05, library of another version: reboot",
        id="metal: mismatch that only nvidia-smi sees",
    ),
    pytest.param(
        failing(13, libraries=("570.10", VERSION)),
        Finding.VERSION_MISMATCH,
        "Driver/library mismatch: kernel module 580.95.05, library 570.10: reboot",
        id="metal: a function is missing in the library",
    ),
    pytest.param(
        failing(None, libraries=("580.82.07",), smi_present=False),
        Finding.VERSION_MISMATCH,
        "Driver/library mismatch: kernel module 580.95.05, library 580.82.07: reboot",
        id="metal: mismatch comes before a missing nvidia-smi",
    ),
    pytest.param(
        failing(None, libraries=("580.82.07",), smi_present=False, place=LXD),
        Finding.NO_SMI,
        "nvidia-smi is missing: nvidia-utils 580.95.05 has to be installed; the action retry-gpu "
        "tries it at once",
        id="LXD: a missing nvidia-smi brings the right libraries",
    ),
    pytest.param(
        failing(None, libraries=(), smi_present=False, nodes=(), control=False),
        Finding.NO_SMI,
        "nvidia-smi is missing: nvidia-utils 580.95.05 has to be installed; the action retry-gpu "
        "tries it at once",
        id="metal: nvidia-smi missing, which creates the nodes",
    ),
    pytest.param(
        {"libraries": ()},
        Finding.LIBRARY_MISSING,
        "libnvidia-ml.so.580.95.05 is missing: sudo apt install "
        "{nvidia-utils,libnvidia-compute}-580=580.95.05*",
        id="library where the wrapper doesn't look",
    ),
    pytest.param(
        failing(12, "NVIDIA-SMI couldn't find libnvidia-ml.so library in your system."),
        Finding.LIBRARY_MISSING,
        "nvidia-smi finds no libnvidia-ml.so.580.95.05: sudo apt install "
        "{nvidia-utils,libnvidia-compute}-580=580.95.05*",
        id="status 12",
    ),
    # --- nvidia-smi in trouble
    pytest.param(
        failing(None, "nvidia-smi did not finish within 10 s", smi_hung=True),
        Finding.SMI_HUNG,
        "nvidia-smi hangs in the driver: reboot",
        id="metal: hangs",
    ),
    pytest.param(
        failing(None, "nvidia-smi did not finish within 10 s", smi_hung=True, place=LXD),
        Finding.SMI_HUNG,
        "nvidia-smi hangs in the driver: reboot the LXD host",
        id="LXD: hangs",
    ),
    pytest.param(
        failing(15),
        Finding.LOST,
        "GPU lost, it does not answer any more: reboot",
        id="status 15",
    ),
    pytest.param(
        failing(255, "Unable to determine the device handle for GPU0: 0000:01:00.0: Unknown Error"),
        Finding.LOST,
        "GPU lost, it does not answer any more: reboot",
        id="off the bus by its words",
    ),
    pytest.param(
        failing(0, lost=("GPU 0",), place=VM),
        Finding.LOST,
        "GPU lost, it does not answer any more: stop and start this virtual machine",
        id="VM: the only GPU lost",
    ),
    pytest.param(
        failing(4, "Insufficient Permissions", place=LXD),
        Finding.SMI_FAILED,
        "nvidia-smi may not open the GPU: run `lxc restart juju-abc123-0` on the LXD host",
        id="status 4 in LXD",
    ),
    pytest.param(
        failing(6, "No devices were found"),
        Finding.SMI_FAILED,
        "The NVIDIA driver finds no GPU that works: reboot; see dmesg",
        id="status 6",
    ),
    pytest.param(
        failing(0),
        Finding.SMI_FAILED,
        "nvidia-smi says nothing that can be read: reboot",
        id="status 0 and no GPU",
    ),
    pytest.param(
        failing(8),
        Finding.SMI_FAILED,
        "A GPU's power cable is not attached: attach it, then reboot",
        id="status 8",
    ),
    pytest.param(
        failing(9),
        Finding.SMI_FAILED,
        "The NVIDIA driver does not answer: reboot; see dmesg",
        id="status 9",
    ),
    pytest.param(
        failing(10),
        Finding.SMI_FAILED,
        "A GPU's interrupts don't reach the kernel: reboot; see dmesg",
        id="status 10",
    ),
    pytest.param(
        failing(255, "Failed to initialize NVML: Unknown Error", place=LXD),
        Finding.SMI_FAILED,
        "nvidia-smi fails with status 255 (Failed to initialize NVML: Unknown Error): run `lxc "
        "restart juju-abc123-0` on the LXD host",
        id="LXD: the device cgroup was rewritten",
    ),
    pytest.param(
        failing(None, "nvidia-smi could not be started: Exec format error"),
        Finding.SMI_FAILED,
        "nvidia-smi fails (nvidia-smi could not be started: Exec format error): reboot",
        id="nvidia-smi of another architecture",
    ),
    pytest.param(
        failing(255, "status 255"),
        Finding.SMI_FAILED,
        "nvidia-smi fails with status 255: reboot",
        id="status 255 without a word",
    ),
    # --- nodes
    pytest.param(
        {"control": False},
        Finding.NODES_MISSING,
        "Device node /dev/nvidiactl is missing: sudo nvidia-modprobe -c 0 -u, or reboot",
        id="metal: no control node",
    ),
    pytest.param(
        {"nodes": ()},
        Finding.NODES_MISSING,
        "Device node /dev/nvidia0 is missing: sudo nvidia-modprobe -c 0 -u, or reboot",
        id="metal: no GPU node",
    ),
    pytest.param(
        {"control": False, "place": LXD},
        Finding.NODES_MISSING,
        "Device node /dev/nvidiactl is missing: run `lxc restart juju-abc123-0` on the LXD host",
        id="LXD: no control node",
    ),
    pytest.param(
        {"uvm": False, "place": LXD},
        Finding.NODES_MISSING,
        "/dev/nvidia-uvm is not passed through: sudo nvidia-modprobe -c 0 -u on the LXD host, "
        "then restart the container",
        id="LXD: no node for CUDA",
    ),
    pytest.param(
        {"uvm": False, "place": DOCKER},
        Finding.NODES_MISSING,
        "/dev/nvidia-uvm is not passed through: sudo nvidia-modprobe -c 0 -u on its host, "
        "then restart the container",
        id="container: no node for CUDA",
    ),
    pytest.param(
        {"closed": (("/dev/nvidia0", "0660"), ("/dev/nvidiactl", "0660"))},
        Finding.NODES_CLOSED,
        "/dev/nvidia0 is 0660, closed to unprivileged tasks: load the nvidia module with "
        "NVreg_DeviceFileMode=0666 (modprobe.d)",
        id="metal: closed nodes",
    ),
    pytest.param(
        {"closed": (("/dev/nvidia0", "0660"),), "place": LXD},
        Finding.NODES_CLOSED,
        "/dev/nvidia0 is 0660, closed to unprivileged tasks: set mode=0666 on its gpu device "
        "with `lxc config device set`",
        id="LXD: closed nodes",
    ),
    # --- MIG
    pytest.param(
        {"gpus": (replace(MIG, mig=()),)},
        Finding.MIG_EMPTY,
        "MIG mode is on but there is no MIG device: create one (sudo nvidia-smi mig -cgi … -C), "
        "or turn it off (-mig 0)",
        id="MIG without a MIG device",
    ),
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


READY_TABLE = [
    pytest.param({}, "", id="one GPU"),
    pytest.param({"place": LXD}, "", id="in LXD"),
    pytest.param({"pci": (), "bound": ()}, "", id="PCI hidden, driver and nodes here"),
    pytest.param({"libraries": ("570.10", VERSION)}, "", id="an old library lies about"),
    pytest.param({"gpus": (MIG,)}, "", id="MIG devices"),
    pytest.param(
        {"place": LXD, "pci": ("0000:01:00.0", "0000:02:00.0")},
        "",
        id="LXD: one of the host's two passed through",
    ),
    pytest.param(
        {
            "pci": ("0000:01:00.0", "0000:02:00.0"),
            "bound": (("0000:01:00.0", "nvidia"), ("0000:02:00.0", "vfio-pci")),
        },
        "",
        id="metal: the other one given to a VM",
    ),
    pytest.param({"lost": ("GPU 1",)}, "GPU 1 lost: reboot", id="a neighbour lost"),
    pytest.param(
        {"pci": ("0000:01:00.0", "0000:02:00.0")},
        "1 of 2 GPUs missing in nvidia-smi: see dmesg",
        id="metal: fewer in nvidia-smi than on the bus",
    ),
    pytest.param(
        {"place": LXD, "nodes": ("/dev/nvidia0", "/dev/nvidia3")},
        "1 of 2 GPUs missing in nvidia-smi: see dmesg",
        id="LXD: fewer in nvidia-smi than nodes",
    ),
    pytest.param(
        {"smi_code": 14, "smi_error": "WARNING: infoROM is corrupted at gpu 0000:01:00.0"},
        "nvidia-smi warns: a GPU's infoROM is corrupted",
        id="infoROM",
    ),
    pytest.param(
        {"smi_code": 255, "smi_error": "Something odd"},
        "nvidia-smi warns: Something odd",
        id="a failing status in spite of a GPU",
    ),
    pytest.param(
        {
            "gpus": (Gpu(0, gpu_uuid(0)), Gpu(1, gpu_uuid(1), mig_on=True)),
            "pci": ("0000:01:00.0", "0000:02:00.0"),
        },
        "GPU 1 in MIG mode without a MIG device",
        id="one GPU idle in MIG mode",
    ),
    pytest.param(
        {"module": "390.157", "libraries": ("390.157",)},
        "driver 390.157 is too old for CUDA 11 (450 or newer)",
        id="an ancient driver",
    ),
    pytest.param(
        {"uvm": False},
        "/dev/nvidia-uvm is not there yet: nvidia-modprobe makes it on demand",
        id="metal: no node for CUDA yet",
    ),
]


@pytest.mark.parametrize(("seen", "note"), READY_TABLE)
def test_ready(seen: dict[str, Any], note: str) -> None:
    found = diagnose(replace(GOOD, **seen))
    assert (found.finding, found.message, found.note) == (Finding.READY, "", note)
    assert found.usable
    assert found.can_set_up


inventories = st.builds(
    GpuInventory,
    pci=st.lists(st.sampled_from(["0000:01:00.0", "0000:02:00.0"]), unique=True).map(tuple),
    bound=st.lists(
        st.tuples(
            st.sampled_from(["0000:01:00.0", "0000:02:00.0"]),
            st.sampled_from(["nvidia", "nouveau", "vfio-pci"]),
        ),
        max_size=2,
    ).map(tuple),
    open_only=st.booleans(),
    module=st.sampled_from(["", VERSION, "390.157"]),
    module_server=st.booleans(),
    driver_built=st.booleans(),
    driver_source=st.booleans(),
    kernel=st.sampled_from(["", "6.8.0-60-generic", "6." + "8" * 62]),
    secure_boot=st.booleans(),
    libraries=st.lists(st.sampled_from([VERSION, "580.82.07"]), unique=True).map(tuple),
    control=st.booleans(),
    uvm=st.booleans(),
    nodes=st.lists(st.sampled_from(["/dev/nvidia0", "/dev/nvidia1"]), unique=True).map(tuple),
    closed=st.sampled_from([(), (("/dev/nvidia0", "0660"),)]),
    smi_present=st.booleans(),
    smi_code=st.one_of(st.none(), st.integers(0, 255)),
    smi_hung=st.booleans(),
    smi_error=st.text(max_size=120),
    gpus=st.sampled_from([(), (Gpu(0, gpu_uuid(0)),), (MIG,), (replace(MIG, mig=()),)]),
    lost=st.sampled_from([(), ("GPU 1",)]),
    driver=st.sampled_from(["", VERSION]),
    place=st.builds(
        Place,
        st.sampled_from(["metal", "vm", "lxd", "container"]),
        st.sampled_from(["", "juju-abc123-0", "n" * 63]),
        st.booleans(),
    ),
)


@settings(max_examples=500, deadline=None)
@given(seen=inventories)
def test_any_inventory_has_one_sentence_and_only_whole_ones_are_ready(seen: GpuInventory) -> None:
    found = diagnose(seen)
    assert len(found.message) <= LONGEST
    assert bool(found.message) is (found.finding is not Finding.READY)
    if found.usable:
        assert seen.gpus
        assert seen.control
        assert seen.nodes
        assert seen.uvm or not seen.place.contained
        assert seen.module in seen.libraries
        assert not seen.closed


def test_a_scratch_machine_goes_from_nothing_to_ready_step_by_step(tmp_path: Path) -> None:
    root = Root(tmp_path)
    steps: list[Finding] = []

    def note() -> None:
        steps.append(diagnose(look(root.layout)).finding)

    root.lxd()
    note()
    root.pci(1)
    note()
    root.module()
    note()
    root.nodes(1, 0o660)
    note()
    root.library("580.82.07")
    root.smi(status=18, stderr="Failed to initialize NVML: Driver/library version mismatch")
    note()
    root.library()
    root.smi(row(0))
    note()
    root.nodes(1)
    note()
    assert steps == [
        Finding.NO_GPU,
        Finding.NO_DRIVER,
        Finding.NOT_PASSED_THROUGH,
        Finding.NO_SMI,
        Finding.VERSION_MISMATCH,
        Finding.NODES_CLOSED,
        Finding.READY,
    ]
