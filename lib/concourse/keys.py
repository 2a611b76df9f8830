"""The keys of a worker: its own pair, and the web's host key that it expects."""

from __future__ import annotations

import base64
import binascii
import logging
import os
import re
import struct
import tempfile
from pathlib import Path

from concourse.errors import ConcourseError
from files import ensure_dir, read_text, sync_dir
from host import CommandError, Layout, run

log = logging.getLogger(__name__)

_TYPES = re.compile(r"ssh-(rsa|ed25519)|ecdsa-sha2-nistp(256|384|521)")


def worker_key(layout: Layout) -> Path:
    """Return where a worker's private key lies; the public one has `.pub` behind it."""
    return layout.keys / "worker_key"


def tsa_host_key(layout: Layout) -> Path:
    """Return where the web's public host key lies."""
    return layout.keys / "tsa_host_key.pub"


def ensure_worker_key(layout: Layout, tree: Path) -> str:
    """Make a worker's key pair exist, readable by root alone.

    Concourse's own command makes it (RSA, 4096 bits; it writes with the default umask,
    so it does that in a folder that only root can enter).

    Args:
        layout: the paths.
        tree: the release whose `concourse generate-key` is used.

    Returns:
        The public key, one line without its end.

    Raises:
        ConcourseError: no key could be made.
    """
    ensure_dir(layout.keys, 0o700)
    private = worker_key(layout)
    public = private.with_name(f"{private.name}.pub")
    if private.is_file() and private.stat().st_size > 0:
        line = (read_text(public) or "").strip()
        if is_public_key(line):
            if private.stat().st_mode & 0o777 != 0o600:
                private.chmod(0o600)
            return line
    log.info("Making the worker's key")
    with tempfile.TemporaryDirectory(dir=layout.keys, prefix=".new-") as folder:
        made = Path(folder) / private.name
        line = _generate(tree, made)
        made.chmod(0o600)
        for path in (made, made.with_name(public.name)):
            with path.open("rb") as file:
                os.fsync(file.fileno())
        # The private key comes last: without it the next call makes a new pair.
        os.replace(made.with_name(public.name), public)
        os.replace(made, private)
    sync_dir(layout.keys)
    return line


def public_line(text: str, what: str) -> str:
    """Return a public key's line, stripped.

    Args:
        text: what was received.
        what: whose key it is, for the message.

    Raises:
        ConcourseError: it isn't one valid public-key line.  Concourse would silently stop
            reading at such a line (flag/authorized_keys.go).
    """
    line = text.strip()
    if not is_public_key(line):
        raise ConcourseError(f"{what} is not one valid public-key line", retry=True)
    return line


def is_public_key(line: str) -> bool:
    """Return whether a text is one OpenSSH public-key line: type, base64, a comment."""
    if "\n" in line or "\r" in line:
        return False
    parts = line.split()
    if len(parts) < 2 or not _TYPES.fullmatch(parts[0]):
        return False
    try:
        blob = base64.b64decode(parts[1], validate=True)
        (length,) = struct.unpack_from(">I", blob)
    except (binascii.Error, struct.error, ValueError):
        return False
    return blob[4 : 4 + length] == parts[0].encode() and len(blob) > 4 + length


def _generate(tree: Path, target: Path) -> str:
    try:
        argv = [str(tree / "bin/concourse"), "generate-key", "-t", "ssh", "-f", str(target)]
        run(argv, timeout=120)
    except CommandError as error:
        raise ConcourseError(f"the worker's key could not be made ({error.what})") from error
    line = (read_text(target.with_name(f"{target.name}.pub")) or "").strip()
    if not is_public_key(line) or not target.is_file():
        raise ConcourseError("concourse generate-key made no key")
    return line
