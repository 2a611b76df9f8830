"""A throw-away copy of this machine, with a systemd of its own, and how to use it.

    with Machine.boot(MachineOptions(), report=print) as machine:
        machine.run(["systemctl", "is-system-running"], timeout=10)

The copy is an overlay on "/" in memory: apt, dpkg, systemd and containers are real
in it, and nothing of it stays, even if this process is killed (`keeper` sees to
that).  It has a network of its own with nothing but loopback; apt inside reaches
the world through a proxy here (`relay`), and `listen` puts servers before it.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from . import booting, layer, namespaces, relay
from .booting import MachineError

__all__ = ["Completed", "Machine", "MachineError", "MachineOptions"]

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_KEEPER = Path(__file__).with_name("keeper.py")


@dataclass(frozen=True)
class MachineOptions:
    """What kind of copy to boot.

    Attributes:
        hostname: the machine's name.
        binds: folders that it is to see read-only at their own paths, even if they lie on
            another file system than "/".
    """

    hostname: str = "gpu-worker-0"
    binds: tuple[Path, ...] = ()


@dataclass(frozen=True)
class Completed:
    """What a command that ran to its end left behind."""

    argv: tuple[str, ...]
    returncode: int
    stdout: str
    stderr: str


@dataclass(frozen=True)
class Machine:
    """A booted copy.

    Attributes:
        leader: its systemd's process id, as seen from here.
        place: its folder; mounts in it are visible through `disk` only.
    """

    leader: int
    keeper: int
    place: Path

    @classmethod
    @contextmanager
    def boot(
        cls,
        options: MachineOptions | None = None,
        *,
        report: Callable[[str], None] = lambda _: None,
    ) -> Iterator[Machine]:
        """Boot a copy for the length of a `with` block.

        Args:
            options: what kind of copy.
            report: told each step that takes seconds.

        Raises:
            MachineError: not root, or this machine can't be copied.
        """
        if os.geteuid() != 0:
            raise MachineError("The rehearsal's machine needs root: run it with sudo.")
        if not Path("/proc/self").exists():
            raise MachineError("The rehearsal needs /proc: mount -t proc proc /proc")
        options = options or MachineOptions()
        place = Path(tempfile.mkdtemp(prefix="rehearsal-"))
        request = {
            "place": str(place),
            "hostname": options.hostname,
            "binds": [str(path.resolve()) for path in options.binds if not _is_copied(path)],
        }
        keeper = subprocess.Popen(
            [sys.executable, str(_KEEPER), json.dumps(request)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        try:
            leader = booting.wait_for_boot(keeper, report)
            machine = cls(leader, keeper.pid, place)
            machine._settle()
            with relay.serve(machine.listen(relay.PORT)):
                yield machine
        finally:
            booting.end(keeper)
            shutil.rmtree(place, ignore_errors=True)

    def _settle(self) -> None:
        """Wait for systemd, and open the control groups for containers inside."""
        self.run(["systemctl", "is-system-running", "--wait"], timeout=90, check=False)
        script = (
            "[ -e /sys/fs/cgroup/cgroup.controllers ] && exit 0\n"
            "mount -o remount,rw /sys/fs/cgroup\n"
            "for d in /sys/fs/cgroup/*/; do\n"
            '  mount -o remount,rw,bind "$d" && mount -o remount,rw "$d"\n'
            "done 2>/dev/null\n"
            "exit 0\n"
        )
        self.run(["sh", "-c", script], timeout=20)

    @property
    def root(self) -> Path:
        """The machine's root as seen from here.

        An absolute symbolic link below it leads out into this machine: use `run` to
        follow links.
        """
        return Path(f"/proc/{self.leader}/root")

    @property
    def disk(self) -> Path:
        """The folder that holds `upper` (all that differs from this machine) and `outside`."""
        holder = booting.children(booting.children(self.keeper)[0])[0]
        return Path(f"/proc/{holder}/root{self.place}")

    @property
    def outside(self) -> Path:
        """A folder in memory that the machine sees as /run/outside."""
        return self.root / layer.OUTSIDE.lstrip("/")

    def command(self, argv: Sequence[str]) -> list[str]:
        """Return the command that runs `argv` inside."""
        return ["nsenter", "-t", str(self.leader), "-m", "-u", "-i", "-n", "-p", "-r", "-w", *argv]

    def run(
        self,
        argv: Sequence[str],
        *,
        timeout: float,
        check: bool = True,
        env: Mapping[str, str] | None = None,
        stdin: str | None = None,
    ) -> Completed:
        """Run a command inside to its end, or kill it and its children at its limit.

        Args:
            argv: the command; the machine's root is its folder.
            timeout: the limit, in seconds.
            check: raise if the exit status isn't 0.
            env: variables to add to PATH, HOME and LANG.
            stdin: text for its standard input.

        Raises:
            MachineError: it ran out of time or (with check) failed.
        """
        environment = {"PATH": PATH, "HOME": "/root", "LANG": "C.UTF-8", **(env or {})}
        process = subprocess.Popen(
            self.command(argv),
            stdin=subprocess.DEVNULL if stdin is None else subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            env=environment,
            start_new_session=True,
        )
        try:
            stdout, stderr = process.communicate(stdin, timeout=timeout)
        except BaseException as error:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            if not isinstance(error, subprocess.TimeoutExpired):
                raise
            raise MachineError(f"{' '.join(argv)} did not finish within {timeout:g} s") from None
        done = Completed(tuple(argv), process.returncode, stdout, stderr)
        if check and done.returncode != 0:
            end = (stderr.strip() or stdout.strip())[-800:]
            raise MachineError(f"{' '.join(argv)} failed with status {done.returncode}: {end}")
        return done

    def shell(self, script: str, *, timeout: float = 30, check: bool = True) -> str:
        """Run a few lines of sh inside; return what they printed."""
        return self.run(["sh", "-eu", "-c", script], timeout=timeout, check=check).stdout

    def python(
        self, script: str, *, timeout: float, path: Sequence[Path] = (), check: bool = True
    ) -> Completed:
        """Run Python source inside with the Python that runs this, and `path` to import from."""
        env = {"PYTHONPATH": os.pathsep.join(str(folder) for folder in path)}
        env["PYTHONDONTWRITEBYTECODE"] = "1"
        return self.run([sys.executable, "-"], timeout=timeout, env=env, stdin=script, check=check)

    def write(self, path: str, content: str | bytes, *, mode: int = 0o644) -> None:
        """Write a file inside, with the folders above it."""
        target = self.root / path.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content.encode() if isinstance(content, str) else content)
        target.chmod(mode)

    def read(self, path: str) -> str:
        """Return a file's text, links followed as the machine does."""
        return self.run(["cat", "--", path], timeout=10).stdout

    def copy_in(self, source: Path, target: str) -> None:
        """Copy a file or a folder of this machine to a path inside."""
        there = self.root / target.lstrip("/")
        there.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, there, symlinks=True, dirs_exist_ok=True)
        else:
            shutil.copy2(source, there)

    def listen(self, port: int) -> socket.socket:
        """Return a socket, served from here, on a port of the machine's loopback."""
        return namespaces.listen(self.leader, port)


def _is_copied(path: Path) -> bool:
    """Return whether the copy has a path anyway: it lies on the same file system as "/"."""
    hidden = ("/tmp", "/run", "/dev")  # the machine has its own
    resolved = path.resolve()
    if any(resolved.is_relative_to(folder) for folder in hidden):
        return False
    return os.stat(resolved).st_dev == os.stat("/").st_dev
