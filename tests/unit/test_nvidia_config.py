"""The machine's config.toml: two values in, everything else untouched, and back to the byte."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import tomlkit

from gpu.nvidia_config import ensure_host_config, undo
from gpu.toml_edit import values_of
from host import Layout
from tests.unit.killing import killed_before_change
from tests.unit.nvidia_configs import PACKAGED, RUNC, config, values


def as_nvidia_ctk_rewrites(path: Path) -> None:
    """Values stay, comments go: what the package's script does on every upgrade."""
    path.write_text(tomlkit.dumps(values(path)))


def test_only_the_two_values_change_and_every_comment_stays(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    path = config(layout, PACKAGED)
    assert ensure_host_config(layout, runtime=RUNC, no_cgroups=True)
    expected = PACKAGED.replace('["runc", "crun"]', f'["{RUNC}"]')
    expected = expected.replace("#no-cgroups = false\n", "#no-cgroups = false\nno-cgroups = true\n")
    lines = [line for line in path.read_text().splitlines() if line]
    assert sorted(lines) == sorted(line for line in expected.splitlines() if line)
    assert values(path)["nvidia-container-runtime"]["runtimes"] == [str(RUNC)]
    assert values(path)["nvidia-container-cli"]["no-cgroups"] is True


def test_a_second_time_writes_nothing(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    path = config(layout, PACKAGED)
    ensure_host_config(layout, runtime=RUNC, no_cgroups=False)
    before = (path.stat().st_ino, [file.stat().st_ino for file in layout.state.rglob("*")])
    assert not ensure_host_config(layout, runtime=RUNC, no_cgroups=False)
    assert (path.stat().st_ino, [file.stat().st_ino for file in layout.state.rglob("*")]) == before


@pytest.mark.parametrize(
    "text",
    [
        PACKAGED,
        PACKAGED.replace("\n", "\r\n"),
        "\ufeff" + PACKAGED,
        PACKAGED.rstrip("\n"),
        "",
        "\n\n# nothing but a comment",
        'nvidia-container-runtime.runtimes = ["runc"]\nswarm-resource = "X"\n',
        'nvidia-container-runtime = { runtimes = ["runc"], mode = "legacy" }\n',
        (
            "[nvidia-container-runtime.modes.cdi]\nx = 1\n[a]\n"
            '[nvidia-container-runtime]\nmode = "cdi"\n'
        ),
        '[nvidia-container-runtime]\nruntimes = [\n  "runc", # first\n  "crun",\n]\n',
        "a.b = 1\n[[nvidia]]\nx = 1\n[[nvidia]]\nx = 2\n[nvidia-container-cli]\n[nvidia-ctk]\n",
    ],
)
def test_undoing_gives_the_file_back_to_the_byte(tmp_path: Path, text: str) -> None:
    layout = Layout(tmp_path)
    path = config(layout, text)
    before = values_of(text.removeprefix("\ufeff"))
    ensure_host_config(layout, runtime=RUNC, no_cgroups=True)
    before.setdefault("nvidia-container-runtime", {})["runtimes"] = [str(RUNC)]
    before.setdefault("nvidia-container-cli", {})["no-cgroups"] = True
    assert values(path) == before
    assert undo(layout)
    assert path.read_bytes() == text.encode()
    assert not undo(layout)


def test_mode_and_owner_stay_through_both(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    path = config(layout, PACKAGED)
    path.chmod(0o640)
    mine = (os.getuid(), os.getgid())
    if os.getuid() == 0:
        mine = (12, 34)
        os.chown(path, *mine)
    for step in (
        lambda: ensure_host_config(layout, runtime=RUNC, no_cgroups=False),
        lambda: undo(layout),
    ):
        assert step()
        status = path.stat()
        assert (status.st_mode & 0o7777, status.st_uid, status.st_gid) == (0o640, *mine)


def test_a_missing_file_is_made_and_goes_again_with_its_folder(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    layout.at("/etc").mkdir()
    assert ensure_host_config(layout, runtime=RUNC, no_cgroups=False)
    assert values(layout.nvidia_config) == {"nvidia-container-runtime": {"runtimes": [str(RUNC)]}}
    assert undo(layout)
    assert list(layout.at("/etc").iterdir()) == []


def test_a_file_that_the_charm_made_and_others_added_to_keeps_what_they_added(
    tmp_path: Path,
) -> None:
    layout = Layout(tmp_path)
    ensure_host_config(layout, runtime=RUNC, no_cgroups=True)
    path = layout.nvidia_config
    path.write_text('swarm-resource = "X"\n' + path.read_text())
    assert undo(layout)
    assert values(path) == {"swarm-resource": "X"}


def test_after_the_packages_own_rewrite_nothing_is_edited_and_undoing_knows_the_values(
    tmp_path: Path,
) -> None:
    layout = Layout(tmp_path)
    path = config(layout, PACKAGED)
    ensure_host_config(layout, runtime=RUNC, no_cgroups=True)
    as_nvidia_ctk_rewrites(path)
    assert not ensure_host_config(layout, runtime=RUNC, no_cgroups=True)
    assert undo(layout)
    assert values(path) == values_of(PACKAGED)


def test_somebody_who_takes_the_value_away_gets_his_own_file_back(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    path = config(layout, PACKAGED)
    ensure_host_config(layout, runtime=RUNC, no_cgroups=False)
    newer = PACKAGED.replace('mode = "auto"', 'mode = "legacy"')
    path.write_text(newer)
    assert ensure_host_config(layout, runtime=RUNC, no_cgroups=False)
    assert undo(layout)
    assert path.read_text() == newer


def test_his_own_file_with_one_of_the_charms_values_left_in_it_comes_back_without(
    tmp_path: Path,
) -> None:
    layout = Layout(tmp_path)
    path = config(layout, PACKAGED)
    ensure_host_config(layout, runtime=RUNC, no_cgroups=True)
    path.write_text(path.read_text().replace(f'"{RUNC}"', '"youki"'))
    assert ensure_host_config(layout, runtime=RUNC, no_cgroups=True)
    assert undo(layout)
    expected = values_of(PACKAGED)
    expected["nvidia-container-runtime"]["runtimes"] = ["youki"]
    assert values(path) == expected


def test_a_change_of_the_wish_keeps_the_first_original(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    path = config(layout, PACKAGED)
    ensure_host_config(layout, runtime=Path("/elsewhere/runc"), no_cgroups=False)
    assert ensure_host_config(layout, runtime=RUNC, no_cgroups=True)
    assert undo(layout)
    assert path.read_text() == PACKAGED


@pytest.mark.parametrize(
    ("by_hand", "after"),
    [
        (f'["{RUNC}"]', None),
        (f'["{RUNC}", "runc"]', ["runc"]),
        (f'["docker-runc", "{RUNC}"]', ["docker-runc"]),
    ],
)
def test_a_machine_set_up_by_hand_is_adopted_and_its_dead_path_taken_out(
    tmp_path: Path, by_hand: str, after: list[str] | None
) -> None:
    layout = Layout(tmp_path)
    path = config(layout, PACKAGED.replace('["runc", "crun"]', by_hand))
    ensure_host_config(layout, runtime=RUNC, no_cgroups=False)
    assert values(path)["nvidia-container-runtime"]["runtimes"] == [str(RUNC)]
    assert undo(layout)
    assert values(path)["nvidia-container-runtime"].get("runtimes") == after
    assert values(path)["nvidia-ctk"] == {"path": "nvidia-ctk"}


@pytest.mark.parametrize("start", [PACKAGED, None])
def test_killed_at_any_point_the_next_run_and_the_undoing_end_the_same(
    tmp_path: Path, start: str | None
) -> None:
    number = 0
    while True:
        number += 1
        layout = Layout(tmp_path / str(number))
        layout.at("/etc").mkdir(parents=True)
        if start is not None:
            config(layout, start)

        def change(layout: Layout = layout) -> None:
            ensure_host_config(layout, runtime=RUNC, no_cgroups=True)
            undo(layout)

        killed = killed_before_change(number, change)
        text = layout.nvidia_config.read_text() if layout.nvidia_config.exists() else ""
        assert values_of(text).get("nvidia-container-runtime", {}).get("runtimes") in (
            None,
            ["runc", "crun"],
            [str(RUNC)],
        )
        ensure_host_config(layout, runtime=RUNC, no_cgroups=True)
        assert values(layout.nvidia_config)["nvidia-container-runtime"]["runtimes"] == [str(RUNC)]
        undo(layout)
        if start is None:
            assert not layout.nvidia_config.exists()
        else:
            assert layout.nvidia_config.read_text() == start
        if not killed:
            break
    assert number > 5
