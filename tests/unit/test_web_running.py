"""The web is started, restarted when what it reads at start changes, stopped and removed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from concourse import account, web
from concourse.errors import ConcourseError
from concourse.paths import WebPaths
from host import Layout
from tests.unit.web_wishes import POSTGRES, SECRETS, TLS, WISH, started
from tests.unit.webs import Programs

# --- running ---------------------------------------------------------------------------


def test_a_stopped_web_is_enabled_and_started(
    layout: Layout, programs: Programs, tree: Path
) -> None:
    web.ensure_files(layout, WISH, tree)
    programs.asked()
    programs.has(UnitFileState="disabled")
    assert web.ensure_running(layout)
    assert programs.asked() == [
        "enable concourse-web.service",
        "start --no-block concourse-web.service",
    ]


@pytest.mark.parametrize(
    "change",
    [
        {"log_level": "debug"},
        {"secrets": replace(SECRETS, tsa_host_key="other")},
        {"secrets": replace(SECRETS, session_signing_key="other")},
        {"postgres": replace(POSTGRES, password="rotated")},
        {"postgres": replace(POSTGRES, host="10.0.0.10")},
        {"port": 80},
    ],
)
def test_a_change_of_what_is_read_at_start_restarts_it_once(
    layout: Layout, programs: Programs, tree: Path, change: dict[str, object]
) -> None:
    web.ensure_files(layout, WISH, tree)
    programs.runs(started(layout))
    assert not web.ensure_running(layout)
    web.ensure_files(layout, replace(WISH, **change), tree)  # type: ignore[arg-type]
    programs.asked()
    assert web.ensure_running(layout)
    assert programs.asked() == ["restart --no-block concourse-web.service"]
    programs.runs(started(layout))
    assert not web.ensure_running(layout)
    assert programs.asked() == []


def test_another_release_restarts_it(layout: Layout, programs: Programs, tree: Path) -> None:
    web.ensure_files(layout, WISH, tree)
    programs.runs(started(layout))
    (layout.trees / "8.3.1/bin").mkdir(parents=True)
    assert web.ensure_files(layout, WISH, layout.trees / "8.3.1")
    assert web.ensure_running(layout)


def test_a_masked_unit_is_said(layout: Layout, programs: Programs) -> None:
    programs.has(LoadState="masked")
    with pytest.raises(ConcourseError, match=r"concourse-web\.service is masked"):
        web.ensure_running(layout)


# --- the end ---------------------------------------------------------------------------


def test_removing_leaves_nothing(layout: Layout, programs: Programs, tree: Path) -> None:
    web.ensure_files(layout, TLS, tree)
    programs.asked()
    web.remove(layout)
    assert programs.asked() == [
        "disable concourse-web.service",
        "daemon-reload",
        "reset-failed concourse-web.service",
        "userdel concourse-web",
    ]
    assert not layout.config_dir.exists()
    assert list(layout.state.iterdir()) == []
    assert account.ids(layout) is None
    programs.has(LoadState="not-found", UnitFileState="")
    web.remove(layout)
    assert programs.asked() == []


def test_a_user_that_was_there_before_stays(layout: Layout, programs: Programs, tree: Path) -> None:
    account.ensure_user(layout)
    WebPaths(layout).own_account.unlink()
    web.ensure_files(layout, WISH, tree)
    web.remove(layout)
    assert account.ids(layout) is not None


def test_a_workers_files_stay(layout: Layout, programs: Programs, tree: Path) -> None:
    web.ensure_files(layout, WISH, tree)
    layout.worker_env.write_text("x")
    web.remove(layout)
    assert [path.name for path in layout.config_dir.iterdir()] == ["worker.env"]


def test_one_that_does_not_stop_is_killed(layout: Layout, programs: Programs) -> None:
    programs.runs({})
    programs.program(
        "systemctl",
        'case "$*" in *SIGKILL*) echo ActiveState=failed > answers/show ;; esac\n'
        '[ "$1" != show ] || cat answers/show',
    )
    web.stop(layout, timeout=0)
    kill = "kill --kill-who=main --signal=SIGKILL concourse-web.service"
    assert kill in programs.asked()
