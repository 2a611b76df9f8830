"""What reads other people's text, under a coverage-guided fuzzer, each for its own while."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from tests.chaos import fuzzing_starts
from tests.chaos.frame import Chaos
from tests.chaos.fuzzing_starts import STARTS
from tests.chaos.fuzzing_tally import told

PROMISE = (
    "What others write (options, keys, connection strings, TOML, nvidia-smi, apt sources, release"
    " files), under a coverage-guided fuzzer: read right or refused, in bounded time and memory."
)
SOURCE = Path(__file__).resolve().parents[2]
TARGETS = re.findall(
    r"^def (\w+)\(data: bytes\) -> None:", (SOURCE / "tests/chaos/fuzzing.py").read_text(), re.M
)
SECONDS, QUICK_SECONDS = 10, 6
LEAST = 16  # texts that each reader has to take, and to refuse
NEVER_REFUSED = ("symbolic link", "hard link")  # counted where they were made


def test_a_fuzzer_breaks_no_reader(chaos: Chaos, tmp_path: Path) -> None:
    assert list(STARTS) == TARGETS
    seconds = QUICK_SECONDS if chaos.quick else SECONDS
    for target in chaos.part(TARGETS, quick=3):
        folder = tmp_path / target
        options = fuzzing_starts.write(target, folder)
        with chaos.case(PROMISE, target):
            seed = chaos.dice(target).getrandbits(31)
            done = fuzz(target, folder, f"-seed={seed}", f"-max_total_time={seconds}", *options)
            assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]
        runs = re.search(r"number_of_executed_units: (\d+)", done.stderr)
        assert runs, done.stderr[-1000:]
        chaos.tried(PROMISE, int(runs[1]) - 1, 0)
        # A target whose readers never take anything, or always, has shown nothing.
        counts = told(folder / "tally")
        assert counts.keys() == set(STARTS[target].readers), counts
        for reader, (taken, refused) in counts.items():
            assert taken >= LEAST, (target, counts)
            assert refused >= LEAST or reader in NEVER_REFUSED, (target, counts)


def fuzz(target: str, folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Run one target: 5 s and 1 GiB at most for one input, which is then a breach."""
    argv = [sys.executable, "-m", "tests.chaos.fuzzing", target, str(folder / "tally"), *options]
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
