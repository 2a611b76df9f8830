"""Reads OpenPGP public keys far enough to know whose they are.

apt checks signatures itself; what is needed before is a key in the form that apt
wants (binary, for a file named .gpg) and its fingerprint.  Formats: RFC 4880 (and
RFC 9580, which replaces it): packet headers 4.2, public-key packets 5.5.2,
fingerprints 12.2 (5.5.4), armour 6 (6).
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Iterator

_PUBLIC_KEY = 6
_SECRET_KEYS = (5, 7)
_BEGIN, _END = (f"-----{word} PGP PUBLIC KEY BLOCK-----" for word in ("BEGIN", "END"))
_LARGEST = 256 * 1024  # bytes; a key has a few thousand
_CRC_INIT, _CRC_POLYNOMIAL = 0xB704CE, 0x1864CFB  # RFC 4880, 6.1


def read_keys(data: bytes) -> tuple[bytes, tuple[str, ...]]:
    """Return public keys in binary form, with the fingerprints of their primary keys.

    Args:
        data: one or several keys, armoured or binary.

    Returns:
        The packets, as apt wants them in a .gpg file, and upper-case hexadecimal
        fingerprints in the order of the keys.

    Raises:
        ValueError: it is no public key; the message says why and quotes nothing of it.
    """
    if len(data) > _LARGEST:
        raise ValueError("it is larger than any key")
    binary = data if data[:1] and data[0] & 0x80 else _dearmour(data)
    found = []
    for tag, body in _packets(binary):
        if tag in _SECRET_KEYS:
            raise ValueError("it holds a secret key; only a public one belongs here")
        if tag == _PUBLIC_KEY:
            found.append(_fingerprint(body))
    if not found:
        raise ValueError("it holds no OpenPGP public key")
    return binary, tuple(found)


def _dearmour(data: bytes) -> bytes:
    text = data.decode("ascii", errors="replace").replace("\r\n", "\n")
    if "PGP PRIVATE KEY BLOCK" in text:
        raise ValueError("it holds a secret key; only a public one belongs here")
    blocks = [_inside(rest) for rest in text.split(_BEGIN)[1:]]
    if not blocks:
        raise ValueError(f"it has no line {_BEGIN}, or no end line")
    return b"".join(_decode_block(block) for block in blocks)


def _inside(rest: str) -> str:
    """Return what stands between the rest of a first line and the end line."""
    block, end, _ = rest.partition(_END)
    first, line_feed, inside = block.partition("\n")
    if not end or not line_feed or first.strip(" \t"):
        raise ValueError(f"it has no line {_BEGIN}, or no end line")
    return inside


def _decode_block(block: str) -> bytes:
    """Decode the inside of one armoured block: headers, an empty line, base64, checksum."""
    headers, empty, body = (
        block.partition("\n\n") if not block.startswith("\n") else ("", "x", block)
    )
    if not empty or any(line and ": " not in line for line in headers.splitlines()):
        body = block  # neither headers nor the empty line: some tools leave both out
    lines = [line.strip() for line in body.splitlines() if line.strip()]
    checksum = lines.pop()[1:] if lines and lines[-1].startswith("=") else ""
    try:
        binary = base64.b64decode("".join(lines), validate=True)
        crc = base64.b64decode(checksum, validate=True)
    except (binascii.Error, ValueError):
        raise ValueError("its armour is damaged: not base64") from None
    if crc and int.from_bytes(crc, "big") != _crc24(binary):
        raise ValueError("its armour is damaged: the checksum differs")
    return binary


def _crc24(data: bytes) -> int:
    crc = _CRC_INIT
    for byte in data:
        crc ^= byte << 16
        for _ in range(8):
            crc <<= 1
            if crc & 0x1000000:
                crc ^= _CRC_POLYNOMIAL
    return crc & 0xFFFFFF


def _packets(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield (tag, body) of each packet.

    Raises:
        ValueError: the data ends inside a packet, or isn't one.
    """
    at = 0
    while at < len(data):
        header = data[at]
        if not header & 0x80:
            raise ValueError("it is damaged: no OpenPGP packet where one should begin")
        tag, start, length = _header(data, at, new=bool(header & 0x40))
        if start + length > len(data):
            raise ValueError("it is damaged: it ends inside an OpenPGP packet")
        yield tag, data[start : start + length]
        at = start + length


def _header(data: bytes, at: int, *, new: bool) -> tuple[int, int, int]:
    """Return a packet's tag, where its body begins, and its length in bytes."""
    rest = data[at + 1 : at + 6].ljust(5, b"\0")  # a short one fails at the length check
    if not new:
        kind = data[at] & 0x03
        if kind == 3:
            raise ValueError("it is damaged: a key packet of indeterminate length")
        size = 1 << kind
        return (data[at] >> 2) & 0x0F, at + 1 + size, int.from_bytes(rest[:size], "big")
    tag, first = data[at] & 0x3F, rest[0]
    if first < 192:
        return tag, at + 2, first
    if first < 224:
        return tag, at + 3, ((first - 192) << 8) + rest[1] + 192
    if first < 255:
        raise ValueError("it is damaged: a key packet in parts")
    return tag, at + 6, int.from_bytes(rest[1:5], "big")


def _fingerprint(body: bytes) -> str:
    version = body[0] if body else 0
    if version == 4 and len(body) >= 1 << 16:
        raise ValueError("it is damaged: a key packet that is longer than any")
    if version == 4:
        # The octet 0x99, two octets of length, the packet's body; SHA-1.
        framed = b"\x99" + len(body).to_bytes(2, "big") + body
        return hashlib.sha1(framed, usedforsecurity=False).hexdigest().upper()
    if version == 6:
        framed = b"\x9b" + len(body).to_bytes(4, "big") + body  # RFC 9580, 5.5.4.3
        return hashlib.sha256(framed).hexdigest().upper()
    raise ValueError(f"its key is of version {version}; apt takes 4 and 6")
