"""What nvidia-smi says: the GPUs, their MIG devices, the CUDA version.

Each call opens every GPU and takes from a tenth of a second to several, and on a
broken driver it may never end; so it is asked once a look, and bounded.
"""

from __future__ import annotations

import os
import re
import signal
from dataclasses import dataclass, replace

from files import read_text
from host import CommandError, Completed, Layout, run

_FIELDS = "index,uuid,name,pci.bus_id,memory.total,driver_version"
_MIG_FIELD = "mig.mode.current"  # unknown before branch 450; an unknown field is status 2
_HEX = "[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
_GPU_UUID = re.compile(f"GPU-{_HEX}")
# Up to branch 460 a MIG device is named after its GPU: MIG-GPU-<uuid>/<instance>/<instance>.
_MIG_UUID = re.compile(f"MIG-(?:{_HEX}|GPU-{_HEX}/[0-9]{{1,3}}/[0-9]{{1,3}})")
_LISTED_GPU = re.compile(r"GPU +([0-9]{1,3}):.*\(UUID: *(\S+)\)\s*")
_LISTED_MIG = re.compile(r"\s*MIG +(\S+) +Device +([0-9]{1,3}): *\(UUID: *(\S+)\)\s*")
# "CUDA Version: 13.0"; newer heads tell the user-mode driver's version apart from others.
_CUDA = re.compile(r"CUDA(?: [A-Za-z]+)? Version *: *([0-9]{1,3}\.[0-9]{1,3})")
# Values of a GPU that nobody can use, beside a UUID that may still be known.
_SILENT = frozenset(("[GPU is lost]", "[GPU requires reset]"))
# In state D, with SIGKILL among the signals that wait for the process (proc(5)).
_KILLED = re.compile(r"^State:\tD.*^ShdPnd:\t([0-9a-f]+)", re.MULTILINE | re.DOTALL)
_VERSION = re.compile(r"[0-9]{2,4}(?:\.[0-9]{1,4}){1,2}")

# Exit statuses of nvidia-smi (its manual page); 18 is NVML's number for a mismatch, which
# some branches exit with and others don't.
NO_PERMISSION, NO_DEVICE, NO_POWER, NO_DRIVER, INTERRUPT = 4, 6, 8, 9, 10
NO_LIBRARY, FUNCTION_MISSING, INFOROM, LOST, MISMATCH = 12, 13, 14, 15, 18
_SAID = (
    ("version mismatch", MISMATCH),
    ("is lost", LOST),
    ("fallen off the bus", LOST),
    # All that is said, with status 255 among others, when one GPU of several fell off the bus
    # (seen in reports to NVIDIA/open-gpu-kernel-modules): the others aren't listed either.
    ("determine the device handle", LOST),
    ("insufficient permissions", NO_PERMISSION),
    ("no devices were found", NO_DEVICE),
    ("communicate with the nvidia driver", NO_DRIVER),
    ("find libnvidia-ml", NO_LIBRARY),
)


@dataclass(frozen=True)
class Mig:
    """A MIG device: a part of a GPU that counts as a device of its own.

    Attributes:
        id: "GPU index:MIG index", as in "0:1".
        uuid: "MIG-…", in full.
        name: the profile, as in "1g.10gb".
    """

    id: str
    uuid: str
    name: str


@dataclass(frozen=True)
class Gpu:
    """A GPU that nvidia-smi lists and that answers.

    Attributes:
        index: its number for nvidia-smi on this machine.
        uuid: "GPU-…", in full.
        name: the product, as in "NVIDIA A100-SXM4-40GB".
        pci: its address, as in "00000000:2B:00.0"; may be empty.
        memory_mib: its memory in MiB; None where the driver doesn't say.
        mig_on: whether MIG mode is on; then only its MIG devices compute.
        mig: its MIG devices.
    """

    index: int
    uuid: str
    name: str = "NVIDIA GPU"
    pci: str = ""
    memory_mib: int | None = None
    mig_on: bool = False
    mig: tuple[Mig, ...] = ()


@dataclass(frozen=True)
class Answer:
    """What came of asking nvidia-smi.

    Attributes:
        present: whether there is one to ask.
        code: its exit status; None if it didn't run to its end.
        hung: whether it was killed at its time limit.
        error: its complaint in one printable line of 120 characters at most, or empty.
        gpus: the GPUs that answer, by index.
        lost: those listed that don't: "GPU 1".
        driver: the driver version that it gives.
    """

    present: bool = False
    code: int | None = None
    hung: bool = False
    error: str = ""
    gpus: tuple[Gpu, ...] = ()
    lost: tuple[str, ...] = ()
    driver: str = ""


def is_present(layout: Layout) -> bool:
    """Return whether there is an nvidia-smi that can be run."""
    path = layout.program("nvidia-smi")
    return os.path.isfile(path) and os.access(path, os.X_OK)


