"""Runs hooks of a unit that is told hostile things, and holds each to what every hook owes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import hypothesis
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from ops import hookcmds, testing

import charm
from concourse import sslmode
from concourse.paths import WebPaths
from desired import Wish
from files import ensure_symlink
from host import Layout
from tests.chaos.frame import Chaos
from tests.chaos.hostile import sentence
from tests.chaos.hostile_states import UNIT, Context, database, peers, state
from tests.chaos.hostile_writing import Fields, Writing
from tests.unit.toolkit_roots import KEY
from tests.unit.webs import Programs

PROMISE = (
    "Hostile options, relations, secrets and parameters: nothing is executed, every file is read"
    " as it was meant, one status says what is wrong."
)
MARK = Path("/tmp/pwned")
LIMIT = 5.0  # seconds of CPU for a hook; one with everything on takes a twentieth of one


@dataclass(frozen=True)
class Held:
    """What a hook left behind.

    Attributes:
        out: the state after it.
        wish: what the charm wished for; None where it refused to wish.
        files: what was written, as its readers read it.
        failed: whether something of the wish couldn't be written.
        wrote: whether any file changed.
    """

    out: testing.State
    wish: Wish | None
    files: dict[str, Fields]
    failed: bool
    wrote: bool

    @property
    def refused(self) -> bool:
        """Whether an option, or what was made of it, was not taken."""
        return self.wish is None or bool(self.wish.gpu_error) or self.failed

    @property
    def message(self) -> str:
        return self.out.unit_status.message

    @property
    def blocked(self) -> bool:
        return isinstance(self.out.unit_status, testing.BlockedStatus)

    @property
    def waiting(self) -> bool:
        return isinstance(self.out.unit_status, testing.WaitingStatus)

    @property
    def active(self) -> bool:
        return isinstance(self.out.unit_status, testing.ActiveStatus)


class Trial:
    """A unit under ops.testing whose files are written below a scratch root.

    Attributes:
        context: of ops.testing.
        workload: what stands in the workload's place.
    """

    def __init__(self, workload: Writing) -> None:
        self.context: Context = testing.Context(charm.ConcourseCharm)
        self.workload = workload

    def hold(self, given_state: testing.State, event: Any = None) -> Held:
        """Run a hook: it ends well and soon, with one sentence; a second one changes nothing."""
        workload = self.workload
        workload.wishes.clear()
        workload.files, workload.failure, workload.gpu_failure = {}, None, None
        self._forget_workers()
        before = self._files()
        started = time.process_time()
        out = self._run(event or self.context.on.config_changed(), given_state)
        seconds = time.process_time() - started
        assert seconds < LIMIT, f"{seconds:.1f} s of CPU"
        sentence(out.unit_status.message)
        after = self._files()
        wish = workload.wishes[-1][0] if workload.wishes else None
        failed = bool(workload.failure or workload.gpu_failure)
        held = Held(out, wish, dict(workload.files), failed, after != before)
        again = self._run(self.context.on.config_changed(), out)
        assert again.unit_status == out.unit_status
        assert self._files() == after
        assert _bags(again) == _bags(out)
        return held

    def logged(self, text: str) -> bool:
        """Return whether the last hooks logged something."""
        return any(text in line.message for line in self.context.juju_log)

    def _run(self, event: Any, given_state: testing.State) -> testing.State:
        self.context.juju_log.clear()
        out = self.context.run(event, given_state)
        assert not MARK.exists(), self.context.juju_log
        return out

    def _forget_workers(self) -> None:
        """Have no key stay for a while that an earlier case's worker had."""
        paths = WebPaths(self.workload.layout)
        for path in (paths.authorized_keys, paths.departed):
            path.unlink(missing_ok=True)

    def _files(self) -> dict[Path, tuple[int, int]]:
        """Return each file's inode and time of change.

        But for what the stand-ins write down, and since when the leader has heard what of turns.
        """
        root = self.workload.layout.root
        paths = (path for path in root.rglob("*") if path.name not in ("asked", "turns.json"))
        seen = {path: path.lstat() for path in paths}
        return {
            path: (status.st_ino, status.st_mtime_ns)
            for path, status in seen.items()
            if not path.is_dir()
        }


def _bags(given_state: testing.State) -> dict[int, tuple[Fields, Fields]]:
    """Return what a unit says of itself, by relation."""
    return {
        each.id: (dict(each.local_app_data), dict(each.local_unit_data))
        for each in given_state.relations
    }


@pytest.fixture(scope="module")
def layout(tmp_path_factory: pytest.TempPathFactory) -> Layout:
    root = tmp_path_factory.mktemp("machine")
    layout = Layout(root)
    Programs(layout)
    (layout.trees / "8.3.0/bin").mkdir(parents=True)
    (layout.trees / "8.3.0/bin/concourse").write_text("x")
    ensure_symlink(layout.concourse, layout.trees / "8.3.0")
    return layout


@pytest.fixture
def trial(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> Iterator[Trial]:
    """A unit whose files have been written once with the options' defaults."""
    workload = Writing(layout=layout)
    monkeypatch.setattr(charm, "Workload", workload)
    monkeypatch.setattr(charm.ConcourseCharm, "layout", layout)
    # Juju knows the two units of `peers`; ops.testing has no goal-state.
    units = {UNIT: SimpleNamespace(status="active"), UNIT[:-1] + "1": SimpleNamespace(status="")}
    monkeypatch.setattr(hookcmds, "goal_state", lambda: SimpleNamespace(units=units))
    monkeypatch.setattr(sslmode, "settle", lambda mode, *_: mode.replace("prefer", "disable"))
    MARK.unlink(missing_ok=True)
    made = Trial(workload)
    config = {"deployment-mode": "all", "enable-gpu": True, "nvidia-repository-key": KEY}
    assert made.hold(state(config, [peers(), database()])).active
    assert set(workload.checked) == {"worker", "devices", "apt", "web", "keys"}
    yield made
    assert not MARK.exists(), "something was executed"


def fuzz(chaos: Chaos, name: str, strategy: st.SearchStrategy[Any], check: Callable[[Any], object],
         full: int) -> None:  # fmt: skip
    """Try many values; a twentieth of them with `--quick`."""
    count = max(1, full // 20) if chaos.quick else full
    seen = 0

    def counted(value: Any) -> None:
        nonlocal seen
        seen += 1
        check(value)

    run = settings(
        max_examples=count,
        deadline=None,
        database=None,
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
    )(given(strategy)(counted))
    with chaos.case(PROMISE, name):
        hypothesis.seed(chaos.dice(name).getrandbits(32))(run)()
    chaos.tried(PROMISE, seen - 1, 0)
