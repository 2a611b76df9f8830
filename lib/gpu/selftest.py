"""Proves that the runtime chain answers before anybody depends on it.

`--version` walks the whole chain without a container: the toolkit's runtime
prints its own version and then runs runc's (nvidia-container-toolkit 1.20,
internal/runtime).  A broken config.toml, a missing runc.real and a loop all
show as a failure or as running out of time.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from files import ensure_dir, ensure_symlink, read_text, remove, write_file
from gpu.errors import GpuError
from gpu.wrapper import WRAPPER_NAME
from host import CommandError, Layout, run

log = logging.getLogger(__name__)

LIMIT = 5.0  # seconds; the walk takes well under 0.1 s
CPU_LIMIT = 5  # seconds; a chain that is a loop would else spin on after a hook that is killed
CONFIG_VARIABLE = "NVIDIA_CTK_CONFIG_FILE_PATH"  # read by the toolkit from 1.18 on


def ensure_proved(layout: Layout, trees: Sequence[Path], original: Path) -> bool:
    """Call the chain once, before the swap, unless exactly these files answered before.

    Args:
        layout: where everything lies.
        trees: release trees whose wrapper and runc.real are in place, swapped or not.
        original: where nvidia-container-runtime itself lies now.

    Returns:
        True if the chain was called.

    Raises:
        GpuError: something in the chain doesn't answer.
    """
    fingerprint = _fingerprint(layout, trees, original)
    if read_text(_memory(layout)) == fingerprint:
        return False
    _answers([str(original)], "NVIDIA's runtime with the machine's configuration")
    _answers(
        [str(original)],
        "NVIDIA's runtime with the worker's configuration",
        env={CONFIG_VARIABLE: str(layout.chain_config)},
    )
    for tree in trees:
        _answers_as_runc(layout, tree)
    write_file(_memory(layout), fingerprint, mode=0o600)
    return True


def through_names(layout: Layout) -> None:
    """Call the swapped names as Concourse and Docker call them.

    Raises:
        GpuError: one of them doesn't answer.
    """
    _answers([str(layout.runc)], str(layout.runc))
    _answers([str(layout.nvidia_runtime)], str(layout.nvidia_runtime))


def forget(layout: Layout) -> bool:
    """Forget which chain answered, so that the next set-up proves it again."""
    remove(_scratch(layout))
    return remove(_memory(layout))


def _answers_as_runc(layout: Layout, tree: Path) -> None:
    """Call a tree's wrapper under the name runc, which decides what it does."""
    folder = _scratch(layout)
    ensure_dir(folder, 0o700)
    try:
        ensure_symlink(folder / "runc", tree / "bin" / WRAPPER_NAME)
        _answers([str(folder / "runc")], f"the wrapper in {tree}")
    finally:
        remove(folder)


def _answers(command: Sequence[str], name: str, env: Mapping[str, str] | None = None) -> None:
    try:
        done = run([*command, "--version"], timeout=LIMIT, env=env, cpu_limit=CPU_LIMIT)
    except CommandError as error:
        log.warning("%s --version: %s\n%s", command[0], error, error.output)
        raise GpuError(
            f"GPU self-test failed: {name} gave no version ({error.what})",
            retry=True,
            remedy="the worker runs CPU tasks; the action verify-gpu says more",
        ) from error
    if "runc version" not in done.stdout:
        raise GpuError(f"GPU self-test failed: {name} did not reach runc", retry=True)


def _fingerprint(layout: Layout, trees: Sequence[Path], original: Path) -> str:
    files = [original, layout.nvidia_config, layout.chain_config]
    for tree in trees:
        files += [tree / "bin/runc.real", tree / "bin" / WRAPPER_NAME]
    lines = []
    for file in files:
        status = os.stat(file)
        lines.append(f"{status.st_ino} {status.st_size} {status.st_mtime_ns}")
    return "\n".join(lines) + "\n"


def _scratch(layout: Layout) -> Path:
    return layout.state / "gpu/selftest"


def _memory(layout: Layout) -> Path:
    return layout.state / "gpu/proved"
