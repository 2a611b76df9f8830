"""Scratch roots that look like machines with NVIDIA GPUs, part by part."""

from __future__ import annotations

import shlex
from dataclasses import dataclass, field
from pathlib import Path

from host import Layout

VERSION = "580.95.05"
CLOSED_WORDING = (
    f"NVRM version: NVIDIA UNIX x86_64 Kernel Module  {VERSION}  Tue Sep 23 10:11:41 UTC 2025\n"
    "GCC version:  gcc version 13.3.0 (Ubuntu 13.3.0-6ubuntu2~24.04)\n"
)
OPEN_WORDING = (
    f"NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  {VERSION}  Release Build  "
    "(dvs-builder@U22-I3-AM02-24-3)  Tue Sep 23 09:55:41 UTC 2025\n"
    "GCC version:  gcc version 12.2.0 (Debian 12.2.0-14)\n"
)
FULL_RANGE = "         0          0 4294967295\n"
MAPPED_RANGE = "         0    1000000 1000000000\n"


def gpu_uuid(number: int) -> str:
    return f"GPU-{number:08x}-1111-2222-3333-444444444444"


def mig_uuid(number: int) -> str:
    return f"MIG-{number:08x}-5555-6666-7777-888888888888"


def row(index: int, *, mig: str = "[N/A]", memory: str = "81559", version: str = VERSION) -> str:
    pci = f"00000000:{index + 1:02X}:00.0"
    return f"{index}, {gpu_uuid(index)}, NVIDIA H100 PCIe, {pci}, {memory}, {version}, {mig}"


@dataclass
class Root:
    """A machine below a scratch folder; each method adds one part of it."""

    folder: Path
    layout: Layout = field(init=False)

    def __post_init__(self) -> None:
        self.layout = Layout(self.folder)

    def write(self, path: str, text: str | bytes, mode: int = 0o644) -> Path:
        target = self.layout.at(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(text.encode() if isinstance(text, str) else text)
        target.chmod(mode)
        return target

    def program(self, name: str, script: str) -> None:
        self.write(f"/usr/bin/{name}", f"#!/bin/sh\n{script}\n", 0o755)

    def place(self, *, container: str = "none", vm: str = "none") -> None:
        self.program(
            "systemd-detect-virt",
            f"case $1 in --container) n={container} ;; *) n={vm} ;; esac\n"
            'echo "$n"\n[ "$n" != none ]',
        )

    def lxd(self, name: str = "juju-abc123-0", uid_map: str = MAPPED_RANGE) -> None:
        self.place(container="lxc")
        self.write("/proc/sys/kernel/hostname", f"{name}\n")
        self.write("/proc/self/uid_map", uid_map)

    def device(
        self,
        address: str,
        *,
        vendor: str = "0x10de",
        kind: str = "0x030200",
        number: str = "0x2331",
        driver: str = "",
    ) -> None:
        folder = f"/sys/bus/pci/devices/{address}"
        for name, value in (("vendor", vendor), ("class", kind), ("device", number)):
            self.write(f"{folder}/{name}", f"{value}\n")
        if driver:
            link = self.layout.at(f"{folder}/driver")
            link.symlink_to(f"../../../../bus/pci/drivers/{driver}")

    def pci(self, count: int, *, driver: str = "nvidia", number: str = "0x2331") -> None:
        for index in range(count):
            self.device(f"0000:{index + 1:02x}:00.0", driver=driver, number=number)

    def module(self, version: str = VERSION) -> None:
        self.write("/sys/module/nvidia/version", f"{version}\n")

    def library(self, version: str = VERSION, folder: str = "/usr/lib/x86_64-linux-gnu") -> None:
        self.write(f"{folder}/libnvidia-ml.so.{version}", "a library")

    def nodes(self, count: int, mode: int = 0o666) -> None:
        for name in ("nvidiactl", "nvidia-uvm", *(f"nvidia{index}" for index in range(count))):
            self.write(f"/dev/{name}", "", mode)

    def smi(
        self,
        *rows: str,
        status: int = 0,
        stderr: str = "",
        listing: str = "",
        plain: str = "",
        extra: str = "",
    ) -> None:
        """Put an nvidia-smi there that counts its calls in /smi-calls."""
        self.write("/smi/rows", "".join(f"{line}\n" for line in rows))
        self.write("/smi/listing", listing)
        self.write("/smi/plain", plain)
        self.write("/smi/stderr", stderr)
        data = shlex.quote(str(self.layout.at("/smi")))
        self.program(
            "nvidia-smi",
            f'd={data}\necho "$*" >> "$d/calls"\n{extra}\n'
            'case "$1" in --query*) cat "$d/rows" ;; -L) cat "$d/listing" ;; '
            '*) cat "$d/plain" ;; esac\n'
            f'cat "$d/stderr" >&2\nexit {status}',
        )

    def smi_calls(self) -> list[str]:
        calls = self.layout.at("/smi/calls")
        return calls.read_text().splitlines() if calls.exists() else []

    def worker(self, count: int = 1) -> Root:
        """Make it a metal machine on which everything works."""
        self.place()
        self.write("/proc/sys/kernel/hostname", "node-1.maas\n")
        self.write("/proc/self/uid_map", FULL_RANGE)
        self.pci(count)
        self.module()
        self.library()
        self.nodes(count)
        self.smi(*(row(index) for index in range(count)))
        return self
