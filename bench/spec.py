"""The spec of a container in Concourse's shape and size (8.3, worker/runtime/spec).

What is bulky in it is the seccomp profile: containerd's own default, as its ctr gives it,
which is the list that Concourse's goes back to.
"""

from __future__ import annotations

from typing import Any

KINDS = {
    "check": (),
    "get": ("/tmp/build/get",),
    "put": ("/tmp/build/put", "/tmp/build/put/source"),
    "task": ("/tmp/build/0c0ffee1", "/tmp/build/0c0ffee1/source", "/tmp/build/0c0ffee1/built"),
}
ROOT = "/run/bench/root"
_NOBODY = 4294967294
_FLAGS = ("nosuid", "noexec", "nodev")
_KEPT = (
    *("CHOWN", "DAC_OVERRIDE", "FSETID", "FOWNER", "MKNOD", "NET_RAW", "SETGID", "SETUID"),
    *("SETFCAP", "SETPCAP", "NET_BIND_SERVICE", "SYS_CHROOT", "KILL", "AUDIT_WRITE"),
)
_PARAMS = ("REPOSITORY", "BRANCH", "VERSION", "PLATFORM", "TARGET", "CACHE_FROM", "LOG_LEVEL")
_CUDA = ("NVARCH=x86_64", "CUDA_VERSION=12.8.1", "LIBRARY_PATH=/usr/local/cuda/lib64/stubs")


def build(kind: str, seccomp: dict[str, Any], env: tuple[str, ...] = ()) -> dict[str, Any]:
    """Return a container's spec, its keys in the order in which Go writes them.

    Args:
        kind: one of KINDS.
        seccomp: the profile.
        env: what the task's params set beyond the usual.
    """
    every = [f"CAP_{name}" for name in _KEPT]
    sets = ("bounding", "effective", "inheritable", "permitted")
    mapping = [
        {"containerID": 0, "hostID": _NOBODY, "size": 1},
        {"containerID": 1, "hostID": 1, "size": _NOBODY - 1},
    ]
    return {
        "ociVersion": "1.0.2",
        "process": {
            "user": {"uid": 0, "gid": 0},
            "args": ["/bin/sleep", "600"],
            "env": [*_env(kind), *env],
            "cwd": "/",
            "capabilities": dict.fromkeys(sets, every),
        },
        "root": {"path": ROOT},
        "hostname": "5a4d1e00-c0de-4000-8000-0000000f00d5",
        "mounts": _mounts(kind),
        "annotations": {"user": ""},
        "linux": {
            "uidMappings": mapping,
            "gidMappings": mapping,
            "resources": {"devices": _devices()},
            "cgroupsPath": "/garden/bench",
            "namespaces": [
                {"type": each} for each in ("pid", "ipc", "uts", "mount", "network", "user")
            ],
            "seccomp": seccomp,
        },
    }


def _env(kind: str) -> list[str]:
    env = ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"]
    if kind != "task":
        return [*env, "BUILD_TEAM_ID=1", "BUILD_TEAM_NAME=main"]
    params = [f"{name}=a value of some length, {name.lower()}" for name in _PARAMS]
    return [*env, *_CUDA, "ATC_EXTERNAL_URL=https://concourse.example.com", *params]


def _devices() -> list[dict[str, Any]]:
    numbers = (
        (1, 3),
        (1, 5),
        (1, 7),
        (1, 8),
        (1, 9),
        (5, 0),
        (5, 1),
        (5, 2),
        (136, None),
        (10, 200),
    )
    rules: list[dict[str, Any]] = [{"allow": False, "access": "rwm"}]
    for major, minor in numbers:
        rule = {"allow": True, "type": "c", "major": major, "minor": minor, "access": "rwm"}
        rules.append({key: value for key, value in rule.items() if value is not None})
    return rules


def _mounts(kind: str) -> list[dict[str, Any]]:
    mounts = [
        _mount("/proc", "proc", "proc", *_FLAGS),
        _mount("/dev", "tmpfs", "tmpfs", "nosuid", "strictatime", "mode=755", "size=65536k"),
        _mount("/dev/pts", "devpts", "devpts", "nosuid", "noexec", "newinstance", "ptmxmode=0666"),
        _mount("/dev/shm", "tmpfs", "shm", *_FLAGS, "mode=1777"),
        _mount("/dev/mqueue", "mqueue", "mqueue", *_FLAGS),
        _mount("/usr", "bind", "/usr", "rbind", "ro"),
        _mount("/tmp/gdn-init", "bind", "/bin/true", "bind"),
        _mount("/scratch", "bind", "/run/bench/volume", "bind", "rw"),
    ]
    volume = "/run/bench/volume"  # with a folder for what lies in it by itself
    mounts += [_mount(where, "bind", volume, "bind", "rw") for where in KINDS[kind]]
    for name in ("hosts", "resolv.conf", "hostname"):
        mounts.append(_mount(f"/etc/{name}", "bind", "/run/bench/file", "bind", "rw"))
    return mounts


def _mount(destination: str, kind: str, source: str, *options: str) -> dict[str, Any]:
    return {"destination": destination, "type": kind, "source": source, "options": list(options)}
