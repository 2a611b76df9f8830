"""Whether a release may run on a database is asked of the release itself."""

from __future__ import annotations

from pathlib import Path

import pytest

from concourse.errors import ConcourseError
from concourse.schema import require_known
from files import write_file
from host import Layout

SETTINGS = (
    'CONCOURSE_POSTGRES_HOST="10.0.0.5"\nCONCOURSE_POSTGRES_PASSWORD="s3cret"\n'
    'CONCOURSE_ENCRYPTION_KEY="not theirs to know"\n'
)


def release(tmp_path: Path, current: str, supported: str = "echo 1700") -> tuple[Layout, Path]:
    """A tree whose program answers so, and notes its arguments and settings."""
    layout = Layout(tmp_path)
    tree = tmp_path / "8.2.5"
    write_file(layout.config_dir / "web.env", SETTINGS)
    write_file(
        tree / "bin/concourse",
        f'#!/bin/sh\ncd {tmp_path}\necho "$@" >>asked; env >settings\n'
        f"case $2 in --current-db-version) {current} ;; *) {supported} ;; esac\n",
        mode=0o755,
    )
    return layout, tree


def test_a_database_that_is_ahead_is_refused(tmp_path: Path) -> None:
    layout, tree = release(tmp_path, "echo 1800")
    with pytest.raises(ConcourseError) as caught:
        require_known(layout, tree)
    assert str(caught.value) == (
        "the database was migrated by a release newer than Concourse 8.2.5: "
        "set concourse-version to that release, or relate another database"
    )
    assert not caught.value.retry


@pytest.mark.parametrize("current", ["echo 1700", "echo 1600", "echo 0"])
def test_one_that_is_behind_or_level_is_migrated_by_the_web(tmp_path: Path, current: str) -> None:
    require_known(*release(tmp_path, current))


@pytest.mark.parametrize(
    ("current", "supported"),
    [
        ("echo 'pq: relation \"migrations_history\" does not exist' >&2; exit 1", "echo 1700"),
        ("echo nonsense", "echo 1700"),
        ("echo 1800", "exit 1"),
    ],
    ids=["an empty database", "no number", "no second number"],
)
def test_what_is_not_known_is_no_reason_to_refuse(
    tmp_path: Path, current: str, supported: str
) -> None:
    require_known(*release(tmp_path, current, supported))


def test_an_empty_database_is_asked_for_once(tmp_path: Path) -> None:
    require_known(*release(tmp_path, "exit 1"))
    assert (tmp_path / "asked").read_text() == "migrate --current-db-version\n"


def test_the_program_is_told_how_to_connect_and_nothing_else(tmp_path: Path) -> None:
    require_known(*release(tmp_path, "echo 1700"))
    told = (tmp_path / "settings").read_text()
    assert "CONCOURSE_POSTGRES_PASSWORD=s3cret\n" in told
    assert "ENCRYPTION" not in told
    assert "s3cret" not in (tmp_path / "asked").read_text()
