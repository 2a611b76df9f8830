"""GpuManager on scratch machines: in order, and what becomes of glitches, lists and packages."""

from __future__ import annotations

import errno
import logging
import os
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

import actions
import attempts
from files import ensure_symlink, write_file
from gpu import looks, owned, runtime
from gpu.manager import CHAIN, PACKAGES, GpuWish
from gpu.selection import DeviceRequest
from gpu.sharing import Sharing
from gpu.toolkit import PACKAGES as TOOLKIT
from gpu.toolkit import ToolkitWish
from tests.unit import gpu_machines
from tests.unit.gpu_machines import NVIDIA, RUNC, WISH, Machine
from tests.unit.gpu_roots import gpu_uuid, row

machine = gpu_machines.machine


def test_a_machine_with_everything_ends_ready(
    machine: Machine, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    assert machine.ensure() == "GPU: 1x"
    assert runtime.chain_stands(machine.layout)
    for line in (
        "Creating GPU wrapper script...",
        "Backing up original runc...",
        "GPU wrapper installed successfully",
    ):
        assert line in caplog.messages
    state = machine.manager.observe()
    assert state.tags == ("gpu", "gpu-type=nvidia", "gpu-count=1")
    table = machine.layout.gpu_devices.read_text()
    assert f"allowed\t{gpu_uuid(0)}\n" in table


@pytest.mark.parametrize(
    ("mode", "tags", "default"),
    [("balanced", "auto", "1"), ("exclusive", "auto", "1"), ("exclusive", "none", "0")],
)
def test_how_gpus_are_shared_is_written_for_the_next_task(
    machine: Machine, mode: str, tags: str, default: str
) -> None:
    machine.ensure()
    assert machine.manager.observe().sharing == "shared"
    machine.ensure(replace(WISH, tags=tags, sharing=Sharing(mode, 90)))
    table = machine.layout.gpu_devices.read_text()
    assert f"sharing\t{mode}\ndefault\t{default}\ntimeout\t90\n" in table
    assert machine.manager.observe().sharing == mode


def test_gpu_status_shows_who_holds_what(tmp_path: Path) -> None:
    machine = Machine(tmp_path, gpus=2)
    machine.ensure(replace(WISH, sharing=Sharing("exclusive")))
    mine = Path("/proc/self/stat").read_text().rpartition(") ")[2].split()[19]
    lease = f"0c0ffee1-aaaa\t{os.getpid()}\t{mine}\t40.00\t{gpu_uuid(1)}\n"
    write_file(machine.layout.bundles / "0c0ffee1-aaaa/gpu-lease", lease)
    write_file(machine.layout.at("/proc/uptime"), "100.00 1.00\n")
    write_file(machine.layout.at(f"/proc/{os.getpid()}/stat"), Path("/proc/self/stat").read_text())
    shown = actions.gpu_status(machine.layout, machine.manager)
    assert shown["sharing"] == "exclusive"
    assert shown["gpu-0"]["held-by"] == ""
    assert shown["gpu-1"]["held-by"] == "0c0ffee1-aaaa (60 s)"


def test_a_machine_that_agrees_is_left_alone(
    machine: Machine, caplog: pytest.LogCaptureFixture
) -> None:
    machine.ensure()
    before = machine.picture()
    times = {path: path.lstat().st_mtime_ns for path in machine.layout.root.rglob("*")}
    caplog.clear()
    caplog.set_level(logging.INFO)
    for _ in range(3):
        assert machine.ensure() == "GPU: 1x"
    assert machine.picture() == before
    for path, stamp in times.items():
        if "smi" not in path.parts and "calls" not in path.name:
            assert path.lstat().st_mtime_ns == stamp, path
    assert not caplog.messages


def test_no_gpu_touches_nothing(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    shutil.rmtree(machine.layout.at("/sys"))
    shutil.rmtree(machine.layout.at("/dev"))
    shutil.rmtree(machine.layout.at("/usr/lib/x86_64-linux-gnu"))
    assert "No NVIDIA GPU" in machine.ensure()
    assert not machine.manager.begun
    assert not runtime.chain_stands(machine.layout)


def test_one_glitch_changes_nothing_and_two_take_the_gpu_away(machine: Machine) -> None:
    machine.ensure()
    table = machine.layout.gpu_devices.read_text()
    machine.root.smi(status=255, stderr="Unknown Error")
    assert machine.ensure() == "GPU: 1x"
    assert machine.layout.gpu_devices.read_text() == table
    assert "GPU: 1x" not in machine.ensure()
    assert machine.manager.observe().tags == ()
    assert runtime.chain_stands(machine.layout), "the wrapper tells tasks why"


def test_a_gpu_that_comes_back_is_believed_after_two_looks_in_one_hook(machine: Machine) -> None:
    machine.root.smi(status=255, stderr="Unknown Error")
    machine.ensure()
    machine.root.smi(row(0))
    assert machine.ensure() == "GPU: 1x"


def test_a_subset_is_tagged_and_tabled(tmp_path: Path) -> None:
    machine = Machine(tmp_path, gpus=3)
    wish = replace(WISH, request=DeviceRequest(everything=False, wanted=("0", "2", "7")))
    assert machine.ensure(wish) == "GPU: 2x"
    assert "gpu-devices=0+2" in machine.manager.observe().tags
    assert gpu_uuid(1) not in machine.layout.gpu_devices.read_text()


def test_a_list_without_a_gpu_that_is_here_blocks(machine: Machine) -> None:
    wish = replace(WISH, request=DeviceRequest(everything=False, wanted=("7",)))
    assert "gpu-device-ids" in machine.ensure(wish)


def test_a_changed_list_counts_at_once(tmp_path: Path) -> None:
    machine = Machine(tmp_path, gpus=2)
    machine.ensure()
    wish = replace(WISH, request=DeviceRequest(everything=False, wanted=("1",)))
    assert machine.ensure(wish) == "GPU: 1x"


@pytest.mark.parametrize(
    ("writer", "wish"),
    [
        ("gpu.looks", replace(WISH, request=DeviceRequest(everything=False, wanted=("1",)))),
        ("gpu.wrapper", replace(WISH, request=DeviceRequest(everything=False, wanted=("1",)))),
        ("gpu.wrapper", replace(WISH, capabilities="compute")),
        ("gpu.wrapper", replace(WISH, sharing=Sharing("exclusive", 90))),
    ],
    ids=["the offer", "its table", "capabilities", "sharing"],
)
def test_a_choice_that_can_not_be_written_is_no_longer_the_old_one(
    writer: str, wish: GpuWish, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = Machine(tmp_path, gpus=2)
    machine.ensure()
    old = machine.layout.gpu_devices.read_text()
    with monkeypatch.context() as full:
        full.setattr(f"{writer}.write_file", full_disk)
        assert machine.ensure(wish).startswith("the disk is full")
    assert machine.manager.observe().tags == ()
    assert not machine.layout.gpu_devices.exists(), "who asks for a GPU is told so"
    assert runtime.chain_stands(machine.layout), "plain runc would run tasks without their GPU"
    assert machine.ensure(wish).startswith("GPU: ")
    assert machine.layout.gpu_devices.read_text() != old


def test_a_glitch_on_a_full_disk_takes_no_gpu_away(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine.ensure()
    machine.root.smi(status=255, stderr="Unknown Error")
    monkeypatch.setattr("gpu.looks.write_file", full_disk)
    before = machine.picture()
    assert machine.ensure() == "GPU: 1x"
    assert "the disk is full" in machine.manager.observe().note
    changed = set(machine.picture().items()) - set(before.items())
    assert all("attempts" in name for name, _ in changed), changed


def full_disk(path: Path, *_: object, **__: object) -> bool:
    """Stand in for `write_file`."""
    raise OSError(errno.ENOSPC, "No space left on device", str(path))


def test_packages_that_fail_are_tried_again_later_and_at_once_on_request(
    machine: Machine,
) -> None:
    machine.packages("")
    calls = machine.layout.at("/apt-calls")
    machine.root.program(
        "apt-get", f'echo "$*" >> {calls}; echo "E: Could not resolve" >&2; exit 100'
    )
    machine.root.program("apt-cache", "true")
    wish = replace(WISH, toolkit=ToolkitWish("1.20.0", "https://example.invalid/deb"))
    first = machine.ensure(wish)
    assert "GPU: " not in first
    assert machine.manager.observe().waiting
    assert attempts.last(machine.layout, PACKAGES) is not None
    tried = attempts.last(machine.layout, PACKAGES)
    machine.ensure(wish)
    assert attempts.last(machine.layout, PACKAGES) == tried, "the pause is not over"
    machine.ensure(wish, at_once=True)
    again = attempts.last(machine.layout, PACKAGES)
    assert again is not None
    assert again.failures == 2
    assert machine.runc_works()
    assert not runtime.tree_is_wrapped(machine.tree)


def test_a_held_old_toolkit_leaves_the_gpu_off(machine: Machine) -> None:
    machine.packages("1.17.0-1", want="hold")
    said = machine.ensure()
    assert "held at 1.17.0-1" in said
    assert not runtime.tree_is_wrapped(machine.tree)


@pytest.mark.parametrize(
    "break_it",
    ["exit 1", "sleep 60", 'exec "$0" "$@"', "echo NVIDIA Container Runtime version 1.20.0"],
    ids=["fails", "hangs", "loops", "never reaches runc"],
)
def test_a_chain_that_does_not_answer_leaves_plain_runc_in_place(
    break_it: str, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gpu.selftest.LIMIT", 1.0)
    write_file(machine.layout.nvidia_runtime, f"#!/bin/sh\n{break_it}\n", mode=0o755)
    said = machine.ensure()
    assert said.startswith("GPU self-test failed")
    assert machine.runc_works()
    assert not runtime.tree_is_wrapped(machine.tree)
    write_file(machine.layout.nvidia_runtime, NVIDIA % machine.layout.nvidia_config, mode=0o755)
    assert machine.ensure() == "GPU: 1x", "it recovers when the cause ends"


def test_observing_an_untouched_machine_says_that_nothing_ran_yet(machine: Machine) -> None:
    assert machine.manager.observe().waiting
    assert looks.settled(machine.layout) is None
    assert attempts.last(machine.layout, CHAIN) is None


def test_a_new_tree_gets_the_wrapper_before_it_becomes_current(machine: Machine) -> None:
    """Docker's nvidia-container-runtime goes through the current tree, whatever the wish is."""
    machine.ensure()
    newer = machine.layout.trees / "8.4.0"
    write_file(newer / "bin/runc", RUNC, mode=0o755)
    machine.packages("1.17.0-1", want="hold")  # nothing can be built any more
    assert machine.manager.carry(newer)
    assert not machine.manager.carry(newer)
    ensure_symlink(machine.layout.concourse, "concourse-releases/8.4.0")
    done = subprocess.run(
        [machine.layout.nvidia_runtime, "--version"], capture_output=True, text=True, check=True
    )
    assert "runc version" in done.stdout
    assert runtime.tree_is_wrapped(newer)


def test_a_tree_is_left_alone_where_the_gpu_was_never_begun(machine: Machine) -> None:
    assert not machine.manager.carry(machine.tree)
    assert runtime.classify(machine.layout.runc) is runtime.Kind.ORIGINAL


def test_a_failed_change_of_the_toolkit_is_a_note_while_the_old_one_works(
    machine: Machine,
) -> None:
    machine.ensure()
    owned.remember(machine.layout, TOOLKIT)
    machine.root.program("apt-get", 'echo "E: Could not resolve" >&2; exit 100')
    machine.root.program("apt-cache", "true")
    machine.root.program("dpkg", "true")
    wish = replace(WISH, toolkit=replace(WISH.toolkit, version="1.20.1"))
    assert machine.ensure(wish, at_once=True) == "GPU: 1x"
    remembered = attempts.last(machine.layout, PACKAGES)
    assert remembered is not None
    assert machine.manager.observe().note == remembered.what


def test_a_glitch_in_the_moment_of_a_changed_option_takes_no_gpu_away(machine: Machine) -> None:
    machine.ensure()
    once = machine.layout.at("/glitched")
    machine.root.smi(row(0), extra=f"[ -e {once} ] || {{ : > {once}; exit 255; }}")
    assert machine.ensure(replace(WISH, tags="mine")) == "GPU: 1x"
    assert machine.manager.observe().tags == ("mine",)


def test_jq_that_can_not_be_had_keeps_no_toolkit_away(machine: Machine) -> None:
    machine.layout.at("/usr/bin/jq").unlink()
    machine.root.program("apt-get", 'echo "E: Unable to locate package jq" >&2; exit 100')
    machine.root.program("dpkg", "true")
    assert machine.ensure() == "GPU: 1x"
    assert "jq" in machine.manager.observe().note


def test_what_is_here_is_said_as_an_operator_would_write_it(tmp_path: Path) -> None:
    assert Machine(tmp_path, gpus=2).manager.here() == "0, 1"
