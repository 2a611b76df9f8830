"""Machines that are ready, with a note at most; any other, and one on its way there."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpu.diagnosis import LONGEST, Finding, diagnose
from gpu.inventory import Gpu, GpuInventory, Place, look
from tests.unit.diagnoses import GOOD, LXD, MIG
from tests.unit.gpu_roots import VERSION, Root, gpu_uuid, row

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
