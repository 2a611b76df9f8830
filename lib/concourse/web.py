"""The web: its files, what it is seen to do, and the service around it.

As with a worker, the environment file carries a stamp over everything that is read at
start only; a process with an older stamp is restarted.  What a running web reads again
when told to (workers' keys, its certificate) is left out of the stamp: see `reread`.
"""

from __future__ import annotations

import hashlib
import logging
import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from concourse import account, api, service, theirs
from concourse.observation import environment_of, stamp_of_file, stamp_of_process
from concourse.paths import WebPaths
from concourse.render import render
from concourse.reread import ensure_reread, note
from concourse.web_environment import Postgres, Tls, WebSecrets, WebWish, environment
from concourse.web_log import trouble
from concourse.worker import identity
from files import read_text, write_file
from files import remove as remove_path
from host import CommandError, Layout, wait_until

__all__ = [
    "Postgres",
    "Tls",
    "WebSecrets",
    "WebState",
    "WebWish",
    "ensure_files",
    "ensure_reread",
    "ensure_running",
    "environment",
    "kept_tls",
    "land",
    "observe",
    "remove",
    "stop",
]

log = logging.getLogger(__name__)

# Seconds.  Requests under way get 60 of them; without its database a web never ends by itself.
STOP_LIMIT = 70
_KEY = "PRIVATE KEY-----"  # what the first line of a key ends with, whatever its kind
AUTHORIZED_HEADER = "# Written by the charm: one worker's public key and name a line.\n"


@dataclass(frozen=True)
class WebState:
    """What is seen of a web.

    Attributes:
        unit: "active", "activating", "deactivating", "inactive", "failed" or "absent".
            One that keeps failing is "failed" between systemd's tries, too.
        up_to_date: whether the running process was started with what its files say now.
        answers: whether its API answers.
        version: the release that answers, X.Y.Z; "" if none does.
        result: how the service failed, in systemd's words; "" if it didn't.
        address: where its API answers on this machine; None if it isn't running.
        trouble: why it doesn't answer, in its own words (the database can't be opened, a
            setting can't be read); "" if it does, or says nothing.
    """

    unit: str
    up_to_date: bool = False
    answers: bool = False
    version: str = ""
    result: str = ""
    trouble: str = ""
    address: api.Address | None = None


def ensure_files(layout: Layout, wish: WebWish, tree: Path) -> bool:
    """Make everything exist that the service reads: user, keys, environment, unit file.

    Nothing running is touched, and systemd only where its unit file changed.

    Args:
        layout: the paths.
        wish: how the web is to run.
        tree: the release that /opt/concourse leads to, or is about to.

    Returns:
        True if anything changed.

    Raises:
        ConcourseError: a setting can't be passed on, or there can be no user.
    """
    paths = WebPaths(layout)
    variables = environment(layout, wish)
    unit = render(
        "concourse-web.service.j2",
        user=account.NAME,
        prefix=layout.concourse,
        environment=paths.environment,
        reread=paths.reread,
        stop_limit=STOP_LIMIT,
        low_port=any(port < 1024 for port in wish.ports),
    )
    contents = {
        paths.session_key: wish.secrets.session_signing_key.strip() + "\n",
        paths.host_key: wish.secrets.tsa_host_key.strip() + "\n",
        paths.postgres_ca: _lines(wish.postgres.ca),
    }
    read_at_start = [repr(variables), unit, *contents.values(), identity(tree)]
    variables["CHARM_STAMP"] = hashlib.sha256("\0".join(read_at_start).encode()).hexdigest()[:32]
    text = render("web.env.j2", variables=variables.items())

    contents[paths.tls] = _lines(wish.tls.certificate) + _lines(wish.tls.key) if wish.tls else ""
    changed = False
    for path, content in contents.items():
        if content:
            changed |= account.write_readable(layout, path, content)
    if not paths.authorized_keys.exists():
        changed |= account.write_readable(layout, paths.authorized_keys, AUTHORIZED_HEADER)
    note(layout)
    theirs.keep(layout, paths.environment)
    changed |= write_file(paths.environment, text, mode=0o600)
    for path, content in contents.items():
        if not content:
            changed |= remove_path(path)
    return service.write_unit(layout, paths.unit, unit, service.WEB) or changed


