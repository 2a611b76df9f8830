"""Where ops keeps its database."""

from __future__ import annotations

import os
from pathlib import Path

from unit_state import NAME, ensure_in_memory


def test_the_database_lies_in_memory_for_root_alone(tmp_path: Path) -> None:
    charm, memory = tmp_path / "charm", tmp_path / "run/concourse-ci-machine"
    charm.mkdir()
    (charm / NAME).write_text("what an earlier revision kept here")
    for _ in range(2):
        ensure_in_memory(charm, "worker/0", memory)
    place = memory / "worker-0.db"
    assert os.readlink(charm / NAME) == str(place)
    assert place.stat().st_mode & 0o777 == 0o600
    assert memory.stat().st_mode & 0o777 == 0o700


def test_a_link_in_its_place_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run/worker-0.db").symlink_to(tmp_path / "elsewhere")
    ensure_in_memory(tmp_path, "worker/0", tmp_path / "run")
    assert not (tmp_path / "elsewhere").exists()
    assert not (tmp_path / NAME).is_symlink()


def test_a_machine_without_such_a_place_keeps_it_on_the_disk(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("")
    ensure_in_memory(tmp_path, "worker/0", tmp_path / "run/concourse-ci-machine")
    assert not (tmp_path / NAME).is_symlink()
