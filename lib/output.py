"""What a command writes: read while it runs, bounded in time and size."""

from __future__ import annotations

import os
import selectors
import signal
import subprocess
import time
from contextlib import suppress

# Of a command, in bytes; the most that is read, dpkg's list of all packages, has 100 KiB.
_MOST_OUTPUT = 16 << 20


class TooMuchError(Exception):
    """A command has written more than anybody reads."""


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
