"""What systemd knows about a service of ours, and how it is told things.

Nothing here waits for a service: every request is queued, and a hook goes on.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from concourse import theirs
from concourse.errors import ConcourseError
from files import write_file
from host import CommandError, Completed, Layout, run

log = logging.getLogger(__name__)

UNIT = "concourse-worker.service"
WEB = "concourse-web.service"
_LIMIT = 30.0  # seconds for a systemctl that only asks or queues
_PROPERTIES = {
    "LoadState": "not-found",
    "ActiveState": "inactive",
    "SubState": "dead",
    "MainPID": "0",
    "Result": "success",
    "UnitFileState": "",
    "NeedDaemonReload": "no",
    "InvocationID": "",
    "ActiveEnterTimestampMonotonic": "0",
}


@dataclass(frozen=True)
class UnitState:
    """A service as systemd sees it (org.freedesktop.systemd1(5)).

    Attributes:
        load: "loaded", "not-found", "masked", "bad-setting", …
        active: "active", "activating", "deactivating", "inactive", "failed", …
        sub: such as "running", "stop", "auto-restart".
        pid: of the main process; 0 if there is none.
        result: "success", or how it failed: "exit-code", "signal", "timeout", …
        enabled: whether it starts with the machine.
        reload_needed: whether systemd knows an older unit file than the one on disk.
        invocation: the id of this run of it, as the journal has it.
        active_since: when it became active, in seconds of the monotonic clock.
    """

    load: str
    active: str
    sub: str
    pid: int
    result: str
    enabled: bool
    reload_needed: bool
    invocation: str
    active_since: float

    @property
    def is_down(self) -> bool:
        """Whether it has no process and no next try."""
        return self.active in ("inactive", "failed") and self.pid == 0

    @property
    def waits_for_restart(self) -> bool:
        """Whether it failed and systemd starts it again in a moment.

        The sub state is auto-restart-queued for an instant since systemd 254.
        """
        return self.active == "activating" and self.sub.startswith("auto-restart")


def systemctl(layout: Layout, *arguments: str, timeout: float = _LIMIT) -> Completed:
    """Run systemctl; a failure raises host.CommandError."""
    return run([layout.program("systemctl"), *arguments], timeout=timeout)


def show(layout: Layout, unit: str = UNIT) -> UnitState:
    """Return what systemd knows about a service; CommandError if it doesn't answer."""
    asked = systemctl(layout, "show", unit, f"--property={','.join(_PROPERTIES)}", timeout=10)
    found = dict(_PROPERTIES)
    for line in asked.stdout.splitlines():
        name, equals, value = line.partition("=")
        if equals and name in found:
            found[name] = value
    since = found["ActiveEnterTimestampMonotonic"]
    return UnitState(
        load=found["LoadState"],
        active=found["ActiveState"],
        sub=found["SubState"],
        pid=int(found["MainPID"]) if found["MainPID"].isdigit() else 0,
        result=found["Result"],
        enabled=found["UnitFileState"].startswith("enabled"),
        reload_needed=found["NeedDaemonReload"] == "yes",
        invocation=found["InvocationID"],
        active_since=int(since) / 1e6 if since.isdigit() else 0.0,
    )


def daemon_reload(layout: Layout) -> None:
    """Make systemd read its unit files again."""
    log.info("The service's definition changed: systemd reads it again")
    systemctl(layout, "daemon-reload", timeout=90)


def write_unit(layout: Layout, path: Path, text: str, unit: str = UNIT) -> bool:
    """Make a service's definition hold a text, and systemd read it; True if it changed.

    One that somebody else wrote is kept aside until `remove_unit`, and whether it was enabled.
    """
    mark = _enabled_mark(layout, path)
    if theirs.is_foreign(path) and not os.path.lexists(theirs.kept(layout, path)):
        if show(layout, unit).enabled:
            write_file(mark, "", mode=0o600)
        theirs.keep(layout, path)
    if not write_file(path, text):
        return False
    daemon_reload(layout)
    return True


def remove_unit(layout: Layout, path: Path, unit: str = UNIT) -> bool:
    """Remove a service's definition and put back the one that was found; True if any changed."""
    changed = theirs.put_back(layout, path)
    if changed:
        daemon_reload(layout)
        with suppress(CommandError):  # where nothing failed before
            systemctl(layout, "reset-failed", unit)
    mark = _enabled_mark(layout, path)
    if mark.exists():
        systemctl(layout, "enable", unit)
        theirs.discard(mark)
    return changed


