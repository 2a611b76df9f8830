"""Makes what all web units share, and reads the public half of a host key."""

from __future__ import annotations

import base64
import binascii
import logging
import re
import secrets
import string
import struct
import tempfile
from pathlib import Path

from concourse.errors import ConcourseError
from concourse.web_environment import WebSecrets
from files import ensure_dir
from host import CommandError, Layout, run

log = logging.getLogger(__name__)

_ALPHABET = string.ascii_letters + string.digits  # no comma: Concourse splits there
_PEM = re.compile(r"-----BEGIN ([A-Z ]+)-----\s+([A-Za-z0-9+/=\s]+)-----END \1-----")
_INTEGER, _OCTETS, _SEQUENCE = 0x02, 0x04, 0x30


def generate(layout: Layout, tree: Path) -> WebSecrets:
    """Make what all web units share, but for the encryption key; takes a few seconds.

    Args:
        layout: the paths; the keys are made in a folder that root alone can enter.
        tree: the release whose `concourse generate-key` is used.

    Raises:
        ConcourseError: a key could not be made.
    """
    log.info("Making the web's keys and the admin's password")
    return WebSecrets(
        session_signing_key=_private_key(layout, tree),
        tsa_host_key=_private_key(layout, tree),
        admin_password="".join(secrets.choice(_ALPHABET) for _ in range(24)),
    )


def encryption_key() -> str:
    """Make a key that the database can be encrypted with: 32 characters."""
    return secrets.token_urlsafe(24)


def public_host_key(private: str) -> str:
    """Return the public half of an RSA key, as an OpenSSH line "ssh-rsa BASE64".

    Args:
        private: PEM.  `concourse generate-key` writes PKCS #1 in an envelope that says
            PKCS #8 (v8.3.0, cmd/concourse/generate_key.go); either is read.

    Raises:
        ConcourseError: it is no RSA private key.
    """
    try:
        modulus, exponent = _public_numbers(private)
    except (ValueError, IndexError, binascii.Error) as error:
        raise ConcourseError("the web's host key is no RSA private key in PEM") from error
    parts = (b"ssh-rsa", _mpint(exponent), _mpint(modulus))
    blob = b"".join(struct.pack(">I", len(part)) + part for part in parts)
    return f"ssh-rsa {base64.b64encode(blob).decode()}"


def _private_key(layout: Layout, tree: Path) -> str:
    ensure_dir(layout.state, 0o700)
    with tempfile.TemporaryDirectory(dir=layout.state, prefix="key-") as folder:
        target = Path(folder) / "key"
        argv = [str(tree / "bin/concourse"), "generate-key", "-t", "rsa", "-f", str(target)]
        try:
            run(argv, timeout=120)
            text = target.read_text(encoding="ascii")
        except (CommandError, OSError, ValueError) as error:
            raise ConcourseError(f"the web's key could not be made ({error})") from error
    public_host_key(text)
    return text


def _public_numbers(private: str) -> tuple[int, int]:
    """Return modulus and exponent (RFC 8017, A.1.2; RFC 5958 around it)."""
    found = _PEM.search(private)
    if not found:
        raise ValueError("no PEM")
    kind, body, rest = _element(base64.b64decode("".join(found[2].split()), validate=True))
    if kind != _SEQUENCE or rest:
        raise ValueError("no sequence")
    kind, _, body = _element(body)  # the version
    first, value, after = _element(body)
    if first == _SEQUENCE:  # PKCS #8: an algorithm, then PKCS #1 in octets
        kind, inner, _ = _element(after)
        if kind != _OCTETS:
            raise ValueError("no octets")
        _, body, _ = _element(inner)
        _, _, body = _element(body)
        first, value, after = _element(body)
    second, exponent, _ = _element(after)
    numbers = int.from_bytes(value, "big"), int.from_bytes(exponent, "big")
    if (first, second) != (_INTEGER, _INTEGER) or numbers[0].bit_length() < 1024:
        raise ValueError("no RSA key")
    return numbers


def _element(data: bytes) -> tuple[int, bytes, bytes]:
    """Return the kind and the content of DER's first element, and what follows it."""
    kind, length, start = data[0], data[1], 2
    if length & 0x80:
        start = 2 + (length & 0x7F)
        length = int.from_bytes(data[2:start], "big")
    if len(data) < start + length:
        raise ValueError("cut short")
    return kind, data[start : start + length], data[start + length :]


def _mpint(number: int) -> bytes:
    """Return a positive number as RFC 4251 writes it."""
    return number.to_bytes(number.bit_length() // 8 + 1, "big")
