"""The exception family of the Concourse rooms."""

from __future__ import annotations

from host import Trouble


class ConcourseError(Trouble):
    """Concourse could not be had, set up or run; what runs already is left alone."""
