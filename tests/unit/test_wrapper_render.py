"""The files that the hook makes: the wrapper in a tree, the table, and telling wrappers apart."""

from __future__ import annotations

import hashlib
import os
import re
import stat
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from gpu.wrapper import (
    WRAPPER_NAME,
    DeviceTable,
    WrapperSettings,
    ensure_devices,
    ensure_wrapper,
    files_of,
    is_wrapper,
    render,
    render_settings,
)
from host import Layout
from tests.unit.wrapper_rig import SHELLS, TABLE

TREE = Path("/opt/concourse-releases/8.3.0")


@pytest.mark.parametrize("shell", SHELLS, ids=" ".join)
def test_the_wrapper_is_a_script_that_the_shell_can_parse(shell: tuple[str, ...]) -> None:
    text = render(Layout(), TREE)

    assert text.startswith(f"#!/bin/sh {TREE}/bin/runc-gpu-wrapper\n")
    subprocess.run([*shell, "-n"], input=text, text=True, check=True, timeout=10)
    for path in (
        f"{TREE}/bin/runc.real",
        "/usr/bin/nvidia-container-runtime.real",
        "/etc/concourse/gpu/devices",
        "/etc/concourse/gpu/nvidia-container-runtime.toml",
        "/usr/lib/x86_64-linux-gnu",
    ):
        assert path in text


def test_paths_are_quoted_for_the_shell() -> None:
    settings = WrapperSettings.of(Layout(), TREE)
    text = render_settings(replace(settings, runc_real=Path("/a'b $(c)\nd")))
    assert "runc_real='/a'\"'\"'b $(c)\nd'\n" in text


def test_a_wrapper_is_replaced_by_another_file_and_only_if_it_differs(tmp_path: Path) -> None:
    layout, tree = Layout(tmp_path), tmp_path / "tree"

    assert ensure_wrapper(layout, tree)
    wrapper = tree / "bin" / WRAPPER_NAME
    assert stat.S_IMODE(wrapper.stat().st_mode) == 0o755
    assert not ensure_wrapper(layout, tree)
    with open(wrapper) as running:
        before = os.fstat(running.fileno()).st_ino
        wrapper.write_text("#!/bin/sh\n")
        assert ensure_wrapper(layout, tree)
        assert wrapper.stat().st_ino != before
    assert sorted(os.listdir(tree / "bin")) == sorted(path.name for path in files_of(tree))


def test_the_programs_are_there_before_their_wrapper(tmp_path: Path) -> None:
    """Whenever it is killed, the wrapper that stands finds what it names."""
    layout, tree = Layout(tmp_path), tmp_path / "tree"
    (tree / "bin").mkdir(parents=True)
    (tree / "bin" / WRAPPER_NAME).mkdir()  # in the way of the last step

    with pytest.raises(OSError, match=WRAPPER_NAME):
        ensure_wrapper(layout, tree)
    names = {path.name for path in (tree / "bin").glob("*.awk")}
    assert names == set(re.findall(r"runc-gpu-\w+-\w+\.awk", render(layout, tree)))
    assert len(names) == 2


def test_a_program_has_another_name_where_it_has_another_text(tmp_path: Path) -> None:
    """A call that is under way never reads a later wrapper's."""
    layout, tree = Layout(tmp_path), tmp_path / "tree"
    ensure_wrapper(layout, tree)
    for path in (tree / "bin").glob("*.awk"):
        assert path.stem.endswith(hashlib.sha256(path.read_bytes()).hexdigest()[:12])
        assert stat.S_IMODE(path.stat().st_mode) == 0o644
    path.unlink()
    assert ensure_wrapper(layout, tree)
    earlier = tree / "bin/runc-gpu-judge-0123456789ab.awk"
    earlier.write_text("")
    assert not ensure_wrapper(layout, tree)
    assert earlier in files_of(tree)


SCRIPT = """#!/bin/bash
jq '.process.env += ["NVIDIA_VISIBLE_DEVICES=all"]' config.json
exec /usr/bin/nvidia-container-runtime.real "$@"
"""


@pytest.mark.parametrize(
    ("content", "answer"),
    [
        pytest.param(render(Layout(), TREE), True, id="this charm's"),
        pytest.param(SCRIPT, True, id="made by hand"),
        pytest.param(SCRIPT.replace("nvidia-container-runtime.real", "runc.real"), True, id="runc"),
        pytest.param("#!/bin/sh\nexec runc.real --debug\n", False, id="somebody's debug script"),
        pytest.param('#!/bin/sh\nNVIDIA_VISIBLE_DEVICES=all exec runc "$@"\n', False, id="other"),
        pytest.param("\x7fELF" + SCRIPT, False, id="a program"),
        pytest.param(SCRIPT + "#" * (1 << 17), False, id="too big for one"),
        pytest.param("", False, id="empty"),
    ],
)
def test_wrappers_are_told_from_originals(tmp_path: Path, content: str, answer: bool) -> None:
    path = tmp_path / "runc"
    path.write_text(content)
    link = tmp_path / "link"
    link.symlink_to(path)

    assert is_wrapper(path) is answer
    assert is_wrapper(link) is answer


def test_what_is_not_there_is_no_wrapper(tmp_path: Path) -> None:
    (tmp_path / "dangling").symlink_to("nowhere")
    assert not is_wrapper(tmp_path / "dangling")
    assert not is_wrapper(tmp_path / "absent")
    assert not is_wrapper(tmp_path)


def test_the_table_is_text_that_everybody_may_read(tmp_path: Path) -> None:
    layout = Layout(tmp_path)

    assert ensure_devices(layout, DeviceTable(("GPU-a", "GPU-b"), (("0", "GPU-a"),), "compute"))
    assert layout.gpu_devices.read_text() == (
        "capabilities\tcompute\nallowed\tGPU-a,GPU-b\nsharing\tshared\ndefault\tall\n"
        "timeout\t0\ndevice\t0\tGPU-a\n"
    )
    assert stat.S_IMODE(layout.gpu_devices.stat().st_mode) == 0o644
    assert not ensure_devices(layout, DeviceTable(("GPU-a", "GPU-b"), (("0", "GPU-a"),), "compute"))
    assert ensure_devices(layout, TABLE)


@pytest.mark.parametrize("bad", ["a\tb", "a\nb", "a\x00b", "a\u2028b"])
def test_what_would_end_a_field_is_no_table(tmp_path: Path, bad: str) -> None:
    layout = Layout(tmp_path)
    for table in (
        DeviceTable((bad,), (), "all"),
        DeviceTable((), ((bad, "GPU-a"),), "all"),
        DeviceTable((), (("0", bad),), "all"),
        DeviceTable((), (), bad),
    ):
        with pytest.raises(ValueError, match="not fit for the table"):
            ensure_devices(layout, table)
    assert not layout.gpu_devices.exists()
