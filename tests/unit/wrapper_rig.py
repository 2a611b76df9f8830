"""A scratch machine for the wrapper: the rendered script between programs that only report."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gpu.wrapper import DeviceTable, ensure_devices, ensure_wrapper
from host import Layout

MODULE = "580.95.05"
TASK = "/tmp/build/0123abcd"
GPU_A = "GPU-aaaaaaaa-0000-4000-8000-000000000000"
GPU_B = "GPU-bbbbbbbb-0000-4000-8000-000000000000"
MIG = "MIG-cccccccc-0000-4000-8000-000000000000"
BOTH = f"{GPU_A},{GPU_B}"
DEVICES = "NVIDIA_VISIBLE_DEVICES"
CAPABILITIES = "NVIDIA_DRIVER_CAPABILITIES"
TABLE = DeviceTable(
    allowed=(GPU_A, GPU_B),
    spellings=(
        ("0", GPU_A),
        ("1", GPU_B),
        ("2:1", MIG),
        (GPU_A, GPU_A),
        (GPU_B, GPU_B),
        (MIG, MIG),
    ),
    capabilities="all",
)
# Debian and Ubuntu come with dash, bash and mawk.  Every shell and every awk is in a pair: the
# shell never sees the spec, and awk never the command line.
SHELLS = (("dash",), ("bash",), ("bash", "--posix"))
AWKS = tuple(awk for awk in ("mawk", "gawk") if shutil.which(awk))
PAIRS = [*((SHELLS[0], awk) for awk in AWKS), (SHELLS[1], AWKS[0]), (SHELLS[2], AWKS[-1])]
PAIR_IDS = [f"{' '.join(shell)}+{awk}" for shell, awk in PAIRS]

RUNC, NVIDIA = 40, 41  # what the stand-ins exit with, and so where the wrapper went
REFUSED = 1

_REPORT = """#!/bin/sh
printf '%s\\0' "$0" "$@" >"{root}/argv"
env -0 >"{root}/env"
exit {status}
"""


def spec(
    env: Sequence[str] | None = ("PATH=/bin",), mounts: Sequence[str] = ("/proc", TASK)
) -> dict[str, Any]:
    """Return a small spec with the keys and the order of containerd's."""
    process: dict[str, Any] = {"user": {"uid": 0, "gid": 0}, "args": ["/bin/init"], "cwd": "/"}
    if env is not None:
        process["env"] = list(env)
    process["rlimits"] = [{"type": "RLIMIT_NOFILE", "hard": 18446744073709551615, "soft": 1}]
    return {
        "ociVersion": "1.2.0",
        "process": process,
        "root": {"path": "rootfs"},
        "mounts": [{"destination": each, "type": "bind", "source": "/x"} for each in mounts],
        "annotations": {"user": "root", 'p"rocess': "{[\\"},
        "linux": {"resources": {"devices": [{"allow": False, "access": "rwm"}]}},
    }


@dataclass(frozen=True)
class Outcome:
    """What one call of the wrapper did."""

    status: int
    output: bytes
    config: bytes
    argv: tuple[str, ...]
    env: dict[str, str]
    records: tuple[dict[str, str], ...]

    @property
    def message(self) -> str:
        """The last error, as containerd would show it."""
        return self.records[-1]["msg"] if self.records else ""

    @property
    def new_env(self) -> list[str]:
        return list(json.loads(self.config)["process"]["env"])


class Rig:
    """A machine whose driver works, below a scratch root."""

    def __init__(self, root: Path, shell: Sequence[str] = ("dash",), awk: str = AWKS[0]) -> None:
        self.root = root
        self.layout = Layout(root)
        self.shell = shell
        self.tree = root / "opt/concourse-releases/8.3.0"
        self.runc = self.tree / "bin/runc"
        self.wrapper = self.tree / "bin/runc-gpu-wrapper"
        self.bundle = root / "run/bundle"
        self.spec = self.bundle / "config.json"
        self.log = root / "log.json"
        for folder in (self.tree / "bin", self.bundle, root / "awk", root / "usr/bin"):
            folder.mkdir(parents=True)
        found = shutil.which(awk)
        assert found
        (root / "awk/awk").symlink_to(found)
        self.program(self.tree / "bin/runc.real", RUNC)
        self.program(self.layout.nvidia_runtime_real, NVIDIA)
        ensure_wrapper(self.layout, self.tree)
        self.runc.symlink_to("runc-gpu-wrapper")
        ensure_devices(self.layout, TABLE)
        (root / "proc").symlink_to("/proc")
        self.put("/dev/nvidiactl")
        self.put("/sys/module/nvidia/version", f"{MODULE}\n")
        self.put(f"/usr/lib/x86_64-linux-gnu/libnvidia-ml.so.{MODULE}")

    def program(self, path: Path, status: int) -> None:
        path.write_text(_REPORT.format(root=self.root, status=status))
        path.chmod(0o755)

    def put(self, path: str, text: str = "") -> None:
        place = self.layout.at(path)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text)

    def create(self, text: dict[str, Any] | str | bytes, *more: str) -> Outcome:
        """Write config.json and create the container as containerd's shim does."""
        if isinstance(text, dict):
            text = json.dumps(text, separators=(",", ":"))
        self.spec.write_bytes(text if isinstance(text, bytes) else text.encode())
        return self.call("create", "--bundle", str(self.bundle), "--pid-file", "p", *more, "an-id")

    def call(self, *argv: str, log: bool = True, env: dict[str, str] | None = None) -> Outcome:
        """Call the wrapper as runc, with the shim's global options in front."""
        shim = ["--root", "/r", "--log", str(self.log), "--log-format", "json"] if log else []
        return self.execute(self.runc, *shim, *argv, env=env)

    def execute(self, program: Path, *argv: str, env: dict[str, str] | None = None) -> Outcome:
        for left in ("argv", "env", "log.json", "output"):
            (self.root / left).unlink(missing_ok=True)
        shell = shutil.which(self.shell[0])
        assert shell
        environment = {"PATH": f"{self.root}/awk:/usr/bin:/bin", **(env or {})}
        output = os.open(self.root / "output", os.O_CREAT | os.O_RDWR)
        here = os.getcwd()
        os.chdir(self.bundle)  # as the shim does
        try:
            pid = os.posix_spawn(
                shell,
                [*self.shell, *self._script(program), *argv],
                environment,
                file_actions=[(os.POSIX_SPAWN_DUP2, output, 1), (os.POSIX_SPAWN_DUP2, output, 2)],
            )
        finally:
            os.chdir(here)
            os.close(output)
        _, status = os.waitpid(pid, 0)
        return self._outcome(os.waitstatus_to_exitcode(status))

    def _script(self, program: Path) -> tuple[str, ...]:
        """Return what the kernel hands to the shell: a wrapper's first line names the wrapper."""
        is_wrapper = program.resolve() == self.wrapper.resolve()
        return (str(self.wrapper), str(program)) if is_wrapper else (str(program),)

    def _outcome(self, status: int) -> Outcome:
        def text(name: str) -> str:
            path = self.root / name
            return path.read_text(errors="surrogateescape") if path.exists() else ""

        variables = [line.partition("=") for line in text("env").split("\0") if line]
        return Outcome(
            status=status,
            output=(self.root / "output").read_bytes(),
            config=self.spec.read_bytes() if self.spec.exists() else b"",
            argv=tuple(text("argv").split("\0")[:-1]),
            env={name: value for name, _, value in variables},
            records=tuple(json.loads(line) for line in text("log.json").splitlines()),
        )
