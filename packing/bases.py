"""The bases that the charm is packed for, and what fits each."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Release:
    """An Ubuntu release: its code name, and the version that its python3 is of."""

    codename: str
    python: str


@dataclass(frozen=True)
class Arch:
    """An architecture by its Debian name: the machine's name, and ELF's number for it."""

    machine: str
    elf: int


RELEASES = {
    "22.04": Release("jammy", "3.10"),
    "24.04": Release("noble", "3.12"),
    "26.04": Release("resolute", "3.14"),
}
# The ELF header's e_machine: EM_X86_64 and EM_AARCH64 (elf.h).
ARCHES = {"amd64": Arch("x86_64", 62), "arm64": Arch("aarch64", 183)}
