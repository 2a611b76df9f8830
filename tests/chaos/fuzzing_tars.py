"""Tarballs for the fuzzer: it chooses what is in them, and what it cannot guess is put right."""

from __future__ import annotations

import gzip
from collections.abc import Sequence

_BLOCK = 512
_SUM, _SIZE, _MAGIC, _TYPE = slice(148, 156), slice(124, 136), slice(257, 262), 156
_LAST = b"123456"  # types of members that have nothing behind their header
# What is most often right, and what else there is.  Types: regular, folder, symbolic and hard link;
# device, pipe, contiguous, sparse, volume, extended.
_TYPES, _ODD_TYPES = b"0055222222211", b"367SVxg"
_START, _ODD_STARTS = b"concourse/", (b"./concourse/", b"/concourse/", b"concourse/../", b"../")
_NAMES = (b"d", b"l", b"x", b"d", b"l", b"x", b"bin", b".", b"out", b"", b"\xff", b"c" * 60)
_UP, _FAR_UP = (b"", b"", b"..", b"../"), (b"../..", b"../../", b"/", b"concourse/")
_BEHIND = (b"", b"/..", b"/../..", b"/x")
_MODES = (0o644, 0o755, 0o7777, 0, 0o4755, 0o2777)
_HEADERS = (
    *(b"mtime=nan", b"mtime=1e30", b"mtime=-1.5", b"size=3", b"size=-1", b"uid=x", b"path=/etc/x"),
    *(b"path=concourse/../x", b"path=concourse/l/x", b"path=concourse/d\0x", b"linkpath=../../out"),
    *(b"linkpath=x\0y", b"hdrcharset=BINARY", b"GNU.sparse.map=0,1", b"GNU.sparse.map=x"),
    *(b"GNU.sparse.major=1\n19 GNU.sparse.minor=0", b"GNU.sparse.size=9\n22 GNU.sparse.offset=0"),
)


def tarball(data: bytes) -> bytes:
    """Return a release file: the bytes themselves, a tar that they are, or one that they choose."""
    if data.startswith(b"\x1f\x8b"):
        return data
    tar = data if data[_MAGIC] == b"ustar" else _chosen(data)
    return gzip.compress(_with_sums(tar), compresslevel=1, mtime=0)


class _Choices:
    """Chooses by one byte after the other; when they are used up, always the first."""

    def __init__(self, data: bytes) -> None:
        self._rest = iter(data)
        self.paths: list[bytes] = []  # of the members so far, below the top folder

    def number(self, below: int) -> int:
        return next(self._rest, 0) % below

    def one(self, items: Sequence[bytes]) -> bytes:
        return items[self.number(len(items))]

    def odd(self) -> bool:
        return self.number(20) == 19

    def path(self) -> bytes:
        return b"/".join(self.one(_NAMES) for _ in range(1 + self.number(3)))


def _chosen(data: bytes) -> bytes:
    choose = _Choices(data)
    members = [_member(choose) for _ in range(1 + choose.number(8))]
    return b"".join(members) + bytes(2 * _BLOCK)


def _member(choose: _Choices) -> bytes:
    """Return a member, and now and then an extended header in front."""
    start = choose.one(_ODD_STARTS) if choose.odd() else _START
    path = choose.path()
    types = _ODD_TYPES if choose.odd() else _TYPES
    kind = bytes([types[choose.number(len(types))]])
    mode = _MODES[choose.number(len(_MODES))]
    link = _link(choose, kind) if kind in b"12" else b""
    content = bytes(choose.number(3)) if kind not in _LAST else b""
    extended = b""
    if choose.odd():
        text = b" " + choose.one(_HEADERS) + b"\n"
        text = b"%d%s" % (len(text) + 2, text)  # all are of two digits
        extended = _header(b"x", b"x", 0, b"", text)
    choose.paths.append(path)
    return extended + _header(start + path, kind, mode, link, content)


def _link(choose: _Choices, kind: bytes) -> bytes:
    """Return where a link leads: to a member before it, and up from there, or anywhere."""
    if kind == b"1":
        start = choose.one(_FAR_UP) if choose.odd() else _START
        return start + choose.one(choose.paths or _NAMES)
    if choose.paths and choose.number(2):
        return choose.one(choose.paths) + choose.one(_BEHIND)
    up = choose.one(_FAR_UP if choose.odd() else _UP)
    return up + choose.one((b"", choose.path()))


def _header(name: bytes, kind: bytes, mode: int, link: bytes, content: bytes) -> bytes:
    """Return a member as POSIX' ustar has it, but for the checksum."""
    head = name[:100].ljust(100, b"\0") + b"%07o\0" % mode + b"0000000\0" * 2
    head += b"%011o\0" % len(content) + b"%011o\0" % 0 + b" " * 8 + kind
    head += link[:100].ljust(100, b"\0") + b"ustar\00000"
    return head.ljust(_BLOCK, b"\0") + content + bytes(-len(content) % _BLOCK)


def _with_sums(data: bytes) -> bytes:
    """Return a tar with the right checksum in each of its headers."""
    tar, at = bytearray(data), 0
    while at + _BLOCK <= len(tar):
        header = bytes(tar[at : at + _BLOCK])
        if any(header):
            blank = header[: _SUM.start] + b" " * 8 + header[_SUM.stop :]
            tar[at : at + _BLOCK] = (
                blank[: _SUM.start] + b"%06o\0 " % sum(blank) + blank[_SUM.stop :]
            )
        at += _BLOCK + _behind(header)
    return bytes(tar)


def _behind(header: bytes) -> int:
    """Return how many bytes, of whole blocks, follow a header."""
    if header[_TYPE : _TYPE + 1] in _LAST:
        return 0
    try:
        size = int(header[_SIZE].rstrip(b"\0 ") or b"0", 8)
    except ValueError:
        return 0
    return -(-max(size, 0) // _BLOCK) * _BLOCK
