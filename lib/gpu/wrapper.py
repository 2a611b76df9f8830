"""Renders the wrapper that stands in for runc, and the table it looks requests up in.

The wrapper (templates/runc-gpu-wrapper.j2) needs nothing but its awk programs, which lie
beside it, a POSIX shell, awk, and flock where GPUs are leased; it calls no jq: what its
one awk pass cannot judge gets no GPU, or is refused if it is a task.
"""

from __future__ import annotations

import hashlib
import re
import shlex
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from files import read_text, write_file
from host import Layout

WRAPPER_NAME = "runc-gpu-wrapper"
# What each awk program consists of.
_PARTS = {"judge": ("common", "wrapper"), "leases": ("common", "leases")}
_TEMPLATES = Path(__file__).resolve().parents[2] / "templates"
_SCRIPT_LIMIT = 1 << 16  # bytes; a runtime's binary has megabytes


@dataclass(frozen=True)
class WrapperSettings:
    """What the template needs: every path that the wrapper uses.

    Attributes:
        itself: where the wrapper lies, under the one name that only goes when no call is under way.
        runc_real: the original runc of the wrapper's own tree.
        nvidia_runtime_real: NVIDIA's own nvidia-container-runtime.
        chain_config: the configuration that NVIDIA's runtime gets for a task.
        devices: the table that `ensure_devices` writes.
        lock: a folder that stays; whoever holds a lock on it hands out GPUs.
        proc: where procfs is mounted.
        cgroups: where control groups are mounted.
        control_node: the device node that every use of the driver opens.
        module_version: the loaded module's version, in sysfs.
        proc_version: the same in a sentence, in procfs.
        driver_libraries: folders where libnvidia-ml.so.VERSION may lie.
        mawk: the awk to run; if it isn't there, the one in PATH.
        judge: the awk program that judges a spec.
        leases: the awk program that hands out GPUs.
    """

    itself: Path
    runc_real: Path
    nvidia_runtime_real: Path
    chain_config: Path
    devices: Path
    lock: Path
    proc: Path
    cgroups: Path
    control_node: Path
    module_version: Path
    proc_version: Path
    driver_libraries: tuple[Path, ...]
    mawk: Path
    judge: Path
    leases: Path

    @classmethod
    def of(cls, layout: Layout, tree: Path) -> WrapperSettings:
        """Return the settings of the wrapper in one release tree."""
        return cls(
            itself=tree / "bin" / WRAPPER_NAME,
            runc_real=tree / "bin/runc.real",
            nvidia_runtime_real=layout.nvidia_runtime_real,
            chain_config=layout.chain_config,
            devices=layout.gpu_devices,
            lock=layout.gpu_devices.parent,
            proc=layout.at("/proc"),
            cgroups=layout.at("/sys/fs/cgroup"),
            control_node=layout.at("/dev/nvidiactl"),
            module_version=layout.at("/sys/module/nvidia/version"),
            proc_version=layout.at("/proc/driver/nvidia/version"),
            driver_libraries=layout.driver_libraries,
            mawk=layout.at("/usr/bin/mawk"),
            **{part: tree / "bin" / name for part, (name, _) in _programs().items()},
        )


@dataclass(frozen=True)
class DeviceTable:
    """What tasks may ask for.

    Attributes:
        allowed: the full UUIDs that a task gets that asks for nothing or for all.
        spellings: what a task may write, and the full UUID that it stands for.
        capabilities: the driver capabilities on offer: "all" or a comma-separated list.
        sharing: "shared", "balanced" or "exclusive".
        default: what a task gets that asks for nothing: "all", or a number of GPUs.
        timeout: seconds that a task waits for GPUs which others hold.
    """

    allowed: tuple[str, ...]
    spellings: tuple[tuple[str, str], ...]
    capabilities: str
    sharing: str = "shared"
    default: str = "all"
    timeout: int = 0


def render(layout: Layout, tree: Path) -> str:
    """Return the wrapper for a release tree as the text of a shell script."""
    return render_settings(WrapperSettings.of(layout, tree))