def ask(layout: Layout, *, timeout: float) -> Answer:
    """Ask for the GPUs, and for the MIG devices where MIG is on; never raises.

    Args:
        layout: the machine.
        timeout: the limit of each call, in seconds; after a call that reached it
            there is no further one.
    """
    if not is_present(layout):
        return Answer()
    try:
        done = _query(layout, f"{_FIELDS},{_MIG_FIELD}", timeout)
        if done.returncode == 2:
            done = _query(layout, _FIELDS, timeout)
        answer = _read(done)
        if any(gpu.mig_on for gpu in answer.gpus):
            listing = _smi(layout, ["-L"], timeout).stdout
            answer = replace(answer, gpus=_with_mig(answer.gpus, listing))
    except CommandError as error:
        return Answer(present=True, hung=error.timed_out, error=_line(error.what))
    return answer


def _is_stuck(layout: Layout) -> bool:
    """Return whether the kernel still holds an nvidia-smi that was killed at its limit.

    Each further one would be held as well, until none of the machine's processes is left.
    """
    for process in layout.at("/proc").glob("[0-9]*"):
        if (read_text(process / "comm") or "").strip() != "nvidia-smi":
            continue
        found = _KILLED.search(read_text(process / "status") or "")
        if found and int(found[1], 16) & 1 << (signal.SIGKILL - 1):
            return True
    return False


def meaning(error: str, code: int | None) -> int | None:
    """Return the exit status that fits best: by the words, for several troubles share 255."""
    said = error.lower()
    return next((status for words, status in _SAID if words in said), code)


def cuda_version(layout: Layout, *, timeout: float = 10) -> str:
    """Return the newest CUDA version that the driver serves, as in "13.0"; "" if unknown.

    It stands in the head of nvidia-smi's plain output and in no query field.
    """
    if not is_present(layout):
        return ""
    try:
        found = _CUDA.search(_smi(layout, [], timeout).stdout)
    except CommandError:
        return ""
    return found.group(1) if found else ""


def _query(layout: Layout, fields: str, timeout: float) -> Completed:
    return _smi(layout, [f"--query-gpu={fields}", "--format=csv,noheader,nounits"], timeout)


def _smi(layout: Layout, arguments: list[str], timeout: float) -> Completed:
    argv = [layout.program("nvidia-smi"), *arguments]
    if _is_stuck(layout):
        raise CommandError(argv, "an earlier nvidia-smi does not end", timed_out=True)
    return run(argv, timeout=timeout, check=False)


def _read(done: Completed) -> Answer:
    """Read the rows; whatever is no row is a complaint, wherever it was written."""
    gpus: dict[int, Gpu] = {}
    lost: list[str] = []
    driver = ""
    complaints: list[str] = []
    for line in [*done.stdout.splitlines(), *done.stderr.splitlines()]:
        cells = [cell.strip() for cell in line.split(",")]
        if len(cells) < len(_FIELDS.split(",")) or not re.fullmatch("[0-9]{1,3}", cells[0]):
            complaints.append(line)
            continue
        gpu, version = _row(cells)
        if gpu is None:
            lost.append(f"GPU {int(cells[0])}")
            continue
        gpus[gpu.index] = gpu
        driver = driver or version
    error = next((text for text in map(_line, complaints) if text), "")
    if done.returncode and not error:
        error = f"status {done.returncode}"
    ordered = tuple(gpus[index] for index in sorted(gpus))
    return Answer(True, done.returncode, False, error, ordered, tuple(lost), driver)


def _row(cells: list[str]) -> tuple[Gpu | None, str]:
    """Read one row; the GPU is None if it doesn't answer, as its UUID or a value says."""
    mig = cells.pop() if len(cells) > len(_FIELDS.split(",")) else ""
    index, uuid, *name, pci, memory, driver = cells
    if not _GPU_UUID.fullmatch(uuid) or any(cell in _SILENT for cell in cells):
        return None, ""
    product = _line(", ".join(name))
    return (
        Gpu(
            index=int(index),
            uuid=uuid,
            name=product if product and not product.startswith("[") else "NVIDIA GPU",
            pci=pci if re.fullmatch(r"[0-9A-Fa-f:.]+", pci) else "",
            memory_mib=int(memory) if re.fullmatch("[0-9]{1,9}", memory) else None,
            mig_on=mig == "Enabled",
        ),
        driver if _VERSION.fullmatch(driver) else "",
    )


def _with_mig(gpus: tuple[Gpu, ...], listing: str) -> tuple[Gpu, ...]:
    """Give the GPUs in MIG mode the MIG devices that `nvidia-smi -L` lists below them."""
    found: dict[str, list[Mig]] = {}
    owner = index = ""
    for line in listing.splitlines():
        if gpu := _LISTED_GPU.fullmatch(line):
            index, owner = gpu.groups()
        elif (mig := _LISTED_MIG.fullmatch(line)) and _MIG_UUID.fullmatch(mig.group(3)):
            name, number, uuid = mig.groups()
            found.setdefault(owner, []).append(Mig(f"{index}:{number}", uuid, _line(name)))
    return tuple(
        replace(gpu, mig=tuple(found.get(gpu.uuid, ()))) if gpu.mig_on else gpu for gpu in gpus
    )


def _line(text: str) -> str:
    """Make text fit for a status line: printable, single spaces, 120 characters at most."""
    printable = "".join(char if char.isprintable() else " " for char in text[:1000])
    return " ".join(printable.split())[:120]
