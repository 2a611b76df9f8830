r"""What a worker is seen to do, cheaply and without changing anything.

How `registered` is known.  A worker keeps one SSH connection to a gateway of the
web (the TSA) for as long as it is registered; registering, heartbeats and builds go
through it (Concourse v8.2.5, tsa/client.go, Register).  So the main process must
have an established TCP connection to a gateway's port.  That alone is not enough: a
gateway that refuses the key holds one for an instant every five seconds, and one
whose web doesn't answer holds it without a registration.  The worker's log tells:

    worker.beacon-runner.beacon.registered             info, after a registration
    worker.beacon-runner.beacon.rebalance.registered   info, again every four hours
    worker.beacon-runner.failed                        error, when the connection or the
                                                       registration ended (retry in 5 s)
    worker.beacon-runner.exiting                       info, landed or retired

(worker/beacon.go, worker/beacon_runner.go; --rebalance-interval is four hours).  The
newest of these lines decides, however old it is by a clock that may have been set since;
where log-level leaves the info lines out, a failure in the last 20 seconds denies it; where
there is no journal to read, the connection decides alone.
"""

from __future__ import annotations

import http.client
import logging
import re
import time
from dataclasses import dataclass
from pathlib import Path

from concourse import service
from concourse.environment import parse
from concourse.sockets import is_connected, listener, name_of, unit_of
from files import read_text
from host import CommandError, Layout, run

log = logging.getLogger(__name__)

CONTAINERD_SOCKET = "/run/containerd/containerd.sock"  # fixed in Concourse
NAMESPACE = "concourse"  # of its containers in containerd
TASKS = f"/run/containerd/io.containerd.runtime.v2.task/{NAMESPACE}"
HEALTH = ("127.0.0.1", 8888)
_MEMORY = 5 * 3600  # seconds; longer than a rebalance
_RECENT = 20  # seconds; longer than a failing worker's pause between two tries
_LINES = (
    r'"worker\.beacon-runner\.(beacon\.(rebalance\.)?registered'
    r'|beacon\.rebalance\.max-active-registrations-reached|failed|exiting)"'
)


@dataclass(frozen=True)
class WorkerState:
    """What is seen of a worker.

    Attributes:
        unit: "active", "activating", "deactivating", "inactive", "failed" or "absent".
            One that keeps failing is "failed" between systemd's tries, too.
        up_to_date: whether the running process was started with what its files say now.
        healthy: whether garden and baggageclaim answer.
        registered: whether the web has it as a worker.
        socket_taken: who listens on containerd's socket in its place; "" if nobody does.
        result: how the service failed, in systemd's words; "" if it didn't.
    """

    unit: str
    up_to_date: bool = False
    healthy: bool = False
    registered: bool = False
    socket_taken: str = ""
    result: str = ""


def observe(layout: Layout) -> WorkerState:
    """Look at the worker: about 20 ms, ten seconds if everything hangs; changes nothing."""
    taken = socket_taken(layout)
    try:
        state = service.show(layout)
    except CommandError as error:
        log.warning("%s", error)
        return WorkerState("absent", socket_taken=taken)
    result = "" if state.result == "success" else state.result
    if state.load == "not-found" and state.active == "inactive":
        return WorkerState("absent", socket_taken=taken)
    if state.waits_for_restart:
        return WorkerState("failed", socket_taken=taken, result=result or "restarting")
    if state.active != "active" or not state.pid:
        return WorkerState(state.active, socket_taken=taken, result=result)
    environment = environment_of(layout, state.pid)
    return WorkerState(
        unit="active",
        up_to_date=environment.get("CHARM_STAMP", "") == stamp_of_file(layout),
        healthy=is_healthy(),
        registered=is_registered(layout, state),
        socket_taken=taken,
    )


def runs(layout: Layout) -> bool:
    """Return whether the worker's process runs, and nobody has told it to end."""
    try:
        return service.show(layout).active == "active"
    except CommandError as error:
        log.warning("%s", error)
        return False


