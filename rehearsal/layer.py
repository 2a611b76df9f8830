"""The machine's disk: an overlay on this one, with what every machine needs put in.

Nothing here touches the host: all is mounted in the holder's own namespace, on a
tmpfs, and gone with it.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

# What the copy of a bare Debian needs before systemd can boot in it, by a file that tells.
NEEDED = {
    "/lib/systemd/systemd": "systemd",
    "/sbin/init": "systemd-sysv",
    "/usr/bin/dbus-daemon": "dbus",
    "/usr/bin/systemd-nspawn": "systemd-container",
    "/usr/bin/pgrep": "procps",
    "/usr/bin/gpg": "gpg",
    "/usr/bin/gpg-agent": "gpg-agent",
    "/usr/bin/ssh-keygen": "openssh-client",
    "/sbin/ip": "iproute2",
}
# Concourse's worker brings its own containerd and runc, and the charm installs jq itself.
UNWANTED = ("jq", "runc", "containerd", "containerd.io", "docker.io", "docker-ce", "podman")
OUTSIDE = "/run/outside"  # where the machine finds what the runner puts before it
RUNTIME = ("containerd", "containerd-shim-runc-v2", "ctr", "runc")


def mount(place: Path) -> None:
    """Mount the overlay at root/ below `place`, and a /proc of this pid namespace."""
    _run(["mount", "-t", "proc", "proc", "/proc"])
    _run(["mount", "-t", "tmpfs", "-o", "mode=755", "rehearsal", str(place)])
    for name in ("upper", "work", "root", "outside"):
        (place / name).mkdir()
    options = f"lowerdir=/,upperdir={place}/upper,workdir={place}/work"
    _run(["mount", "-t", "overlay", "overlay", "-o", options, str(place / "root")])


def prepare(place: Path, hostname: str, *, report: Callable[[str], None]) -> None:
    """Bring a copy of any Debian or Ubuntu to the state that a rehearsal starts from.

    Args:
        place: the machine's folder; containerd and runc end in its outside/runtime.
        hostname: the copy's name.
        report: told each step that takes seconds.
    """
    root = place / "root"
    policy = root / "usr/sbin/policy-rc.d"
    before = policy.read_bytes() if policy.exists() else None
    policy.write_text("#!/bin/sh\nexit 101\n")
    policy.chmod(0o755)
    # Each apt run would spend seconds on an index of manual pages (man-db's own switch).
    (root / "var/lib/man-db/auto-update").unlink(missing_ok=True)
    # An image for containers lets apt keep no cache, so that each call reads all lists anew, for
    # seconds; no machine of Juju's is made from one.
    for rule in (root / "etc/apt/apt.conf.d").glob("docker-*"):
        rule.unlink()
    try:
        missing = [name for path, name in NEEDED.items() if not _exists(root, path)]
        if missing:
            report("Reading the package lists")
            chroot(root, ["apt-get", "update", "-qq"], timeout=300)
            report(f"Installing {', '.join(missing)} in the copy")
            _apt(root, "install", "--no-install-recommends", *missing)
        _take_runtime(place / "outside/runtime", root, report)
        _remove_unwanted(root, report)
    finally:
        policy.unlink()
        if before is not None:
            policy.write_bytes(before)
    for name in (".dockerenv", "run/.containerenv"):
        (root / name).unlink(missing_ok=True)  # marks of what the host itself runs in
    _configure(root, hostname)


def _exists(root: Path, path: str) -> bool:
    return Path(os.path.realpath(root)).joinpath(path.lstrip("/")).exists()


def _take_runtime(target: Path, root: Path, report: Callable[[str], None]) -> None:
    """Copy Debian's containerd and runc out of the machine, fetching them if need be."""
    found = {name: _find(root, name) for name in RUNTIME}
    if not all(found.values()):
        report("Fetching Debian's containerd and runc")
        if not any((root / "var/lib/apt/lists").glob("*Packages*")):
            chroot(root, ["apt-get", "update", "-qq"], timeout=300)
        _apt(root, "install", "--no-install-recommends", "containerd", "runc")
        found = {name: _find(root, name) for name in RUNTIME}
    target.mkdir(parents=True)
    for name, path in found.items():
        if path is None:
            raise RuntimeError(f"apt gave no {name}")
        (target / name).write_bytes(path.read_bytes())
        (target / name).chmod(0o755)


def _find(root: Path, name: str) -> Path | None:
    for folder in ("usr/bin", "usr/sbin"):
        if (root / folder / name).is_file():
            return root / folder / name
    return None


