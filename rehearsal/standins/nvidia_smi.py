#!/usr/bin/python3
"""Stand-in for nvidia-smi: lists the GPUs that the rehearsal's machine pretends to have.

What it knows it reads at every call from /run/stand-in-gpu.json (written by
`standins.gpu`); beyond that it looks, as the real one does, for the library that
fits the loaded module and for the device nodes.
"""

from __future__ import annotations

import glob
import json
import os
import sys
import time
from typing import Any, NoReturn

STATE = "/run/stand-in-gpu.json"
LIBRARIES = "/usr/lib/*-linux-gnu/libnvidia-ml.so.*.*"
FIELDS = {
    "index": "{index}",
    "uuid": "{uuid}",
    "gpu_uuid": "{uuid}",
    "name": "{name}",
    "pci.bus_id": "{pci}",
    "driver_version": "{driver}",
    "memory.total": "{memory}",
    "memory.used": "0",
    "temperature.gpu": "34",
    "utilization.gpu": "0",
    "power.draw": "26.50",
    "ecc.errors.uncorrected.volatile.total": "0",
    "retired_pages.pending": "[N/A]",
    "remapped_rows.failure": "0",
    "mig.mode.current": "{mig}",
    "gpu_recovery_action": "None",
}


def fail(text: str, status: int) -> NoReturn:
    """End as the real one does: the complaint on standard output."""
    print(text)
    sys.exit(status)


def main() -> None:
    """Answer `-L`, `--query-gpu=… --format=csv,noheader[,nounits]`, or show the table's head."""
    try:
        with open(STATE, encoding="utf-8") as file:
            state: dict[str, Any] = json.load(file)
    except OSError:
        state = {}
    if state.get("trouble") == "hang":
        time.sleep(3600)
    gpus = usable(state)
    query = next((arg[12:] for arg in sys.argv if arg.startswith("--query-gpu=")), None)
    if "-L" in sys.argv or "--list-gpus" in sys.argv:
        for gpu in gpus:
            print(f"GPU {gpu['index']}: {gpu['name']} (UUID: {gpu['uuid']})")
    elif query is not None:
        rows(gpus, query.split(","), state)
    elif len(sys.argv) == 1:
        table(gpus, state)
    else:
        fail(f"Invalid argument: {sys.argv[1]}", 2)


def usable(state: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the GPUs that can be opened; end with the real one's status if none can."""
    driver = state.get("driver", "")
    if not driver:
        fail(
            "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver. "
            "Make sure that the latest NVIDIA driver is installed and running.\n",
            9,
        )
    versions = [path.partition(".so.")[2] for path in glob.glob(LIBRARIES)]
    if not versions:
        fail("NVIDIA-SMI couldn't find libnvidia-ml.so library in your system.", 12)
    if driver not in versions:
        library = sorted(versions)[-1]
        text = "Failed to initialize NVML: Driver/library version mismatch"
        fail(f"{text}\nNVML library version: {library}", 18)
    if state.get("trouble") == "fail" or not os.path.exists("/dev/nvidiactl"):
        fail("Failed to initialize NVML: Unknown Error", 255)
    gpus = [gpu for gpu in state["gpus"] if os.path.exists(f"/dev/nvidia{gpu['index']}")]
    if not gpus:
        fail("No devices were found", 6)
    if len(gpus) == 1 and gpus[0]["lost"]:
        fail("Unable to determine the device handle for GPU0: GPU is lost.", 15)
    return gpus


def rows(gpus: list[dict[str, Any]], fields: list[str], state: dict[str, Any]) -> None:
    """Print one line of comma-separated values a GPU."""
    for field in fields:
        if field not in FIELDS:
            fail(f'Field "{field}" is not a valid field to query.', 2)
    for gpu in gpus:
        values = {**gpu, "driver": state["driver"], "memory": 24564, "mig": "Disabled"}
        if gpu["lost"]:
            values |= {"memory": "[GPU is lost]", "mig": "[GPU is lost]"}
        print(", ".join(FIELDS[field].format(**values) for field in fields))


def table(gpus: list[dict[str, Any]], state: dict[str, Any]) -> None:
    """Print the head of the plain output, the only place that names the CUDA version."""
    driver = state["driver"]
    head = f"NVIDIA-SMI {driver}  Driver Version: {driver}  CUDA Version: 13.0"
    print(f"+{'-' * 77}+\n| {head:<75} |\n| {'(a stand-in of the rehearsal)':<75} |\n+{'-' * 77}+")
    for gpu in gpus:
        print(f"| {gpu['index']:>3}  {gpu['name']:<40} {gpu['pci']:<28} |")


if __name__ == "__main__":
    main()
