"""Stand-in for a Concourse release: its layout, around Debian's real containerd and runc."""

from __future__ import annotations

import hashlib
import io
import platform
import tarfile
from pathlib import Path

from rehearsal.layer import RUNTIME

from .gpu import stand_in

VERSION = "8.3.0"
NEXT_VERSION = "8.3.1"
_ARCHES = {"x86_64": "amd64", "aarch64": "arm64"}


def file_name(version: str = VERSION) -> str:
    """Return the release file's name for this kind of machine."""
    return f"concourse-{version}-linux-{_ARCHES[platform.machine()]}.tgz"


def build(target: Path, runtime: Path, version: str = VERSION) -> Path:
    """Make a release and the .sha1 beside it; about a second.

    Args:
        target: the folder for both.
        runtime: where containerd, its shim, ctr and runc lie.
        version: what its `concourse --version` says.

    Returns:
        The release file.
    """
    target.mkdir(parents=True, exist_ok=True)
    file = target / file_name(version)
    program = stand_in("concourse").read_text().replace("@VERSION@", version).encode()
    note = b"A stand-in of the rehearsal.\n"
    with tarfile.open(file, "w:gz", compresslevel=1) as tar:
        for folder in ("concourse", "concourse/bin"):
            entry = tarfile.TarInfo(folder)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o755
            tar.addfile(entry)
        _add(tar, "concourse/bin/concourse", program, 0o755)
        for name in ("concourse_web", "concourse_database", "concourse_tls"):
            _add(tar, f"concourse/bin/{name}.py", stand_in(name).read_bytes(), 0o644)
        _add(tar, "concourse/fly-assets/README", note, 0o644)
        _add(tar, "concourse/resource-types/README", note, 0o644)
        for name in RUNTIME:
            _add(tar, f"concourse/bin/{name}", (runtime / name).read_bytes(), 0o755)
    publish(file)
    return file


def publish(file: Path) -> None:
    """Write a release file's .sha1 beside it, as Concourse does."""
    with file.open("rb") as content:
        digest = hashlib.sha1(usedforsecurity=False)
        while chunk := content.read(1 << 20):
            digest.update(chunk)
    file.with_name(f"{file.name}.sha1").write_text(f"{digest.hexdigest()}  {file.name}\n")


def _add(tar: tarfile.TarFile, name: str, content: bytes, mode: int) -> None:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode, entry.mtime = len(content), mode, 1_765_000_000
    tar.addfile(entry, io.BytesIO(content))
