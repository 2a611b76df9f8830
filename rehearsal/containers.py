"""Containers made as Concourse makes them: by the worker's containerd, from a spec of its shape.

From containerd on everything is real: its shim calls runc by name, finds what lies first
in the worker's PATH, and that is where the charm's wrapper stands.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from .machine import Machine, MachineError

SOCKET = "/run/containerd/containerd.sock"
NAMESPACE = "concourse"
_CTR = ("/opt/concourse/bin/ctr", "--address", SOCKET, "--namespace", NAMESPACE)
_LIMIT = 60.0
TASK_MOUNT = "/tmp/build/0c0ffee1"  # 8 hex digits of a task's name: what tells a task
_NOBODY = 4294967294  # Concourse gives a container's root the highest user id (runtime/spec)


class RefusedError(Exception):
    """The container was not created; the text is what a build's log would show."""


@contextmanager
def running(
    machine: Machine, handle: str, *, task: bool, env: Mapping[str, str] | None = None
) -> Iterator[None]:
    """Have a container for the length of a `with` block.

    Args:
        machine: where the worker runs.
        handle: the container's id.
        task: a task's container, with its working folder mounted; else a check's.
        env: what the image and the task's params set.

    Raises:
        RefusedError: the runtime would not create it.
    """
    folder = bundle(machine, handle, task=task, env=env)
    try:
        argv = [*_CTR, "run", "--detach", "--config", f"{folder}/spec.json", handle]
        done = machine.run(argv, timeout=_LIMIT, check=False)
        if done.returncode != 0:
            said = re.sub(r'^time=".*\n', "", done.stderr, flags=re.M)  # warnings of ctr's own
            raise RefusedError(said.strip().removeprefix("ctr: "))
        yield
    finally:
        for words in (("tasks", "delete", "--force", handle), ("containers", "delete", handle)):
            machine.run([*_CTR, *words], timeout=_LIMIT, check=False)
        machine.shell(f"rm -rf {folder}")


def work(machine: Machine, handle: str) -> None:
    """Start a process in a container, as a build's is; it ends with the container."""
    words = ["tasks", "exec", "--detach", "--exec-id", "work", handle, "/bin/sleep", "600"]
    machine.run([*_CTR, *words], timeout=_LIMIT)


def bundle(
    machine: Machine, handle: str, *, task: bool, env: Mapping[str, str] | None = None
) -> str:
    """Write a container's root file system and its spec.json; return their folder."""
    folder = f"/run/rehearsal/{handle}"
    _write_root(machine, folder)
    spec = _spec(handle, folder, task=task, env=dict(env or {}))
    machine.write(f"{folder}/spec.json", json.dumps(spec))
    return folder


def devices(machine: Machine, handle: str) -> tuple[str, ...]:
    """Return the GPU nodes in a container's /dev, seen by a process started like a task's.

    The process is a later exec from the spec that containerd stored, as Concourse starts it.

    Raises:
        MachineError: it could not be started.
    """
    words = ["tasks", "exec", "--exec-id", "look", handle, "/bin/ls", "/dev"]
    done = machine.run([*_CTR, *words], timeout=_LIMIT, check=False)
    if done.returncode != 0:
        raise MachineError(f"no process could be started in {handle}: {done.stderr.strip()}")
    return tuple(sorted(name for name in done.stdout.split() if name.startswith("nvidia")))


def _write_root(machine: Machine, folder: str) -> None:
    """Make a root file system around this machine's own /usr."""
    root = f"{folder}/rootfs"
    machine.shell(
        f"mkdir -p {root} {folder}/work\n"
        f"cd {root}\n"
        f"mkdir -p dev etc proc sys usr .{TASK_MOUNT}\n"
        "for name in bin sbin lib lib64; do ln -sfn usr/$name $name; done\n"
        f"chmod -R a+rX {folder}"
    )


def _spec(handle: str, folder: str, *, task: bool, env: dict[str, str]) -> dict[str, Any]:
    mounts = [
        _mount("/proc", "proc", "proc", "nosuid", "noexec", "nodev"),
        _mount("/dev", "tmpfs", "tmpfs", "nosuid", "strictatime", "mode=755", "size=65536k"),
        _mount("/usr", "bind", "/usr", "rbind", "ro"),
    ]
    if task:
        mounts.append(_mount(TASK_MOUNT, "bind", f"{folder}/work", "rbind"))
        env = {"PATH": "/usr/bin:/bin", "ATC_EXTERNAL_URL": "http://127.0.0.1:8080"} | env
    else:
        env = {"PATH": "/usr/bin:/bin", "BUILD_TEAM_ID": "1", "BUILD_TEAM_NAME": "main"} | env
    mapping = [
        {"containerID": 0, "hostID": _NOBODY, "size": 1},
        {"containerID": 1, "hostID": 1, "size": _NOBODY - 1},
    ]
    kinds = ("pid", "mount", "ipc", "uts", "network", "user")
    rules = [{"allow": False, "access": "rwm"}]
    for minor in (3, 5, 7, 8, 9):  # null, zero, full, random, urandom
        rule = {"allow": True, "type": "c", "major": 1, "minor": minor, "access": "rwm"}
        rules.append(rule)
    return {
        "ociVersion": "1.0.2",
        "hostname": handle,
        "process": {
            "user": {"uid": 0, "gid": 0},
            "args": ["/bin/sleep", "600"],
            "env": [f"{name}={value}" for name, value in env.items()],
            "cwd": "/",
            "noNewPrivileges": True,
        },
        "root": {"path": f"{folder}/rootfs"},
        "mounts": mounts,
        "linux": {
            "cgroupsPath": f"/garden/{handle}",
            "namespaces": [{"type": kind} for kind in kinds],
            "uidMappings": mapping,
            "gidMappings": mapping,
            "resources": {"devices": rules},
        },
    }


def _mount(destination: str, kind: str, source: str, *options: str) -> dict[str, Any]:
    return {
        "destination": destination,
        "type": kind,
        "source": source,
        "options": list(options),
    }
