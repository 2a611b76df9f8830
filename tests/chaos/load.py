#!/usr/bin/python3
"""Creates and deletes containers through the worker's containerd, in the machine, until told.

    load.py FOLDER PARALLEL SPEC...

Each of PARALLEL loops makes one container after the other, of each spec in turn.  A line of
JSON for each goes to FOLDER/results: when it began and ended (seconds, monotonic), which
spec, and what was said if it failed.  The file FOLDER/stop ends it.
"""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
import threading
import time
from pathlib import Path

CTR = ("/opt/concourse/bin/ctr", "--address", "/run/containerd/containerd.sock")
LIMIT = 60.0  # seconds for one container; it takes a tenth of one


def loop(folder: Path, number: int, specs: list[str], results: list[str]) -> None:
    """Make containers until the file `stop` is there."""
    for count in itertools.count():
        if (folder / "stop").exists():
            return
        handle, spec = f"load-{number}-{count}", specs[(count + number) % len(specs)]
        own = write_spec(Path(spec), folder / f"loop-{number}.json", handle)
        begun = time.monotonic()
        argv = [*CTR, "--namespace", "concourse", "run", "--rm", "--null-io"]
        try:
            done = subprocess.run(
                [*argv, "--config", str(own), handle],
                capture_output=True,
                text=True,
                timeout=LIMIT,
                check=False,
            )
            said = done.stderr.strip()[-400:] if done.returncode else ""
        except subprocess.TimeoutExpired:
            said = f"not done within {LIMIT:g} s"
        record = {"begun": begun, "ended": time.monotonic(), "spec": spec, "said": said}
        results.append(json.dumps(record))
        if said:
            time.sleep(0.2)


def write_spec(spec: Path, own: Path, handle: str) -> Path:
    """Write a container's own spec: as with Concourse, its cgroup has its handle."""
    content = json.loads(spec.read_text())
    content["linux"]["cgroupsPath"] = f"/garden/{handle}"
    own.write_text(json.dumps(content))
    return own


def main() -> int:
    """Run all loops to their end, and write what happened every half second."""
    folder, specs = Path(sys.argv[1]), sys.argv[3:]
    results: list[str] = []
    loops = [
        threading.Thread(target=loop, args=(folder, number, specs, results))
        for number in range(int(sys.argv[2]))
    ]
    for one in loops:
        one.start()
    written = 0
    with (folder / "results").open("w") as out:
        while True:
            running = any(one.is_alive() for one in loops)
            fresh = results[written:]
            written += len(fresh)
            out.write("".join(f"{line}\n" for line in fresh))
            out.flush()
            if not running:
                return 0
            time.sleep(0.5)


if __name__ == "__main__":
    sys.exit(main())
