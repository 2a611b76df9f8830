"""What a running web reads again on SIGHUP: workers' keys and its own certificate.

A SIGHUP before the web listens for it ends the process (Concourse installs its handler
after the database is migrated; tsa/tsacmd/command.go, atc/tls/runner.go), so it is sent
only to a web that answers.  What a process has read is known in two ways: it was started
with a digest in its environment, which is written after the files themselves, and a later
SIGHUP is remembered with the run that it went to.  Whatever is interrupted, the next call
sends one SIGHUP too many, never one too few.
"""

from __future__ import annotations

import hashlib
import logging

from concourse import api, service
from concourse.observation import environment_of
from concourse.paths import WebPaths
from files import read_text, write_file
from host import Layout

log = logging.getLogger(__name__)

_VARIABLE = "CHARM_REREAD"


def note(layout: Layout) -> str:
    """Write down for the next start what the files hold now; return that digest."""
    paths = WebPaths(layout)
    held = [read_text(paths.authorized_keys) or "", read_text(paths.tls) or ""]
    digest = hashlib.sha256("\0".join(held).encode()).hexdigest()[:32]
    write_file(paths.reread, f'{_VARIABLE}="{digest}"\n', mode=0o600)
    return digest


def ensure_reread(layout: Layout) -> bool:
    """Have a running web read its keys and certificate again if they changed.

    With TLS the https port is closed meanwhile, for as long as requests last that are
    under way, a minute at most (atc/tls/runner.go, Restart).

    Returns:
        True if it was told to.  One that doesn't answer yet isn't: call again later.

    Raises:
        host.CommandError: systemd doesn't answer.
    """
    digest = note(layout)
    state = service.show(layout, service.WEB)
    if state.active != "active" or not state.pid:
        return False
    running = environment_of(layout, state.pid)
    signalled = WebPaths(layout).signalled
    invocation, _, last = (read_text(signalled) or "").strip().partition(" ")
    known = last if invocation == state.invocation else running.get(_VARIABLE, "")
    if known == digest:
        return False
    where = api.address(running)
    if where is None or not api.version(where):
        return False
    log.info("The web reads its workers' keys and its certificate again")
    if not service.send(layout, "SIGHUP", service.WEB):
        return False
    write_file(signalled, f"{state.invocation} {digest}\n", mode=0o600)
    return True
