"""The chain's own config.toml, made from the machine's."""

from __future__ import annotations

from pathlib import Path

from gpu.nvidia_config import ensure_chain_config, undo
from host import Layout
from tests.unit.nvidia_configs import RUNC, config, values


def test_the_chains_own_file_closes_the_side_doors(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    config(
        layout,
        'swarm-resource = "DOCKER_RESOURCE_GPU"\n'
        "accept-nvidia-visible-devices-envvar-when-unprivileged = false\n"
        "accept-nvidia-visible-devices-as-volume-mounts = true\n"
        'supported-driver-capabilities = "compute,utility"\n'
        "[nvidia-container-cli]\n"
        'root = "/run/nvidia/driver"\nldconfig = "/sbin/ldconfig"\nload-kmods = true\n'
        "[nvidia-container-runtime]\n"
        'runtimes = ["runc"]\nmode = "bogus"\nlog-level = "loud"\ndebug = "/var/log/n.log"\n'
        "[nvidia-container-runtime.modes.cdi]\n"
        'annotation-prefixes = ["cdi.k8s.io/"]\nspec-dirs = ["/srv/cdi"]\n'
        "[nvidia-container-runtime.modes.legacy]\n"
        'cuda-compat-mode = "mount"\n'
        "[features]\n"
        "allow-ldconfig-from-container = true\nallow-cuda-compat-libs-from-container = true\n"
        "allow-unknown-oci-spec-fields = true\ndisable-cuda-compat-lib-hook = true\n",
    )
    assert ensure_chain_config(layout, runtime=RUNC, no_cgroups=True)
    assert not ensure_chain_config(layout, runtime=RUNC, no_cgroups=True)
    assert layout.chain_config.stat().st_mode & 0o777 == 0o644
    assert values(layout.chain_config) == {
        "accept-nvidia-visible-devices-envvar-when-unprivileged": True,
        "accept-nvidia-visible-devices-as-volume-mounts": False,
        "supported-driver-capabilities": "compute,utility",
        "nvidia-container-cli": {
            "root": "/run/nvidia/driver",
            "load-kmods": True,
            "no-cgroups": True,
        },
        "nvidia-container-runtime": {
            "runtimes": [str(RUNC)],
            "mode": "auto",
            "debug": "/var/log/n.log",
            "modes": {"cdi": {"annotation-prefixes": [], "spec-dirs": ["/srv/cdi"]}},
        },
        "features": {
            "ignore-imex-channel-requests": True,
            "disable-cuda-compat-lib-hook": True,
        },
    }
    undo(layout)
    assert layout.chain_config.exists(), "calls that are under way read it"


def test_without_a_machine_file_the_chain_has_one_all_the_same(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    assert ensure_chain_config(layout, runtime=RUNC, no_cgroups=False)
    assert values(layout.chain_config)["nvidia-container-runtime"]["runtimes"] == [str(RUNC)]
    assert not layout.nvidia_config.exists()
