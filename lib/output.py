"""A command as it runs: how it starts, and what it writes, bounded in time and size."""

from __future__ import annotations

import os
import resource
import selectors
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

# Of a command, in bytes; the most that is read, dpkg's list of all packages, has 100 KiB.
_MOST_OUTPUT = 16 << 20


class TooMuchError(Exception):
    """A command has written more than anybody reads."""


def start(
    argv: Sequence[str],
    env: Mapping[str, str],
    stdin: str,
    cwd: Path | None,
    *,
    discard: bool,
    cpu_limit: int | None,
) -> subprocess.Popen[bytes]:
    """Start a command in a session of its own, for `read`; see `host.run` for the arguments.

    Raises:
        OSError: there is no such program, or no process can be started.
        ValueError: an argument can't be one.
    """

    def bound() -> None:
        resource.setrlimit(resource.RLIMIT_CPU, (cpu_limit or 0, cpu_limit or 0))

    told = subprocess.DEVNULL if discard else subprocess.PIPE
    given = os.memfd_create("stdin")  # a pipe would have to be written to beside all reading
    try:
        os.write(given, stdin.encode())
        os.lseek(given, 0, os.SEEK_SET)
        return subprocess.Popen(
            list(argv),
            stdin=given,
            stdout=told,
            stderr=told,
            env=dict(env),
            cwd=cwd,
            start_new_session=True,
            # Only where it is needed, as it takes a slower kind of fork; there is one thread.
            preexec_fn=bound if cpu_limit is not None else None,  # noqa: PLW1509
        )
    finally:
        os.close(given)


def read(process: subprocess.Popen[bytes], written: list[bytes], deadline: float) -> None:
    """Read what a command writes, into its two places in `written`, until it has ended."""
    chunks: tuple[list[bytes], list[bytes]] = ([], [])
    left = _MOST_OUTPUT
    try:
        with selectors.DefaultSelector() as ready:
            for number, stream in enumerate((process.stdout, process.stderr)):
                if stream is not None:
                    ready.register(stream, selectors.EVENT_READ, chunks[number])
            while ready.get_map():
                if deadline <= time.monotonic():
                    raise subprocess.TimeoutExpired(process.args, 0)
                for key, _ in ready.select(deadline - time.monotonic()):
                    chunk = os.read(key.fd, 1 << 16)
                    key.data.append(chunk)
                    left -= len(chunk)
                    if not chunk:
                        ready.unregister(key.fileobj)
                    if left < 0:
                        raise TooMuchError
        process.wait(timeout=max(deadline - time.monotonic(), 0))
    finally:
        written[:] = [b"".join(each) for each in chunks]


def text(written: bytes) -> str:
    return written.decode(errors="replace").replace("\r\n", "\n").replace("\r", "\n")


def kill_group(process: subprocess.Popen[bytes], written: list[bytes]) -> None:
    """Kill a command's whole session, and read what it last wrote.

    What the kernel holds (state D) is given up on after two seconds.
    """
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    before = list(written)
    with suppress(subprocess.TimeoutExpired, TooMuchError):
        read(process, written, time.monotonic() + 2)
    written[:] = [one + two for one, two in zip(before, written, strict=True)]
    for stream in (process.stdout, process.stderr):
        if stream is not None:
            stream.close()
