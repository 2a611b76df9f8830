"""Tasks on a machine whose driver, runtime or table of devices is not fit for use."""

from __future__ import annotations

import pytest

from tests.unit.wrapper_rig import DEVICES, MODULE, NVIDIA, REFUSED, RUNC, Rig, spec


def _without_driver(rig: Rig, what: str) -> None:
    library = rig.layout.at(f"/usr/lib/x86_64-linux-gnu/libnvidia-ml.so.{MODULE}")
    if what == "control":
        rig.layout.at("/dev/nvidiactl").unlink()
    elif what == "module":
        rig.layout.at("/sys/module/nvidia/version").unlink()
    elif what == "library":
        library.rename(library.with_name("libnvidia-ml.so.570.1"))
    elif what == "runtime":
        rig.layout.nvidia_runtime_real.unlink()
    else:
        rig.layout.gpu_devices.unlink()


@pytest.mark.parametrize(
    ("what", "reason"),
    [
        ("control", "/dev/nvidiactl is missing"),
        ("module", "no NVIDIA kernel module is loaded"),
        ("library", f"the kernel module is {MODULE}, but libnvidia-ml.so.{MODULE} is missing"),
        ("runtime", "nvidia-container-runtime is not installed"),
        ("table", "the table of its GPUs is missing"),
    ],
)
def test_with_no_usable_driver_only_who_asked_is_told(rig: Rig, what: str, reason: str) -> None:
    _without_driver(rig, what)

    for request_ in ("all", "0", "7"):
        done = rig.create(spec([f"{DEVICES}={request_}"]))
        assert done.status == REFUSED
        assert done.message == f"this worker has no usable GPU: {reason}"
    for env in ([], [f"{DEVICES}=none"], [f"{DEVICES}="]):
        done = rig.create(spec(env))
        assert (done.status, done.new_env) == (RUNC, env)
    assert rig.create(spec([f"{DEVICES}=all"], ["/tmp/build/get"])).status == RUNC


@pytest.mark.parametrize(
    "line",
    [
        f"NVRM version: NVIDIA UNIX x86_64 Kernel Module  {MODULE}  Tue Sep 23 09:55:41 UTC 2025",
        f"NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  {MODULE}  Release Build  *",
    ],
)
def test_the_module_is_found_in_proc_too(rig: Rig, line: str) -> None:
    rig.layout.at("/sys/module/nvidia/version").unlink()
    (rig.root / "proc").unlink()
    rig.put("/proc/driver/nvidia/version", f"{line}\nGCC version:  gcc version 12.2.0\n")

    assert rig.create(spec([])).status == NVIDIA


def test_a_version_that_is_none_is_no_driver(rig: Rig) -> None:
    rig.put("/sys/module/nvidia/version", "../../../../etc\n")
    assert "no NVIDIA kernel module" in rig.create(spec([f"{DEVICES}=0"])).message


@pytest.mark.parametrize("table", ["", "allowed\tGPU-a\n", "capabilities\tall\n", "\0\0\n\t\t\n"])
def test_half_a_table_gives_nothing(rig: Rig, table: str) -> None:
    rig.layout.gpu_devices.write_text(table)
    assert rig.create(spec([f"{DEVICES}=0"])).status == REFUSED
