"""Fixtures of the tests that run the charm."""

from __future__ import annotations

import pytest
from ops import testing

import charm
from tests.unit.charm_fakes import FakeWorkload


@pytest.fixture
def workload(monkeypatch: pytest.MonkeyPatch) -> FakeWorkload:
    fake = FakeWorkload()
    monkeypatch.setattr(charm, "Workload", fake)
    return fake


@pytest.fixture
def context(workload: FakeWorkload) -> testing.Context[charm.ConcourseCharm]:
    return testing.Context(charm.ConcourseCharm)