def kept_tls(layout: Layout) -> Tls | None:
    """Return the certificate and the key that the web was given last; None for http."""
    certificate, begin, key = (read_text(WebPaths(layout).tls) or "").partition(_KEY)
    if not begin:
        return None
    start = certificate.rindex("-----BEGIN ")
    return Tls(certificate[:start], certificate[start:] + begin + key)


def ensure_running(layout: Layout) -> bool:
    """Make the service run with what its files say now; never waits for it.

    Returns:
        True if systemd was asked for anything.

    Raises:
        ConcourseError: systemd has no such service, or it is masked.
        host.CommandError: systemd refused.
    """
    wanted = stamp_of_file(layout, WebPaths(layout).environment)

    def is_current(pid: int) -> bool:
        return stamp_of_process(layout, pid) == wanted

    change = "The web's settings changed: it restarts"
    return service.ensure_running(layout, is_current, change, service.WEB)


def observe(layout: Layout) -> WebState:
    """Look at the web: a few milliseconds, 20 seconds if everything hangs; changes nothing."""
    try:
        state = service.show(layout, service.WEB)
    except CommandError as error:
        log.warning("%s", error)
        return WebState("absent")
    result = "" if state.result == "success" else state.result
    if state.load == "not-found" and state.active == "inactive":
        return WebState("absent")
    if state.waits_for_restart:
        return WebState("failed", result=result or "restarting", trouble=trouble(layout))
    if state.active != "active" or not state.pid:
        said = trouble(layout) if state.active == "failed" else ""
        return WebState(state.active, result=result, trouble=said)
    running = environment_of(layout, state.pid)
    where = api.address(running)
    version = api.version(where) if where else ""
    stamp = stamp_of_file(layout, WebPaths(layout).environment)
    return WebState(
        unit="active",
        up_to_date=running.get("CHARM_STAMP", "") == stamp,
        answers=bool(version),
        version=version,
        trouble="" if version else trouble(layout),
        address=where,
    )


def land(layout: Layout) -> bool:
    """Have the web stop, and not start with the machine any more; waits for nothing.

    Its builds go on elsewhere: other webs take them over, or this one when it is back.

    Returns:
        True if it was running or would have been started.

    Raises:
        host.CommandError: systemd refused.
    """
    if not os.path.lexists(WebPaths(layout).unit):
        return False  # a worker's machine: nothing there to ask systemd about, hook after hook
    return service.land(layout, service.WEB)


def stop(layout: Layout, *, timeout: float = STOP_LIMIT) -> None:
    """Stop the web for good, and kill it when the time is over.

    Args:
        layout: the paths.
        timeout: how long it may take to stop, in seconds.

    Raises:
        host.CommandError: systemd refused.
    """
    land(layout)

    def is_down() -> bool:
        return service.is_down(layout, service.WEB)

    if wait_until(is_down, timeout=timeout, interval=0.5):
        return
    log.warning("The web did not stop within %g s and is killed", timeout)
    service.send(layout, "SIGKILL", service.WEB)
    wait_until(is_down, timeout=30, interval=0.5)


def remove(layout: Layout, *, timeout: float = 30.0) -> None:
    """Stop the web and remove its files and its user; the database stays as it is.

    Raises:
        host.CommandError: systemd refused.
    """
    paths = WebPaths(layout)
    stop(layout, timeout=timeout)
    service.remove_unit(layout, paths.unit, service.WEB)
    theirs.put_back(layout, paths.environment)
    mine = (paths.reread, paths.folder, paths.departed, paths.signalled)
    for path in mine:
        remove_path(path)
    account.remove_user(layout)
    with suppress(OSError):  # a worker's files are in it, or it isn't there
        layout.config_dir.rmdir()


def _lines(pem: str) -> str:
    """Return PEM text so that another can follow it."""
    return f"{pem.strip()}\n" if pem.strip() else ""
