"""The faults of a machine itself: disks, dpkg, the driver, config.toml, systemd."""

from __future__ import annotations

from rehearsal.standins.gpu import Hardware
from tests.chaos import belongings, causes
from tests.chaos.belongings import OPERATORS, RUNC
from tests.chaos.causes import CONFIG, WORKER, Site, config, shell, smi
from tests.chaos.creating import PLAIN, REFUSED
from tests.chaos.fault import ACTIVE, BLOCKED, HOOK, INSTALLS, READY, WAITING, Fault, bare
from tests.chaos.scaled import LOCK, RESTART, SMI, SYSTEMCTL

FULL = r".*(the disk is full|No space left on device).*"
HANGS = "nvidia-smi hangs in the driver: reboot"
_MISMATCH = "Driver/library mismatch: kernel module 580.82.07, library 580.95.05: reboot"


def one_is_held(site: Site) -> None:
    """However many hooks ask, one nvidia-smi alone waits in the kernel."""
    held = site.machine.shell("ps -eo stat,comm | grep '^D.*nvidia-smi' || true").splitlines()
    assert len(held) == 1, held


DISKS = (
    Fault("full disk, nothing to do", ACTIVE, READY, causes.full_disk),
    # The choice before doesn't stay where another can't be written.
    Fault(
        "full disk, another choice",
        WAITING,
        FULL,
        causes.full_disk,
        {"gpu-device-ids": "0"},
        asking=REFUSED,
    ),
    Fault("full disk, another level", WAITING, FULL, causes.full_disk, {"log-level": "error"}),
    Fault(
        "full disk, undoing",
        WAITING,
        FULL,
        causes.full_disk,
        {"enable-gpu": False},
        asking=PLAIN,
    ),
    bare("full disk, set-up", WAITING, FULL, causes.full_disk),
    Fault(
        "no inodes, another choice",
        WAITING,
        FULL,
        causes.no_inodes,
        {"gpu-device-ids": "0"},
        asking=REFUSED,
    ),
    bare("no inodes, set-up", WAITING, FULL, causes.no_inodes),
    Fault("read-only /usr, nothing to do", ACTIVE, READY, causes.read_only_usr),
    Fault(
        "read-only /usr, undoing",
        WAITING,
        "Worker ready, GPU set-up not yet removed: the disk is"
        r" read-only \(/usr/bin/nvidia-container-runtime\).*",
        causes.read_only_usr,
        {"enable-gpu": False},
    ),
    bare("read-only /usr, set-up", WAITING, r"the disk is read-only .*", causes.read_only_usr),
)
DPKG = (
    bare(
        "apt locked",
        WAITING,
        r"apt is in use by python3 \(pid \d+\) \(will be retried\)",
        causes.apt_locked,
        limit=LOCK + INSTALLS,
    ),
    Fault(
        "half-configured dpkg",
        WAITING,
        f"{READY}, but installing .* failed, dpkg can't finish half:"
        r" see sudo dpkg --configure -a \(will be retried\)",
        causes.half_configured,
        bare=True,
        limit=INSTALLS,
    ),
    Fault(
        "dpkg killed as it configured the toolkit",
        ACTIVE,
        READY,
        causes.killed_configuring,
        bare=True,
        limit=INSTALLS,
    ),
    Fault(
        "dpkg killed as it unpacked the toolkit",
        ACTIVE,
        READY,
        causes.killed_unpacking,
        bare=True,
        limit=INSTALLS,
    ),
)
DRIVER = (
    Fault(
        "nvidia-smi in state D",
        BLOCKED,
        HANGS,
        causes.smi_in_state_d,
        hooks=3,
        limit=SMI + HOOK,
        asking=REFUSED,
        check=one_is_held,
    ),
    Fault(
        "nvidia-smi sleeps",
        BLOCKED,
        HANGS,
        smi("#!/bin/sh\nsleep 600\n"),
        hooks=2,
        limit=SMI + HOOK,
        asking=REFUSED,
    ),
    Fault(
        "nvidia-smi prints garbage",
        BLOCKED,
        "nvidia-smi says nothing that can be read: reboot",
        smi("#!/bin/sh\nhead -c 3000000 /dev/urandom\n"),
        hooks=2,
        asking=REFUSED,
    ),
    Fault(
        "nvidia-smi prints without end",
        BLOCKED,
        "nvidia-smi fails .*wrote without end.*: reboot",
        smi("#!/bin/sh\nexec yes '0, GPU-1, x, y, 1, 2'\n"),
        hooks=2,
        asking=REFUSED,
    ),
    Fault(
        "[GPU is lost]",
        BLOCKED,
        "GPU lost, it does not answer any more: reboot",
        causes.hardware(Hardware(lost=(0,))),
        hooks=2,
        asking=REFUSED,
    ),
    Fault("one of two lost", ACTIVE, READY, causes.hardware(causes.ONE_OF_TWO_LOST)),
    Fault(
        "library and module apart",
        BLOCKED,
        _MISMATCH,
        causes.hardware(Hardware(driver="580.82.07")),
        hooks=2,
        asking=REFUSED,
        docker=REFUSED,
    ),
)


