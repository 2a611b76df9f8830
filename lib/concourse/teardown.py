"""Takes a worker off the machine: it stops, or retires, and its traces go.

What Concourse leaves behind when it is stopped is meant to be found again: shims,
containers, mounts.  On removal they are ended and unmounted first, and nothing is
deleted while anything is still mounted below it.
"""

from __future__ import annotations

import itertools
import logging
import os
import re
import signal
from contextlib import suppress
from pathlib import Path

from concourse import network, service, theirs, trees
from concourse.errors import ConcourseError
from concourse.observation import NAMESPACE, TASKS, is_registered
from concourse.sockets import processes
from files import read_text
from files import remove as remove_path
from host import CommandError, Layout, run, wait_until

log = logging.getLogger(__name__)

_REFUSED_LIMIT = 15.0  # seconds to drain for a worker that the web doesn't know or refuses
_STOP_LIMIT = 30.0  # seconds between being told to stop at once and being killed
_RUNC_STATE = f"/run/containerd/runc/{NAMESPACE}"


def stop(layout: Layout, *, retire: bool, timeout: float) -> None:
    """Stop the worker for good: it isn't started with the machine any more.

    Retiring (SIGUSR2) drains it and has the web forget it; otherwise it lands (finishes
    its builds).  When the time is over it is told to stop at once (a retiring worker then
    unregisters without draining: worker/beacon.go), and killed if it doesn't.

    Args:
        layout: the paths.
        retire: whether the web is to forget the worker.
        timeout: how long it may drain, in seconds.  Even without builds it takes up to 40:
            the web answers with a heartbeat, one every 30 (tsa/heartbeater.go).

    Raises:
        host.CommandError: systemd refused.
    """
    state = service.show(layout)
    if state.enabled:
        service.systemctl(layout, "disable", service.UNIT)
    if service.is_down(layout):
        return
    if state.pid == 0:  # it waits for its next try
        service.systemctl(layout, "stop", service.UNIT, timeout=60)
        return
    if not is_registered(layout, state):
        timeout = min(timeout, _REFUSED_LIMIT)
    if not retire or state.active == "deactivating":
        service.queue(layout, "stop")  # lands; takes the place of a restart, too
    if retire:
        log.info("The worker retires")
        service.send(layout, "SIGUSR2")
    if not wait_until(lambda: _has_ended(layout), timeout=timeout, interval=1.0):
        log.warning("The worker did not drain within %g s and is stopped", timeout)
        service.send(layout, "SIGTERM")
    if not wait_until(lambda: _has_ended(layout), timeout=_STOP_LIMIT, interval=0.5):
        service.queue(layout, "stop")
        service.send(layout, "SIGKILL")
        wait_until(lambda: service.is_down(layout), timeout=_STOP_LIMIT, interval=0.5)
    if not service.is_down(layout):
        service.systemctl(layout, "stop", service.UNIT, timeout=60)


def _has_ended(layout: Layout) -> bool:
    """Return whether the worker's process has ended; systemd may yet start another.

    One that no gateway takes ends with an error when it is told to stop, which systemd
    would answer with its next try (seen with v8.3.0).
    """
    return service.show(layout).pid == 0


def retire(layout: Layout) -> bool:
    """Have the web drain and forget the worker, which isn't started again; waits for nothing.

    Returns:
        True if it was told to, which it is once.

    Raises:
        host.CommandError: systemd refused.
    """
    state = service.show(layout)
    if not state.enabled:
        return False
    if state.pid:
        log.info("The worker retires")
        service.send(layout, "SIGUSR2")
    # Last, so that a kill in between repeats the rest.
    service.systemctl(layout, "disable", service.UNIT)
    return True


def remove(layout: Layout) -> None:
    """Remove everything that this package made, so that the machine is as it was found.

    A worker that still runs is stopped at once.  A work folder that is a mount (Juju
    storage) is emptied and stays.  A Concourse that was adopted goes back to /opt/concourse,
    and a service of the same name that was replaced comes back; neither is started.

    Raises:
        ConcourseError: something below the work folder can't be unmounted; then that
            folder is left as it is.  Or the adopted Concourse can't be moved.
        host.CommandError: systemd refused.
    """
    stop(layout, retire=False, timeout=0)
    service.remove_unit(layout, layout.worker_unit)
    end_containers(layout)
    network.remove(layout)
    for folder in (layout.at(TASKS), layout.at(_RUNC_STATE), layout.work_dir):
        _clear(layout, folder)
    trees.give_back(layout)
    trees.remove_all(layout)
    theirs.put_back(layout, layout.worker_env)
    for path in (layout.keys, layout.gpu_containerd, layout.state / "downloads"):
        remove_path(path)
    for folder in (layout.gpu_config, layout.config_dir, layout.work_dir.parent):
        with suppress(OSError):  # others' files are in it, or it isn't there
            folder.rmdir()


def end_containers(layout: Layout) -> None:
    """Kill the containers and shims that outlived the worker."""
    state = layout.at(_RUNC_STATE)
    runc = next((str(path) for path in (layout.runc_real, layout.runc) if path.exists()), "")
    for container in sorted(state.iterdir()) if runc and state.is_dir() else ():
        _try([runc, "--root", str(state), "delete", "--force", container.name])
    for process in processes(layout):
        if _is_shim((read_text(process / "cmdline") or "").split("\0")):
            with suppress(OSError):
                os.kill(int(process.name), signal.SIGKILL)


def mounts_below(layout: Layout, folder: Path) -> list[str]:
    """Return what is mounted below a folder, the deepest first; the folder itself doesn't count."""
    inside = str(folder.resolve()) + "/"
    found = []
    for line in (read_text(layout.at("/proc/self/mountinfo")) or "").splitlines():
        point = re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), line.split()[4])
        if point.startswith(inside):
            found.append(point)
    return sorted(found, key=lambda point: point.count("/"), reverse=True)


def _is_shim(arguments: list[str]) -> bool:
    if not Path(arguments[0]).name.startswith("containerd-shim"):
        return False
    pairs = itertools.pairwise(arguments)
    return any(pair in (("-namespace", NAMESPACE), ("--namespace", NAMESPACE)) for pair in pairs)


def _clear(layout: Layout, folder: Path) -> None:
    """Unmount what is below a folder, then remove it; links are removed, not followed."""
    if folder.is_symlink() or not folder.is_dir():
        remove_path(folder)
        return
    for _ in range(3):  # mounts can lie on top of each other
        for point in mounts_below(layout, folder):
            if not _try([layout.program("umount"), "--", point]):
                _try([layout.program("umount"), "--lazy", "--", point])
    if left := mounts_below(layout, folder):
        raise ConcourseError(f"{left[0]} can't be unmounted", remedy="unmount it", retry=True)
    if os.path.ismount(folder):
        for path in folder.iterdir():
            remove_path(path)
        return
    remove_path(folder)


def _try(argv: list[str]) -> bool:
    """Run a command that may fail; True if it didn't."""
    try:
        return run(argv, timeout=30, check=False).returncode == 0
    except CommandError as error:
        log.warning("%s", error)
        return False
