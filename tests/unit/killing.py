"""Kills a piece of code before its Nth change to the machine.

The places are found by tracing: Python's own audit events name every call that
changes a file or starts a process, so no hand-written list can miss one.
"""

from __future__ import annotations

import os
import signal
import sys
import traceback
from collections.abc import Callable
from typing import Any

_CHANGES = (
    "os.rename",
    "os.link",
    "os.symlink",
    "os.remove",
    "os.mkdir",
    "os.rmdir",
    "os.chmod",
    "os.chown",
    "os.truncate",
    "subprocess.Popen",
)


def killed_before_change(number: int, code: Callable[[], Any]) -> bool:
    """Run `code` in a child that is killed (SIGKILL) before its Nth change.

    Returns:
        True if it was killed, False if it ended before it made that many changes.

    Raises:
        AssertionError: it raised something.
    """
    child = os.fork()
    if child == 0:
        _run_and_exit(number, code)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL
        return True
    assert os.WEXITSTATUS(status) == 0, "the code under test raised; see its output"
    return False


def _run_and_exit(number: int, code: Callable[[], Any]) -> None:
    left = number

    def count(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal left
        if event in _CHANGES or (event == "open" and _opens_for_writing(arguments)):
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(count)
    try:
        code()
    except BaseException:
        traceback.print_exc()
        os._exit(1)
    os._exit(0)


def _opens_for_writing(arguments: tuple[Any, ...]) -> bool:
    flags = arguments[2]
    return isinstance(flags, int) and bool(flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))
