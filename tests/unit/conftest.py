"""Fixtures of several modules: a scratch machine, what is on it, the charm, the wrapper."""

from __future__ import annotations

from pathlib import Path

import pytest
from ops import testing

import charm
from host import Layout
from tests.unit.charm_fakes import FakeWorkload
from tests.unit.fake_apt import FakeApt
from tests.unit.gpu_roots import Root
from tests.unit.webs import Programs
from tests.unit.workers import Systemd
from tests.unit.wrapper_rig import PAIR_IDS, PAIRS, Rig


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    """A machine below a scratch folder."""
    return Layout(tmp_path)


@pytest.fixture
def fake(layout: Layout) -> FakeApt:
    """Its apt and dpkg, with nothing installed and nothing on offer."""
    return FakeApt(layout.root)


@pytest.fixture
def tree(layout: Layout) -> Path:
    """A release on it, with a file in the program's place."""
    tree = layout.trees / "8.3.0"
    (tree / "bin").mkdir(parents=True)
    (tree / "bin/concourse").write_text("x")
    return tree


@pytest.fixture
def systemd(layout: Layout) -> Systemd:
    """Its systemd, to the worker."""
    return Systemd(layout)


@pytest.fixture
def programs(layout: Layout) -> Programs:
    """Its systemd and its users, to the web."""
    return Programs(layout)


@pytest.fixture
def root(tmp_path: Path) -> Root:
    """A machine that has no part of a GPU yet."""
    return Root(tmp_path)


@pytest.fixture
def said() -> list[str]:
    """Where progress is told to."""
    return []


@pytest.fixture
def workload(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> FakeWorkload:
    fake = FakeWorkload()
    monkeypatch.setattr(charm.ConcourseCharm, "layout", Layout(tmp_path))
    monkeypatch.setattr(charm, "Workload", fake)
    return fake


@pytest.fixture
def context(workload: FakeWorkload) -> testing.Context[charm.ConcourseCharm]:
    return testing.Context(charm.ConcourseCharm)


@pytest.fixture(params=PAIRS, ids=PAIR_IDS)
def rig(request: pytest.FixtureRequest, tmp_path: Path) -> Rig:
    """The wrapper, with each pair of a shell and an awk."""
    shell, awk = request.param
    return Rig(tmp_path, shell, awk)


@pytest.fixture
def one(tmp_path: Path) -> Rig:
    """The wrapper, with the first pair."""
    return Rig(tmp_path)
