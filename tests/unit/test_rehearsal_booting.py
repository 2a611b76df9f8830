"""How the rehearsal finds a machine's processes."""

from __future__ import annotations

import errno
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from rehearsal.booting import children


def test_children_of_a_process() -> None:
    child = subprocess.Popen(["sleep", "60"])
    try:
        assert child.pid in children(os.getpid())
        assert children(child.pid) == []
    finally:
        child.kill()
        child.wait()


def test_a_process_that_ends_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    found = Path.stat

    def gone(self: Path, **how: Any) -> os.stat_result:
        if self.name == "stat":  # what the kernel said of one, once
            raise ProcessLookupError(errno.ESRCH, "No such process", str(self))
        return found(self, **how)

    monkeypatch.setattr(Path, "stat", gone)
    assert children(1) != []