def _enabled_mark(layout: Layout, path: Path) -> Path:
    aside = theirs.kept(layout, path)
    return aside.with_name(f"{aside.name}.enabled")


def queue(layout: Layout, verb: str, unit: str = UNIT) -> None:
    """Queue start, stop or restart of a service without waiting for it."""
    log.info("Queueing %s of %s", verb, unit)
    systemctl(layout, verb, "--no-block", unit)


def start_is_queued(layout: Layout, unit: str = UNIT) -> bool:
    """Return whether systemd will start a service once it has stopped.

    A restart's job is called restart while it stops, and start after that.
    """
    jobs = systemctl(layout, "list-jobs", "--no-legend", "--plain", "--full").stdout
    words = [line.split() for line in jobs.splitlines()]
    return any(
        len(job) > 2 and job[1] == unit and job[2] in ("start", "restart", "try-restart")
        for job in words
    )


def send(layout: Layout, signal: str, unit: str = UNIT) -> bool:
    """Send the main process a signal; False if there is no process to send it to.

    `--kill-who` is understood by all of systemd 249 to 257; since 252 it is the older
    spelling of `--kill-whom`.
    """
    state = show(layout, unit)
    if state.pid == 0:
        return False
    argv = [layout.program("systemctl"), "kill", "--kill-who=main", f"--signal={signal}", unit]
    return run(argv, timeout=_LIMIT, check=False).returncode == 0


def require_usable(state: UnitState, unit: str = UNIT) -> None:
    """Raise ConcourseError if systemd has no service to start."""
    if state.load == "masked":
        raise ConcourseError(f"{unit} is masked", remedy=f"run systemctl unmask {unit}", retry=True)
    if state.load not in ("loaded", ""):
        what = f"systemd can't load {unit} ({state.load})"
        raise ConcourseError(what, remedy=f"see systemctl status {unit}", retry=True)


def ensure_running(
    layout: Layout,
    is_current: Callable[[int], bool],
    change: str,
    unit: str = UNIT,
    state: UnitState | None = None,
) -> bool:
    """Make a service run with what its files say now; never waits for it.

    A stopped one is started, a failed one too; a running one with older settings gets a
    restart; one on its way down is left to come up again, which is queued if it isn't.

    Args:
        layout: the paths.
        is_current: whether the main process, given by its id, has what the files say.
        change: what to log before a restart.
        unit: the service.
        state: what the caller has just seen of it; None to look.

    Returns:
        True if systemd was asked for anything.

    Raises:
        ConcourseError: systemd has no such service, or it is masked.
        host.CommandError: systemd refused.
    """
    state = state or show(layout, unit)
    changed = False
    # A hook was killed before it could, or somebody mended what systemd couldn't load.
    if state.reload_needed or state.load not in ("loaded", "masked", ""):
        daemon_reload(layout)
        state = show(layout, unit)
        changed = True
    require_usable(state, unit)
    if not state.enabled:
        systemctl(layout, "enable", unit)
        changed = True
    if state.active == "failed":
        systemctl(layout, "reset-failed", unit)
    if state.active in ("inactive", "failed"):
        queue(layout, "start", unit)
        return True
    if state.active == "deactivating" and not start_is_queued(layout, unit):
        queue(layout, "start", unit)
        return True
    if state.active == "active" and not is_current(state.pid):
        log.info("%s", change)
        queue(layout, "restart", unit)
        return True
    return changed


def is_down(layout: Layout, unit: str = UNIT) -> bool:
    """Return whether a service has no process and no next try."""
    return show(layout, unit).is_down


def land(layout: Layout, unit: str = UNIT) -> bool:
    """Let a service finish what it does and stop; it isn't started with the machine any more.

    Waits for nothing: systemd does.

    Returns:
        True if it was running or would have been started.

    Raises:
        host.CommandError: systemd refused.
    """
    state = show(layout, unit)
    if state.enabled:
        systemctl(layout, "disable", unit)
    if state.is_down:
        return state.enabled
    queue(layout, "stop", unit)
    return True
