"""A config.toml that can't be used, is a link or no file, or breaks; a damaged memory of it."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import pytest

from gpu.config_file import mend
from gpu.nvidia_config import ensure_host_config, undo
from gpu.toml_edit import values_of
from host import Layout
from tests.unit.nvidia_configs import PACKAGED, RUNC, config, values


@pytest.mark.parametrize(
    "text",
    [
        b"runtimes = [",
        b"a = 1\na = 2\n",
        b"\xff\xfe\x00",
        b"nvidia-container-runtime = 5\n",
        b'[[nvidia-container-cli]]\nx = "y"\n',
        b"#" * 300_000,
        b"x = " + b"[" * 5000,
        b"d = 2026-13-45\n",
    ],
)
def test_a_file_that_cannot_be_used_is_kept_aside_and_said(
    tmp_path: Path, text: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    layout = Layout(tmp_path)
    path = config(layout, text)
    config(layout, text).with_name("config.toml.unusable").write_text("of another day")
    with caplog.at_level(logging.WARNING):
        assert ensure_host_config(layout, runtime=RUNC, no_cgroups=False)
    aside = path.with_name("config.toml.unusable.2")
    assert aside.read_bytes() == text
    assert str(aside) in caplog.text
    assert values(path) == {"nvidia-container-runtime": {"runtimes": [str(RUNC)]}}
    assert undo(layout)
    assert not path.exists()
    assert aside.read_bytes() == text


def test_a_folder_or_a_pipe_in_its_place_is_kept_aside(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    path = layout.nvidia_config
    (path / "inside").mkdir(parents=True)
    assert mend(layout) == path.with_name("config.toml.unusable")
    os.mkfifo(path)
    assert mend(layout) == path.with_name("config.toml.unusable.2")
    assert mend(layout) is None
    assert ensure_host_config(layout, runtime=RUNC, no_cgroups=False)


def test_a_link_is_read_through_replaced_and_put_back(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    target = layout.at("/srv/config.toml")
    target.parent.mkdir()
    target.write_text(PACKAGED)
    path = layout.nvidia_config
    path.parent.mkdir(parents=True)
    path.symlink_to("../../srv/config.toml")
    assert ensure_host_config(layout, runtime=RUNC, no_cgroups=False)
    assert target.read_text() == PACKAGED
    assert values(path)["nvidia-container-cli"]["load-kmods"] is True
    assert not ensure_host_config(layout, runtime=RUNC, no_cgroups=False)
    assert undo(layout)
    assert os.readlink(path) == "../../srv/config.toml"
    assert target.read_text() == PACKAGED


@pytest.mark.parametrize("hook_between", [True, False])
def test_an_edited_file_that_was_moved_and_linked_to_comes_back_without_the_edit(
    hook_between: bool, tmp_path: Path
) -> None:
    layout = Layout(tmp_path)
    path = config(layout, PACKAGED)
    ensure_host_config(layout, runtime=RUNC, no_cgroups=True)
    moved = layout.at("/srv/config.toml")
    moved.parent.mkdir()
    path.rename(moved)
    moved.chmod(0o640)
    path.symlink_to("../../srv/config.toml")
    if hook_between:
        assert ensure_host_config(layout, runtime=RUNC, no_cgroups=True)
        assert not path.is_symlink()
    assert undo(layout)
    assert os.readlink(path) == "../../srv/config.toml"
    assert values_of(moved.read_text()) == values_of(PACKAGED)
    assert moved.stat().st_mode & 0o777 == 0o640


def test_a_damaged_memory_costs_no_more_than_the_bytes(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    path = config(layout, PACKAGED)
    ensure_host_config(layout, runtime=RUNC, no_cgroups=False)
    (layout.state / "gpu/nvidia-config.json").write_text("{")
    assert not ensure_host_config(layout, runtime=RUNC, no_cgroups=False)
    assert undo(layout)
    expected = values_of(PACKAGED)
    del expected["nvidia-container-runtime"]["runtimes"]
    assert values(path) == expected


def test_a_file_that_broke_since_is_left_as_it_is(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    path = config(layout, PACKAGED)
    ensure_host_config(layout, runtime=RUNC, no_cgroups=False)
    path.write_text("broken = [")
    undo(layout)
    assert path.read_text() == "broken = ["
