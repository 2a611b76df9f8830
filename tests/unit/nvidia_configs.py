"""A config.toml for the tests, as NVIDIA's package leaves it, and its values."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from gpu.toml_edit import values_of
from host import Layout

RUNC = Path("/opt/concourse/bin/runc.real")

# As a fresh installation of nvidia-container-toolkit 1.20.0 leaves it, shortened.
PACKAGED = """\
#accept-nvidia-visible-devices-as-volume-mounts = false
disable-require = false
supported-driver-capabilities = "compat32,compute,display,graphics,ngx,utility,video"
#swarm-resource = "DOCKER_RESOURCE_GPU"

[nvidia-container-cli]
#debug = "/var/log/nvidia-container-toolkit.log"
environment = []
ldconfig = "@/sbin/ldconfig"
load-kmods = true
#no-cgroups = false

[nvidia-container-runtime]
log-level = "info"
mode = "auto"
runtimes = ["runc", "crun"]  # the low-level ones

[nvidia-container-runtime.modes]

[nvidia-container-runtime.modes.cdi]
annotation-prefixes = ["cdi.k8s.io/"]
default-kind = "nvidia.com/gpu"
spec-dirs = ["/etc/cdi", "/var/run/cdi"]

[nvidia-ctk]
path = "nvidia-ctk"
"""


def config(layout: Layout, text: str | bytes) -> Path:
    path = layout.nvidia_config
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def values(path: Path) -> dict[str, Any]:
    return values_of(path.read_text())
