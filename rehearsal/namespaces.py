"""The few system calls on namespaces that Python has no names for before 3.12."""

from __future__ import annotations

import ctypes
import os
import socket
import threading
from pathlib import Path

CLONE_NEWNS = 0x00020000
CLONE_NEWNET = 0x40000000
_MS_BIND = 0x1000
_MS_REC = 0x4000
_MS_PRIVATE = 1 << 18
_MNT_DETACH = 2
_libc = ctypes.CDLL(None, use_errno=True)


def _check(status: int, what: str) -> None:
    if status != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def own_mounts() -> None:
    """Give this process mounts of its own that no other namespace ever sees.

    A chroot becomes the root of these mounts: in one, "/" is no mount point, mounts
    can't be made private and no process may make a user namespace.  Entering the new
    namespace once more leads to its true root, and an open folder leads back.
    """
    here = os.stat("/")
    _check(_libc.unshare(CLONE_NEWNS), "unshare")
    chroot = os.open("/", os.O_RDONLY | os.O_DIRECTORY)
    cwd = os.getcwd()
    with open("/proc/self/ns/mnt", "rb") as namespace:
        _check(_libc.setns(namespace.fileno(), CLONE_NEWNS), "setns")
    _mount(None, "/", _MS_REC | _MS_PRIVATE)
    if not os.path.samestat(here, os.stat("/")):
        os.fchdir(chroot)
        place = os.getcwd()
        _mount(".", ".", _MS_BIND | _MS_REC)
        os.chdir(place)  # into the new mount, which lies above the open folder
        _check(_libc.pivot_root(b".", b"."), "pivot_root")
        _check(_libc.umount2(b".", _MNT_DETACH), "umount")
    os.close(chroot)
    os.chdir(cwd)


def _mount(source: str | None, target: str, flags: int) -> None:
    encoded = source.encode() if source else None
    _check(_libc.mount(encoded, target.encode(), None, flags, None), f"mount {target}")


def listen(pid: int, port: int) -> socket.socket:
    """Return a socket that listens on a port of 127.0.0.1 in another process' network.

    The socket stays in the network where it was made, whoever uses it: what serves
    it runs here, and reaches what this machine reaches.
    """
    made: list[socket.socket | OSError] = []

    def work() -> None:  # setns on a network changes the calling thread alone
        try:
            with Path(f"/proc/{pid}/ns/net").open("rb") as namespace:
                _check(_libc.setns(namespace.fileno(), CLONE_NEWNET), "setns")
            made.append(socket.create_server(("127.0.0.1", port)))
        except OSError as error:
            made.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    result = made[0]
    if isinstance(result, OSError):
        raise result
    return result
