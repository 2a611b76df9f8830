"""Fixtures of the tests that run the charm."""

from __future__ import annotations

from pathlib import Path

import pytest
from ops import testing

import charm
from host import Layout
from tests.unit.charm_fakes import FakeWorkload


@pytest.fixture
def workload(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> FakeWorkload:
    fake = FakeWorkload()
    monkeypatch.setattr(charm.ConcourseCharm, "layout", Layout(tmp_path))
    monkeypatch.setattr(charm, "Workload", fake)
    return fake


@pytest.fixture
def context(workload: FakeWorkload) -> testing.Context[charm.ConcourseCharm]:
    return testing.Context(charm.ConcourseCharm)
