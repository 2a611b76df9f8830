"""The charm's time limits, scaled down, so that a fault costs seconds; and what follows of them."""

from __future__ import annotations

import re
from pathlib import Path

# In seconds.
LOCK = 3.0  # until somebody else's lock is given up on
UPDATE = 12.0  # apt's lists
DOWNLOAD = 15.0  # apt's packages
KEY = 6.0  # NVIDIA's key
SILENCE = 2.0  # of a mirror that apt asks, and of a connection
RELEASE = 8.0  # a download of Concourse
START, RESTART = 10.0, 15.0  # the worker
SYSTEMCTL = 4.0  # a question to systemd
SMI = 3.0  # nvidia-smi

# A file, what stands before the number there, and what it becomes.
_CHANGES = (
    ("lib/gpu/dpkg.py", "\nLOCK_LIMIT = ", LOCK),
    ("lib/gpu/apt.py", "\nUPDATE_LIMIT = ", UPDATE),
    ("lib/gpu/apt.py", "\nDOWNLOAD_LIMIT = ", DOWNLOAD),
    ("lib/gpu/apt.py", "Acquire::http::Timeout=", SILENCE),
    ("lib/gpu/apt.py", "Acquire::https::Timeout=", SILENCE),
    ("lib/gpu/apt.py", "Acquire::Retries=", 1),
    ("lib/gpu/download.py", "\n_LIMIT = ", KEY),
    ("lib/gpu/download.py", "\n_STEP_LIMIT = ", SILENCE),
    ("lib/gpu/inventory.py", "timeout: float = ", SMI),
    ("lib/concourse/download.py", "total: float = ", RELEASE),
    ("lib/concourse/download.py", "stalled: float = ", SILENCE),
    ("lib/concourse/download.py", "timeout: float = ", SILENCE),
    ("lib/concourse/service.py", '_PROPERTIES)}", timeout=', SYSTEMCTL),
    ("src/worker_workload.py", "\nSTART_LIMIT = ", START),
    ("src/worker_workload.py", "\nRESTART_LIMIT = ", RESTART),
)


def scale(charm: Path) -> Path:
    """Divide the limits of an unpacked charm; return it."""
    for name, before, number in _CHANGES:
        file = charm / name
        pattern = rf"({re.escape(before)})[\d.]+"
        text, times = re.subn(pattern, rf"\g<1>{number:g}", file.read_text())
        assert times == 1, (name, before)
        file.write_text(text)
    return charm
