"""What is wrong on machines whose driver is loaded and whose GPU is there."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gpu.diagnosis import Finding
from tests.unit.diagnoses import DOCKER, LXD, MIG, VM, failing
from tests.unit.gpu_roots import VERSION

# An inventory beside one without a fault, the finding, the sentence.
WITH_DRIVER = [
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
