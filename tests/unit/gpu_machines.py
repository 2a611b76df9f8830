"""Scratch machines for GpuManager, with packages and NVIDIA's runtime.

Packages are there already (a fake dpkg-query says so) and NVIDIA's runtime is a
script that reads its configuration as the real one does; everything else, the
files, links and dpkg's diversion, is real.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from files import ensure_symlink, write_file
from gpu.manager import GpuManager, GpuWish
from gpu.selection import DeviceRequest
from gpu.toolkit import PACKAGES as TOOLKIT
from gpu.toolkit import ToolkitWish
from host import Layout
from tests.unit.gpu_roots import Root

WISH = GpuWish(
    DeviceRequest(), "all", "auto", "worker", ToolkitWish("1.20.0", "https://example.test/deb")
)
RUNC = '#!/bin/sh\nshift $(($# - 1)); [ "$1" = --version ] && echo "runc version 1.1.5"\n'
# Like the real one it runs the first of its `runtimes`, from the file that it is told to read.
NVIDIA = """#!/bin/sh
config=${NVIDIA_CTK_CONFIG_FILE_PATH:-%s}
[ "$1" = --version ] && echo "NVIDIA Container Runtime version 1.20.0"
exec "$(sed -n 's/^runtimes *= *\\["\\([^"]*\\)"\\].*/\\1/p' "$config")" "$@"
"""


class Machine:
    """A scratch machine with GPUs, packages and one Concourse tree."""

    def __init__(self, folder: Path, gpus: int = 1) -> None:
        self.root = Root(folder).worker(gpus)
        self.layout = Layout(folder)
        self.tree = self.layout.trees / "8.3.0"
        write_file(self.tree / "bin/runc", RUNC, mode=0o755)
        write_file(self.tree / "bin/concourse", "#!/bin/sh\necho 8.3.0\n", mode=0o755)
        ensure_symlink(self.layout.concourse, "concourse-releases/8.3.0")
        config = self.layout.nvidia_config
        write_file(self.layout.nvidia_runtime, NVIDIA % config, mode=0o755)
        write_file(config, '# theirs\n[nvidia-container-runtime]\nruntimes = ["runc"]\n')
        self.layout.at("/var/lib/dpkg").mkdir(parents=True)
        self.layout.at("/tmp").mkdir()
        for name in ("dpkg-divert",):
            os.symlink(shutil.which(name) or "", self.layout.at(f"/usr/bin/{name}"))
        self.root.program("jq", "")
        self.packages("1.20.0-1")
        self.said: list[str] = []
        self.manager = GpuManager(self.layout, self.said.append)

    def packages(self, version: str, want: str = "install") -> None:
        """Let dpkg-query show the toolkit's packages in a version; "" for none."""
        lines = [f"{name}\t{want}\tinstalled\t{version}" for name in TOOLKIT if version]
        self.root.write("/packages", "".join(f"{line}\n" for line in lines))
        self.root.program("dpkg-query", f"cat {self.layout.at('/packages')}")

    def ensure(self, wish: GpuWish = WISH, *, at_once: bool = False) -> str:
        """Reconcile and return what the status would say about the GPU."""
        state = self.manager.ensure(wish, [self.tree], at_once=at_once)
        return state.trouble or f"GPU: {state.count}x"

    def undo(self) -> bool:
        return self.manager.undo([self.tree])

    def picture(self) -> dict[str, str]:
        found = {}
        for path in sorted(self.layout.root.rglob("*")):
            name = str(path.relative_to(self.layout.root))
            if name.startswith(("smi", "var/lib/dpkg")):
                continue
            if path.is_symlink():
                found[name] = f"-> {os.readlink(path)}".replace(str(self.layout.root), "")
            elif path.is_file() and path.name != "proved":  # inode numbers
                text = path.read_text().replace(str(self.layout.root), "")
                found[name] = f"{path.stat().st_mode & 0o7777:o} {text}"
        return found

    def runc_works(self) -> bool:
        done = subprocess.run(
            [self.layout.runc, "--version"], capture_output=True, text=True, check=False, timeout=10
        )
        return "runc version" in done.stdout


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)