def render_settings(settings: WrapperSettings) -> str:
    """Return the wrapper as the text of a shell script; all values are quoted for it."""
    values = {name: _quoted(value) for name, value in asdict(settings).items()}
    values["itself"] = str(settings.itself)  # in the first line, which the kernel reads
    return _environment().get_template(f"{WRAPPER_NAME}.j2").render(values)


@lru_cache(maxsize=1)  # it keeps what it has compiled, for the next tree's wrapper
def _environment() -> Environment:
    return Environment(  # noqa: S701 - a shell script, quoted by shlex, not HTML
        loader=FileSystemLoader(_TEMPLATES),
        undefined=StrictUndefined,
        keep_trailing_newline=True,
    )


def _quoted(value: object) -> str | list[str]:
    if isinstance(value, tuple):
        return [shlex.quote(str(each)) for each in value]
    return shlex.quote(str(value))


@lru_cache(maxsize=1)
def _programs() -> dict[str, tuple[str, str]]:
    """Return the awk programs: each one's file name, which changes with its text, and the text."""
    found = {}
    for program, parts in _PARTS.items():
        text = "".join((_TEMPLATES / f"runc-gpu-{part}.awk").read_text() for part in parts)
        digest = hashlib.sha256(text.encode()).hexdigest()[:12]
        found[program] = (f"runc-gpu-{program}-{digest}.awk", text)
    return found


def ensure_wrapper(layout: Layout, tree: Path) -> bool:
    """Write a release tree's wrapper beside its runc, by rename; True if it changed.

    By rename, because a shell reads a script while it runs it.  Its awk programs come first.
    Those of an earlier wrapper stay for its calls, which may read them minutes later.
    """
    texts = _programs().values()
    written = [write_file(tree / "bin" / name, text) for name, text in texts]
    wrapper = write_file(tree / "bin" / WRAPPER_NAME, render(layout, tree), mode=0o755)
    return wrapper or any(written)


def files_of(tree: Path) -> list[Path]:
    """Return where a release tree's wrapper and awk programs lie, those of earlier ones too."""
    folder = tree / "bin"
    programs = {folder / name for name, _ in _programs().values()}
    return [folder / WRAPPER_NAME, *sorted(programs | {*folder.glob("runc-gpu-*.awk")})]


def is_wrapper(path: Path) -> bool:
    """Return whether a file is a GPU wrapper: this charm's or a hand-made one of its kind.

    Such a thing is a small script that knows both the original it stands for and the
    variable it is about; a script that NVIDIA ships for its runtime lacks the first.
    """
    try:
        with open(path, "rb") as file:
            head = file.read(_SCRIPT_LIMIT + 1)
    except OSError:
        return False
    if not head.startswith(b"#!") or len(head) > _SCRIPT_LIMIT:
        return False
    originals = (b"runc.real", b"nvidia-container-runtime.real")
    return b"NVIDIA_VISIBLE_DEVICES" in head and any(name in head for name in originals)


def ensure_devices(layout: Layout, table: DeviceTable) -> bool:
    """Write the table of devices; True if it changed.

    Raises:
        ValueError: a value holds a character that would end its field or line.
    """
    lines = [
        ("capabilities", table.capabilities),
        ("allowed", ",".join(table.allowed)),
        ("sharing", table.sharing),
        ("default", table.default),
        ("timeout", str(table.timeout)),
        *(("device", spelling, uuid) for spelling, uuid in table.spellings),
    ]
    return write_file(layout.gpu_devices, "".join(_line(fields) for fields in lines))


def sharing_now(layout: Layout) -> str:
    """Return how tasks share the GPUs by the table as it is: "shared" if it doesn't say."""
    found = re.search(r"^sharing\t(.+)$", read_text(layout.gpu_devices) or "", re.MULTILINE)
    return found.group(1) if found else "shared"


def _line(fields: Iterable[str]) -> str:
    fields = tuple(fields)
    if any(not each.isprintable() for each in fields):
        raise ValueError(f"not fit for the table of devices: {fields!r}")
    return "\t".join(fields) + "\n"
