"""The ground floor: where things lie, how commands run, how to wait.

Nothing here knows Juju, and nothing but the paths knows Concourse or NVIDIA.
Everything above goes through a `Layout` (every path hangs off its root),
`run` (an argument list, a time limit, captured output), `wait_until`, and the
file primitives of `files`.
"""

from __future__ import annotations

import errno
import os
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import output

_SEARCH = ("usr/sbin", "usr/bin", "sbin", "bin")
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class Trouble(Exception):
    """Something failed; the root of every package's exception family.

    Args:
        what: one clause without a final full stop: what failed.
        retry: whether trying again later, with nothing changed, can help.
        remedy: what the operator can do about it, as one clause; may be empty.
    """

    def __init__(self, what: str, *, retry: bool = False, remedy: str = "") -> None:
        super().__init__(what if not remedy else f"{what}: {remedy}")
        self.what = what
        self.retry = retry
        self.remedy = remedy


class CommandError(Trouble):
    """A command failed, could not be started, or ran out of time.

    Attributes:
        argv: the command.
        returncode: its exit status; None if it never started or was killed at its limit.
        output: the end of what it wrote (standard output, then error), for logs.
        timed_out: whether it was killed at its time limit.
    """

    def __init__(
        self,
        argv: Sequence[str],
        what: str,
        *,
        returncode: int | None = None,
        output: str = "",
        timed_out: bool = False,
    ) -> None:
        super().__init__(what, retry=True)
        self.argv = tuple(argv)
        self.returncode = returncode
        self.output = output[-4000:]
        self.timed_out = timed_out


def trouble_of(error: OSError) -> Trouble:
    """Say in the operator's words what the operating system refused; it may end by itself."""
    path = Path(error.filename2 or error.filename or "")
    named = path.with_name(path.name[1:-4]) if path.match(".*.tmp") else path  # files._temporary
    where = f" ({named})" if path.name else ""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return Trouble(f"the disk is full{where}", retry=True, remedy="free space or inodes")
    if error.errno == errno.EROFS:
        return Trouble(f"the disk is read-only{where}", retry=True, remedy="see dmesg")
    return Trouble(f"{error.strerror or error}{where}", retry=True)


@dataclass(frozen=True)
class Completed:
    """What a command that ran to its end left behind."""

    argv: tuple[str, ...]
    returncode: int
    stdout: str
    stderr: str


@dataclass(frozen=True)
class Layout:
    """Every path that the charm reads or writes, below one root.

    Args:
        root: "/" on a unit; a scratch folder in tests.
    """

    root: Path = Path("/")

    def at(self, path: str) -> Path:
        """Return the place of an absolute machine path below the root."""
        return self.root / path.lstrip("/")

    def program(self, name: str) -> str:
        """Return the absolute path of a system program, found below the root.

        A program that isn't there is named in /usr/bin, so that running it fails by name.
        """
        for folder in _SEARCH:
            candidate = self.root / folder / name
            if os.access(candidate, os.X_OK):
                return str(candidate)
        return str(self.root / "usr/bin" / name)

    # Concourse: /opt/concourse is a symbolic link to one of the trees.
    @property
    def concourse(self) -> Path:
        return self.at("/opt/concourse")

    @property
    def trees(self) -> Path:
        """The folder that holds one release tree a version."""
        return self.at("/opt/concourse-releases")

    @property
    def runc(self) -> Path:
        return self.concourse / "bin/runc"

    @property
    def runc_real(self) -> Path:
        return self.concourse / "bin/runc.real"

    @property
    def work_dir(self) -> Path:
        return self.at("/var/lib/concourse/worker")

    @property
    def config_dir(self) -> Path:
        """What the worker reads at start: environment, keys, GPU settings."""
        return self.at("/etc/concourse")

    @property
    def keys(self) -> Path:
        return self.config_dir / "keys"

    @property
    def worker_env(self) -> Path:
        return self.config_dir / "worker.env"

    @property
    def worker_unit(self) -> Path:
        return self.at("/etc/systemd/system/concourse-worker.service")

    @property
    def state(self) -> Path:
        """The charm's own memory on the machine, readable by root alone."""
        return self.at("/var/lib/concourse-ci-machine")

    # GPU
    @property
    def gpu_config(self) -> Path:
        return self.config_dir / "gpu"

    @property
    def gpu_devices(self) -> Path:
        """The table that the wrapper looks requests up in."""
        return self.gpu_config / "devices"

    @property
    def bundles(self) -> Path:
        """The folder of the bundles of all containers of the worker's containerd."""
        return self.at("/run/containerd/io.containerd.runtime.v2.task/concourse")

    @property
    def gpu_containerd(self) -> Path:
        return self.gpu_config / "containerd.toml"

    @property
    def chain_config(self) -> Path:
        """The nvidia-container-runtime configuration of Concourse's own chain."""
        return self.gpu_config / "nvidia-container-runtime.toml"

    @property
    def nvidia_config(self) -> Path:
        return self.at("/etc/nvidia-container-runtime/config.toml")

    @property
    def nvidia_runtime(self) -> Path:
        return self.at("/usr/bin/nvidia-container-runtime")

    @property
    def nvidia_runtime_real(self) -> Path:
        return self.at("/usr/bin/nvidia-container-runtime.real")

    @property
    def wrapper(self) -> Path:
        """The wrapper's well-known name, a link to the one in the current tree."""
        return self.at("/usr/local/bin/runc-gpu-wrapper")

    @property
    def driver_libraries(self) -> tuple[Path, ...]:
        """Where a driver's libnvidia-ml.so.VERSION may lie."""
        return tuple(
            self.at(folder)
            for folder in (
                "/usr/lib/x86_64-linux-gnu",
                "/usr/lib/aarch64-linux-gnu",
                "/usr/lib64",
                "/usr/lib",
                "/usr/local/nvidia/lib64",
            )
        )


