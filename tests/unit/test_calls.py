"""Who is on the way through the chain is seen, whatever it has become by then."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from gpu.calls import are_over, under_way
from host import Layout, wait_until


@contextmanager
def called(*argv: str | Path) -> Iterator[None]:
    """Have a command run for the length of a `with` block."""
    with subprocess.Popen(argv, stdin=subprocess.PIPE) as process:
        yield
        assert process.stdin
        process.stdin.close()  # each of them reads until then


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A tree whose programs are shells that read a line."""
    for name in ("opt/tree/bin", "usr/bin"):
        (tmp_path / name).mkdir(parents=True)
    for name in ("opt/tree/bin/runc.real", "usr/bin/nvidia-container-runtime.real", "shell"):
        shutil.copy("/bin/sh", tmp_path / name)
    for name in ("opt/tree/bin/runc-gpu-wrapper", "usr/bin/nvidia-container-runtime"):
        (tmp_path / name).write_text("#!/bin/sh\nread line\n")
    return tmp_path / "opt/tree"


@pytest.mark.parametrize(
    "argv",
    [
        ("shell", "opt/tree/bin/runc-gpu-wrapper"),
        ("shell", "usr/bin/nvidia-container-runtime"),
        ("usr/bin/nvidia-container-runtime.real",),
        ("opt/tree/bin/runc.real", "-s", "create"),
    ],
    ids=["the wrapper", "under Docker's name", "NVIDIA's runtime", "runc, which runs the hooks"],
)
def test_a_call_is_seen(tmp_path: Path, tree: Path, argv: tuple[str, ...]) -> None:
    layout = Layout(tmp_path)
    paths = [tmp_path / each if "/" in each or each == "shell" else each for each in argv]
    with called(*paths):
        assert wait_until(lambda: under_way(layout, [tree]), timeout=5, interval=0.05)
        assert not are_over(layout, [tree], timeout=0.6)
    assert are_over(layout, [tree])


def test_a_runc_that_creates_nothing_is_none(tmp_path: Path, tree: Path) -> None:
    with called(tree / "bin/runc.real", "-s", "start"):
        assert are_over(Layout(tmp_path), [tree])
