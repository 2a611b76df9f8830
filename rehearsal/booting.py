"""From a keeper that was started to a machine that takes commands, and its end."""

from __future__ import annotations

import json
import queue
import subprocess
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

LIMIT = 900.0  # seconds; a bare system is first given what it lacks


class MachineError(Exception):
    """The machine can't be had, or a command in it failed; the message is one sentence."""


def wait_for_boot(keeper: subprocess.Popen[str], report: Callable[[str], None]) -> int:
    """Pass on the keeper's steps until the machine's systemd answers; return its pid."""
    news: queue.Queue[dict[str, str] | None] = queue.Queue()

    def listen() -> None:
        assert keeper.stdout is not None
        for line in keeper.stdout:
            with suppress(ValueError):
                news.put(json.loads(line))
        news.put(None)

    threading.Thread(target=listen, daemon=True).start()
    deadline = time.monotonic() + LIMIT
    while time.monotonic() < deadline:
        try:
            fact = news.get(timeout=0.05)
        except queue.Empty:
            fact = {}
        if fact is None:
            raise MachineError("The machine's keeper ended before the machine was up.")
        if "step" in fact:
            report(fact["step"])
        for trouble in (fact.get("error"), fact.get("ended")):
            if trouble is not None:
                raise MachineError(f"This machine can't be copied: {trouble.strip()}")
        leader = _leader(keeper.pid)
        if leader:
            return leader
    raise MachineError("The machine did not boot in time.")


def _leader(keeper: int) -> int:
    """Return the pid of the machine's systemd once it takes commands, else 0.

    keeper - unshare - holder - systemd-nspawn - systemd: each the other's child.
    """
    pid = keeper
    for _ in range(4):
        below = children(pid)
        if not below:
            return 0
        pid = below[-1]
    ready = Path(f"/proc/{pid}/root/run/systemd/private")
    try:
        name = Path(f"/proc/{pid}/comm").read_text().strip()
        return pid if name == "systemd" and ready.exists() else 0
    except OSError:
        return 0


def children(pid: int) -> list[int]:
    found = []
    # Not */stat: glob would look each of them up, and fail on a process that has just ended.
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError, IndexError, ValueError):
            stat = (process / "stat").read_text()
            if int(stat.rpartition(")")[2].split()[1]) == pid:
                found.append(int(process.name))
    return sorted(found)


def end(keeper: subprocess.Popen[str]) -> None:
    """Close the keeper's lifeline and wait until the machine is gone."""
    assert keeper.stdin is not None
    with suppress(OSError):
        keeper.stdin.close()
    try:
        keeper.wait(timeout=20)
    except subprocess.TimeoutExpired:
        keeper.kill()
        keeper.wait()