def _unusable(name: str, script: str) -> Fault:
    """Return a config.toml that can't be used."""
    cause, check = config(script), belongings.set_aside
    return Fault(f"config.toml {name}", ACTIVE, READY, cause, spares=False, check=check)


CONFIGS = (
    _unusable("invalid", f"echo 'runtimes = [' >{CONFIG}"),
    _unusable("binary", f"head -c 999 /dev/urandom >{CONFIG}"),
    Fault("config.toml empty", ACTIVE, READY, config(f": >{CONFIG}"), spares=False),
    Fault("config.toml closed to all", ACTIVE, READY, shell(f"chmod 0 {CONFIG}")),
    Fault(
        "config.toml a link",
        ACTIVE,
        READY,
        shell(
            f"printf '%s' '{OPERATORS}' >/etc/theirs.toml; cp /etc/theirs.toml /run/linked\n"
            f"ln -sf /etc/theirs.toml {CONFIG}"
        ),
        check=belongings.link_is_kept,
    ),
    _unusable("a loop", f"ln -sf config.toml {CONFIG}"),
    _unusable("a folder", f"rm {CONFIG}; mkdir {CONFIG}; echo theirs >{CONFIG}/theirs"),
    _unusable("a pipe", f"rm {CONFIG}; mkfifo {CONFIG}"),
    Fault(
        "config.toml can't be replaced",
        WAITING,
        r"Device or resource busy \(.*\) \(will be retried\)",
        shell(
            f"""sed 's|^runtimes = .*|runtimes = ["{RUNC}", "runc", "crun"]|' {CONFIG}"""
            " >/etc/busy.toml\n"
            f"touch /etc/mounted.toml; mount --bind /etc/mounted.toml {CONFIG}\n"
            f"cat /etc/busy.toml >{CONFIG}",
            f"umount {CONFIG}; rm /etc/busy.toml /etc/mounted.toml",
        ),
        limit=RESTART + HOOK,
        asking=PLAIN,
    ),
)
SYSTEMD = (
    Fault(
        "systemd refuses the unit",
        WAITING,
        r"systemd can't load concourse-worker.service .*: see"
        r" systemctl status concourse-worker.service \(will be retried\)",
        shell(
            f"mkdir {WORKER}.d; printf '[Service]\\nExecStart=\\n' >{WORKER}.d/t.conf;"
            "systemctl daemon-reload",
            f"rm -r {WORKER}.d",
        ),
    ),
    Fault(
        "systemd hangs",
        WAITING,
        rf"systemctl did not finish within {SYSTEMCTL:g} s \(will be retried\)",
        causes.systemd_hung,
        limit=2 * SYSTEMCTL + HOOK,
    ),
)
FAULTS = (*DISKS, *DPKG, *DRIVER, *CONFIGS, *SYSTEMD)
