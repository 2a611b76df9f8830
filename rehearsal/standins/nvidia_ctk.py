#!/usr/bin/python3
"""Stand-in for nvidia-ctk: `config --in-place`, which the package's own script runs.

Like the real one it keeps every value of config.toml and drops every comment, and
fails on a file that isn't valid TOML.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

CONFIG = Path("/etc/nvidia-container-runtime/config.toml")
DEFAULT = """\
disable-require = false
supported-driver-capabilities = "compat32,compute,display,graphics,ngx,utility,video"

[nvidia-container-cli]
environment = []
ldconfig = "@/sbin/ldconfig"
load-kmods = true

[nvidia-container-runtime]
log-level = "info"
mode = "auto"
runtimes = ["runc", "crun"]

[nvidia-container-runtime.modes.cdi]
default-kind = "nvidia.com/gpu"
spec-dirs = ["/etc/cdi", "/var/run/cdi"]

[nvidia-container-runtime.modes.legacy]
cuda-compat-mode = "ldconfig"

[nvidia-container-runtime-hook]
path = "nvidia-container-runtime-hook"
skip-mode-detection = false
"""


def main() -> int:
    """Rewrite the configuration, or make it."""
    if sys.argv[1:] != ["config", "--in-place"]:
        print("nvidia-ctk (a stand-in of the rehearsal): config --in-place is all it does")
        return 1
    text = CONFIG.read_text() if CONFIG.exists() else DEFAULT
    for number, line in enumerate(text.splitlines(), 1):
        bare = line.partition("#")[0].strip()
        if bare and "=" not in bare and not bare.startswith("[") and bare not in ("]", "],"):
            print(f"unable to load config: line {number} is no TOML: {line}", file=sys.stderr)
            return 1
    kept = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    CONFIG.parent.mkdir(parents=True, exist_ok=True)
    temporary = CONFIG.with_suffix(".new")
    temporary.write_text("\n".join(kept) + "\n")
    os.replace(temporary, CONFIG)
    return 0


if __name__ == "__main__":
    sys.exit(main())
