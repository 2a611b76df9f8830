"""A machine's clock that is years off.

The kernel's clock is this machine's own and stays.  `clock.c` tells programs another time: the
hook, apt, gpgv, journalctl, and the journal, so that what it writes down is of that time, too.
(Debian's libfaketime was no use: it also bends time limits, and the times of files.)
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rehearsal.machine import Machine
from tests.chaos.causes import Cause, Site

YEARS = 10 * 365 * 86400  # seconds
_SHARED = "/run/chaos-clock"
_LIBRARY = "/usr/local/lib/chaos-clock.so"
_PRELOAD = "/etc/ld.so.preload"
_DATES = "/etc/apt/apt.conf.d/zz-dates"  # this machine's own mirror may have dates ignored


def prepare(machine: Machine) -> None:
    """Make a machine's clock one that can be set; the first time it fetches a compiler, if need be.

    The journal goes by that clock from now on.
    """
    apt = "DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends"
    machine.copy_in(Path(__file__).with_name("clock.c"), "/run/clock.c")
    machine.write(_SHARED, struct.pack("q", 0))
    machine.shell(
        f"command -v cc >/dev/null || {apt} gcc libc6-dev >/dev/null\n"
        f"cc -shared -fPIC -O2 -o {_LIBRARY} /run/clock.c\n"
        f"echo {_LIBRARY} >{_PRELOAD}\n"
        "systemctl restart systemd-journald\n"
        f"rm {_PRELOAD}",
        timeout=300,
    )


def off(seconds: int) -> Cause:
    """Have the clock be off, ahead by some seconds."""

    @contextmanager
    def cause(site: Site) -> Iterator[None]:
        site.machine.write(_DATES, 'Acquire::Check-Date "true";\n')
        site.machine.write(_PRELOAD, f"{_LIBRARY}\n")
        _set(site.machine, seconds)
        try:
            yield
        finally:
            _set(site.machine, 0)
            site.machine.shell(f"rm {_PRELOAD} {_DATES}")

    return cause


def told(machine: Machine) -> dict[str, float]:
    """Return what time it is, in seconds since the epoch, by each of those who tell it."""
    machine.shell("echo tick | systemd-cat; journalctl --sync")
    python = "/usr/bin/python3 -c 'import time; print(time.time())'"
    newest = "journalctl --quiet --lines=1 --output=short-unix | cut -d' ' -f1"
    words = machine.shell(f"date +%s\n{python}\n{newest}").split()
    return dict(zip(("date", "Python", "the journal"), map(float, words), strict=True))


def _set(machine: Machine, seconds: int) -> None:
    """Set the clock for all at once; in place, as it is mapped into what runs."""
    with (machine.root / _SHARED.lstrip("/")).open("r+b", buffering=0) as shared:
        shared.write(struct.pack("q", seconds))
