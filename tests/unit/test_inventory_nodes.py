"""The libraries of NVIDIA's driver on a machine, and its device nodes."""

from __future__ import annotations

import pytest

from gpu.inventory import look
from tests.unit.gpu_roots import VERSION, Root, row


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
