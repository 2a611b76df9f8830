"""Creates a container through the worker's chain and looks at the devices it got.

The container is never started: after `runc create` its init waits, and its
/dev can be read through /proc/PID/root.  So the probe needs no image and no
program, just a folder with one executable file for runc to look up.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Iterable
from pathlib import Path

from files import ensure_dir, read_text, remove, write_file
from gpu.errors import GpuError
from host import CommandError, Layout, run

LIMIT = 30.0  # seconds for each call of the chain; it takes well under one
TASK_MOUNT = "/tmp/build/0c0ffee0"  # noqa: S108  the shape that tells a task (wrapper)


def devices_in_container(layout: Layout, *, task: bool) -> tuple[str, ...]:
    """Create a container as Concourse does, and return the GPU nodes that it sees.

    Args:
        layout: where everything lies; the chain is entered at /opt/concourse/bin/runc.
        task: shape it like a task; else like a check.

    Returns:
        Names below /dev that begin with "nvidia", sorted ("nvidia0", "nvidiactl", …).

    Raises:
        GpuError: the container could not be created; the text has the chain's last record.
    """
    identity = f"concourse-ci-machine-probe-{secrets.token_hex(4)}"
    bundle = layout.at("/run") / identity
    try:
        _write_bundle(bundle, identity, task=task)
        _create(layout, bundle, identity)
        pid = (read_text(bundle / "pid") or "").strip()
        dev = Path(f"/proc/{pid}/root/dev")
        return tuple(sorted(node.name for node in dev.iterdir() if node.name.startswith("nvidia")))
    except OSError as error:
        raise GpuError(f"probe container: {error}", retry=True) from error
    finally:
        _delete(layout, bundle, identity)
        remove(bundle)


def gpu_nodes(names: Iterable[str]) -> tuple[str, ...]:
    """Return those of some names below /dev that stand for one whole GPU each."""
    return tuple(name for name in names if re.fullmatch(r"nvidia\d+", name))


def _create(layout: Layout, bundle: Path, identity: str) -> None:
    argv = _runc(layout, bundle)
    argv += ["create", "--bundle", str(bundle), "--pid-file", str(bundle / "pid"), identity]
    try:
        run(argv, timeout=LIMIT, discard=True, cwd=bundle)
    except CommandError as error:
        raise GpuError(f"probe container: {_last_record(bundle) or error.what}") from error


def _delete(layout: Layout, bundle: Path, identity: str) -> None:
    run([*_runc(layout, bundle), "delete", "--force", identity], timeout=LIMIT, check=False)


def _runc(layout: Layout, bundle: Path) -> list[str]:
    log = str(bundle / "log.json")
    return [str(layout.runc), "--root", str(bundle / "state"), "--log", log, "--log-format", "json"]


def _last_record(bundle: Path) -> str:
    """Return the message that a build's log would show: runc's last JSON log record."""
    for line in reversed((read_text(bundle / "log.json") or "").splitlines()):
        try:
            return str(json.loads(line)["msg"])
        except (ValueError, KeyError, TypeError):
            continue
    return ""


def _write_bundle(bundle: Path, identity: str, *, task: bool) -> None:
    rootfs = bundle / "rootfs"
    ensure_dir(bundle, 0o711)
    # Folders that the toolkit's hooks expect in any image.
    for folder in ("dev", "proc", "etc", "usr/bin", "usr/lib", "work", TASK_MOUNT.lstrip("/")):
        ensure_dir(rootfs / folder)
    write_file(rootfs / "probe", "", mode=0o755)
    write_file(bundle / "config.json", json.dumps(_spec(bundle, identity, task=task)))


def _spec(bundle: Path, identity: str, *, task: bool) -> dict[str, object]:
    mounts = [
        {"destination": "/proc", "type": "proc", "source": "proc"},
        {
            "destination": "/dev",
            "type": "tmpfs",
            "source": "tmpfs",
            "options": ["nosuid", "strictatime", "mode=755", "size=65536k"],
        },
    ]
    if task:
        source = str(bundle / "rootfs/work")
        mounts.append(
            {"destination": TASK_MOUNT, "type": "bind", "source": source, "options": ["rbind"]}
        )
    devices = [{"allow": False, "access": "rwm"}]
    devices += [{"allow": True, "type": "c", "major": 1, "access": "rwm"}]
    return {
        "ociVersion": "1.0.2",
        "process": {
            "user": {"uid": 0, "gid": 0},
            "args": ["/probe"],
            "env": ["PATH=/usr/bin"],
            "cwd": "/",
            "noNewPrivileges": True,
        },
        "root": {"path": str(bundle / "rootfs")},
        "mounts": mounts,
        "linux": {
            "cgroupsPath": f"/{identity}",
            "namespaces": [{"type": kind} for kind in ("pid", "mount", "ipc", "uts", "network")],
            "resources": {"devices": devices},
        },
    }