def _remove_unwanted(root: Path, report: Callable[[str], None]) -> None:
    query = ["dpkg-query", "-W", "-f", "${Package} ${db:Status-Status}\n", *UNWANTED]
    listing = chroot(root, query, timeout=30, check=False)
    lines = [line.split() for line in listing.splitlines()]
    present = [words[0] for words in lines if words[1:] == ["installed"]]
    if present:
        report(f"Taking {', '.join(present)} out of the copy")
        _apt(root, "purge", *present)


def _apt(root: Path, *arguments: str) -> None:
    argv = ["apt-get", "-qq", "-y", "-o", "Dpkg::Use-Pty=0", *arguments]
    chroot(root, argv, timeout=600)


def _configure(root: Path, hostname: str) -> None:
    """Write the few files that make the copy a quiet machine of its own."""
    (root / "etc/hostname").write_text(f"{hostname}\n")
    # None of this machine's own services starts in the copy: what they listen on and write
    # to is theirs, and a containerd of Debian's would take the worker's socket.
    for pattern in ("etc/systemd/system/*.wants/*", "etc/rc[2-5].d/S*"):
        for link in root.glob(pattern):
            if link.is_symlink() and link.suffix != ".target":
                link.unlink()
    (root / "etc/apt/apt.conf.d/00rehearsal").write_text(
        'Acquire::http::Proxy "http://127.0.0.1:3128";\n'
        'Acquire::https::Proxy "http://127.0.0.1:3128";\n'
        'Acquire::http::Proxy::127.0.0.1 "DIRECT";\n'
    )


def chroot(root: Path, argv: Sequence[str], *, timeout: float, check: bool = True) -> str:
    """Run a command in the copy before it is booted; return its standard output.

    Raises:
        RuntimeError: it failed (with check); the end of what it wrote is the message.
    """
    script = (
        'for d in dev proc sys; do mount --rbind "/$d" "$0/$d" || exit 1; done; chroot "$0" "$@"'
    )
    inside = [
        "unshare",
        "--mount",
        "--propagation",
        "unchanged",
        "sh",
        "-c",
        script,
        str(root),
        *argv,
    ]
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C.UTF-8"}
    done = subprocess.run(
        inside, env=environment, capture_output=True, text=True, timeout=timeout, check=False
    )
    if check and done.returncode != 0:
        end = (done.stderr or done.stdout).strip().splitlines()[-3:]
        raise RuntimeError(f"{argv[0]} failed in the copy: {' / '.join(end)}")
    return done.stdout


def nspawn(place: Path, options: dict[str, Any]) -> list[str]:
    """Return the command that boots the copy.

    It runs from inside the copy, where systemd-container is installed even if the
    host has none; a second mount of the same folder is what it boots.  What the
    machine is to see of the host comes by way of /media, where that mount hides it.

    Args:
        place: the machine's folder.
        options: hostname; binds, host paths that the machine sees read-only.
    """
    root = place / "root"
    _run(["mount", "--bind", str(root), str(root / "mnt")])
    for name in ("dev", "proc", "sys"):
        _run(["mount", "--rbind", f"/{name}", str(root / name)])
    _run(["mount", "-t", "tmpfs", "-o", "mode=755", "binds", str(root / "media")])
    enter = 'cd "$0" && pivot_root . . && umount -l . && exec "$@"'
    argv = ["unshare", "--mount", "sh", "-c", enter, str(root)]
    argv += ["systemd-nspawn", "--directory=/mnt", "--boot", "--quiet"]
    argv += ["--register=no", "--keep-unit", "--link-journal=no", "--console=read-only"]
    argv += ["--private-network", "--private-users=no", "--capability=all"]
    argv += ["--resolv-conf=off", "--timezone=off"]
    argv += ["--system-call-filter=add_key keyctl bpf"]
    argv += [f"--hostname={options['hostname']}", f"--machine={options['hostname']}"]
    shares = [(str(place / "outside"), OUTSIDE, "--bind")]
    shares += [(path, path, "--bind-ro") for path in options["binds"]]
    for number, (source, target, option) in enumerate(shares):
        way = root / "media" / str(number)
        way.mkdir()
        _run(["mount", "--rbind", source, str(way)])
        argv.append(f"{option}=/media/{number}:{target}")
    return argv


def _run(argv: Sequence[str]) -> None:
    done = subprocess.run(argv, capture_output=True, text=True, timeout=30, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(argv)}: {done.stderr.strip()}")
