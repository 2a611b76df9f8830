"""The calls of the chain that are under way: what they still need can't be taken away."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from gpu.wrapper import WRAPPER_NAME
from host import Layout, wait_until

LIMIT = 10.0  # seconds; a call lasts well under one


def are_over(layout: Layout, trees: Sequence[Path], *, timeout: float = LIMIT) -> bool:
    """Wait for the calls that are under way to end; return whether they did.

    Args:
        layout: the paths.
        trees: the release trees whose wrapper may have been called.
        timeout: how long to wait, in seconds.
    """
    free = 0

    def is_free() -> bool:
        nonlocal free
        free = 0 if under_way(layout, trees) else free + 1
        return free == 2  # a call whose shell is just being started shows at the second look

    return wait_until(is_free, timeout=timeout, interval=0.05)


def under_way(layout: Layout, trees: Sequence[Path]) -> bool:
    """Return whether a process is on its way through the chain: a wrapper, or what it became.

    A script is its shell's first argument, a program what the process executes.  A create has
    runc run the toolkit's hooks, which read the chain's configuration until it ends.
    """
    bins = {tree / "bin" for tree in trees} | {layout.concourse / "bin"}
    scripts = {str(folder / name) for folder in bins for name in ("runc", WRAPPER_NAME)}
    scripts |= {str(layout.nvidia_runtime), str(layout.nvidia_runtime_real), str(layout.wrapper)}
    nvidia = {str(layout.nvidia_runtime), str(layout.nvidia_runtime_real)}
    runc = {str(folder / "runc.real") for folder in bins}
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            argv = (process / "cmdline").read_bytes().decode(errors="replace").split("\0")
            program = os.readlink(process / "exe")
            if argv[1:2] and argv[1] in scripts:
                return True
            if program in nvidia or (program in runc and "create" in argv):
                return True
    return False