def run(
    argv: Sequence[str],
    *,
    timeout: float,
    env: Mapping[str, str] | None = None,
    check: bool = True,
    stdin: str = "",
    cwd: Path | None = None,
    discard: bool = False,
    cpu_limit: int | None = None,
) -> Completed:
    """Run a command to its end, or kill it and all its children at its limit.

    The child sees a plain environment (PATH, HOME, LANG) and none of the hook's.  One that
    writes more than 16 MiB is killed, too.

    Args:
        argv: the command and its arguments; never goes through a shell.
        timeout: the limit, in seconds.
        env: variables to add.
        check: raise if the exit status isn't 0.
        stdin: text for its standard input.
        cwd: the folder to run in.
        discard: send what it writes to /dev/null, for a command that leaves a child behind
            which would hold a pipe open.
        cpu_limit: seconds of CPU after which the kernel kills it, for a command that may go
            round in circles and outlive a hook that is killed.

    Raises:
        CommandError: not started, killed at a limit, or (with check) a non-zero exit status.
    """
    name = Path(argv[0]).name
    plain = {"PATH": _PATH, "HOME": "/root", "LANG": "C.UTF-8", **(env or {})}
    try:
        process = output.start(argv, plain, stdin, cwd, discard=discard, cpu_limit=cpu_limit)
    except (OSError, ValueError) as error:
        raise CommandError(argv, f"{name} could not be started: {error}") from error
    written: list[bytes] = [b"", b""]
    try:
        output.read(process, written, time.monotonic() + timeout)
    except (subprocess.TimeoutExpired, output.TooMuchError) as limit:
        output.kill_group(process, written)
        timed_out = isinstance(limit, subprocess.TimeoutExpired)
        what = f"did not finish within {timeout:g} s" if timed_out else "wrote without end"
        said = "".join(map(output.text, written))
        raise CommandError(argv, f"{name} {what}", output=said, timed_out=timed_out) from None
    except BaseException:
        output.kill_group(process, written)
        raise
    done = Completed(tuple(argv), process.returncode, *map(output.text, written))
    if check and done.returncode != 0:
        last = (done.stderr.strip() or done.stdout.strip()).splitlines()[-1:]
        what = f"{name} failed with status {done.returncode}" + (f" ({last[0]})" if last else "")
        said = done.stdout + done.stderr
        raise CommandError(argv, what, returncode=done.returncode, output=said)
    return done


def wait_until(ready: Callable[[], bool], *, timeout: float, interval: float = 0.25) -> bool:
    """Ask `ready` again and again until it says yes; the one place that waits.

    Args:
        ready: the question.
        timeout: how long to go on, in seconds.
        interval: the pause between two questions, in seconds.

    Returns:
        Whether it said yes in time.
    """
    deadline = time.monotonic() + timeout
    while not ready():
        if time.monotonic() + interval > deadline:
            return False
        time.sleep(interval)
    return True