def would_restart(layout: Layout, state: service.UnitState) -> bool:
    """Return whether a worker that the web has runs with older settings than its files say.

    One that the web has not is down already, whatever becomes of it.
    """
    if state.active != "active" or stamp_of_process(layout, state.pid) == stamp_of_file(layout):
        return False
    return is_registered(layout, state)


def is_idle(layout: Layout) -> bool:
    """Return whether no container of the worker runs anything but its init.

    What Concourse runs in a container is an exec; its shim keeps a file with the process' id
    as long as that runs.  A build may be between two steps all the same.
    """
    return not any(path.name != "init.pid" for path in layout.at(TASKS).glob("*/*.pid"))


def is_healthy(address: tuple[str, int] = HEALTH, timeout: float = 6.0) -> bool:
    """Ask the worker whether garden and baggageclaim answer it; it gives them five seconds."""
    connection = http.client.HTTPConnection(*address, timeout=timeout)
    try:
        connection.request("GET", "/")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def socket_taken(layout: Layout) -> str:
    """Return who listens on containerd's socket if it isn't the worker's own containerd.

    Returns:
        A unit's name without its suffix, such as "containerd" or "k3s", or a process'
        name; "" if the socket is free or the worker's.
    """
    pid = listener(layout, CONTAINERD_SOCKET)
    if pid is None:
        return ""
    unit = unit_of(layout, pid)
    if unit == service.UNIT:
        return ""
    return unit.rpartition(".")[0] or name_of(layout, pid) or "another program"


def stamp_of_file(layout: Layout, file: Path | None = None) -> str:
    """Return the stamp of an environment file (the worker's): what a start now would have."""
    return parse(read_text(file or layout.worker_env) or "").get("CHARM_STAMP", "")


def stamp_of_process(layout: Layout, pid: int) -> str:
    """Return the stamp that a running service was started with; "" if it has none."""
    return environment_of(layout, pid).get("CHARM_STAMP", "")


def environment_of(layout: Layout, pid: int) -> dict[str, str]:
    """Return the environment that a process was started with; empty if it has ended."""
    entries = (read_text(layout.at(f"/proc/{pid}/environ")) or "").split("\0")
    return dict(entry.split("=", 1) for entry in entries if "=" in entry)


def is_registered(layout: Layout, state: service.UnitState) -> bool:
    """Return whether the web has a worker that runs; see the top of this file."""
    if not state.pid:
        return False
    environment = environment_of(layout, state.pid)
    hosts = environment.get("CONCOURSE_TSA_HOST", "").split(",")
    ports = [int(port) for host in hosts if (port := host.rpartition(":")[2]).isdigit()]
    if not is_connected(layout, state.pid, ports):
        return False
    says_info = environment.get("CONCOURSE_LOG_LEVEL", "info") in ("info", "debug")
    line = _newest_line(layout, state.invocation, () if says_info else (f"--since=-{_RECENT}s",))
    if line:
        return "registered" in line or "registrations-reached" in line
    # No line at all: a worker that speaks, and started within that time, never registered.
    age = time.clock_gettime(time.CLOCK_MONOTONIC) - state.active_since
    return line is None or not says_info or age > _MEMORY


def _newest_line(layout: Layout, invocation: str, since: tuple[str, ...]) -> str | None:
    """Return the newest telling line of a run of the worker; None if there is no journal."""
    argv = [layout.program("journalctl"), f"_SYSTEMD_INVOCATION_ID={invocation}"]
    argv += [*since, "--reverse", "--lines=1", "--output=cat", "--no-pager", "--quiet"]
    argv += ["--case-sensitive=yes", f"--grep={_LINES}"]
    try:
        found = run(argv, timeout=5, check=False)
    except CommandError as error:
        log.warning("%s", error)
        return None
    if found.returncode not in (0, 1) or (found.returncode == 1 and found.stderr.strip()):
        return None
    match = re.search(_LINES, found.stdout)
    return match[0] if match else ""
