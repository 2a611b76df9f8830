"""What systemd knows about the worker's service, and how it is told things.

Nothing here waits for the worker: every request is queued, and a hook goes on.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

from concourse.errors import ConcourseError
from host import Completed, Layout, run

log = logging.getLogger(__name__)

UNIT = "concourse-worker.service"
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
    """The worker's service as systemd sees it (org.freedesktop.systemd1(5)).

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
    def waits_for_restart(self) -> bool:
        """Whether it failed and systemd starts it again in a moment.

        The sub state is auto-restart-queued for an instant since systemd 254.
        """
        return self.active == "activating" and self.sub.startswith("auto-restart")


def systemctl(layout: Layout, *arguments: str, timeout: float = _LIMIT) -> Completed:
    """Run systemctl; a failure raises host.CommandError."""
    return run([layout.program("systemctl"), *arguments], timeout=timeout)


def show(layout: Layout) -> UnitState:
    """Return what systemd knows about the service; CommandError if it doesn't answer."""
    asked = systemctl(layout, "show", UNIT, f"--property={','.join(_PROPERTIES)}", timeout=10)
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


def queue(layout: Layout, verb: str) -> None:
    """Queue start, stop or restart of the service without waiting for it."""
    log.info("Queueing %s of %s", verb, UNIT)
    systemctl(layout, verb, "--no-block", UNIT)


def start_is_queued(layout: Layout) -> bool:
    """Return whether systemd will start the service once it has stopped.

    A restart's job is called restart while it stops, and start after that.
    """
    jobs = systemctl(layout, "list-jobs", "--no-legend", "--plain", "--full").stdout
    words = [line.split() for line in jobs.splitlines()]
    return any(
        len(job) > 2 and job[1] == UNIT and job[2] in ("start", "restart", "try-restart")
        for job in words
    )


def send(layout: Layout, signal: str) -> bool:
    """Send the main process a signal; False if there is no process to send it to.

    `--kill-who` is understood by all of systemd 249 to 257; since 252 it is the older
    spelling of `--kill-whom`.
    """
    state = show(layout)
    if state.pid == 0:
        return False
    argv = [layout.program("systemctl"), "kill", "--kill-who=main", f"--signal={signal}", UNIT]
    return run(argv, timeout=_LIMIT, check=False).returncode == 0


def require_usable(state: UnitState) -> None:
    """Raise ConcourseError if systemd has no service to start."""
    if state.load == "masked":
        raise ConcourseError(f"{UNIT} is masked", remedy=f"run systemctl unmask {UNIT}", retry=True)
    if state.load not in ("loaded", ""):
        raise ConcourseError(f"systemd can't load {UNIT} ({state.load})", retry=True)
