"""What reads other people's text, under a coverage-guided fuzzer, each for its own while."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from tests.chaos.frame import Chaos

PROMISE = (
    "What others write (options, keys, connection strings, TOML, nvidia-smi, apt sources, release"
    " files), under a coverage-guided fuzzer: read right or refused, in bounded time and memory."
)
SOURCE = Path(__file__).resolve().parents[2]
TARGETS = re.findall(
    r"^def (\w+)\(data: bytes\) -> None:", (SOURCE / "tests/chaos/fuzzing.py").read_text(), re.M
)
SECONDS, QUICK_SECONDS = 10, 6


def test_a_fuzzer_breaks_no_reader(chaos: Chaos, tmp_path: Path) -> None:
    assert len(TARGETS) > 10
    seconds = QUICK_SECONDS if chaos.quick else SECONDS
    for target in chaos.part(TARGETS, quick=3):
        with chaos.case(PROMISE, target):
            seed = chaos.dice(target).getrandbits(31)
            done = fuzz(target, tmp_path, f"-seed={seed}", f"-max_total_time={seconds}")
            assert done.returncode == 0, done.stderr[-4000:]
        runs = re.search(r"number_of_executed_units: (\d+)", done.stderr)
        assert runs, done.stderr[-1000:]
        chaos.tried(PROMISE, int(runs[1]) - 1, 0)


def fuzz(target: str, folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Run one target: 5 s and 1 GiB at most for one input, which is then a breach."""
    argv = [sys.executable, "-m", "tests.chaos.fuzzing", target, *options]
    argv += ["-timeout=5", "-rss_limit_mb=1024", "-max_len=8192", "-print_final_stats=1"]
    argv += [f"-artifact_prefix={folder}/"]
    paths = os.pathsep.join(str(SOURCE / name) for name in ("lib", "src", "."))
    return subprocess.run(
        argv,
        cwd=SOURCE,
        env={**os.environ, "PYTHONPATH": paths},
        capture_output=True,
        text=True,
        errors="replace",
        timeout=180,
        check=False,
    )
