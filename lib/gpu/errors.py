"""The exception family of the GPU rooms."""

from __future__ import annotations

from host import Trouble


class GpuError(Trouble):
    """A step of the GPU set-up failed; a worker serves CPU work all the same."""


class NotNowError(GpuError):
    """apt is in use, or reached its time limit: asking it for less doesn't help."""
