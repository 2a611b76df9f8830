"""A machine for the tests of the web: systemctl, journalctl and useradd, and whole keys."""

from __future__ import annotations

import base64
import os
import shlex
import struct

from host import Layout
from tests.unit.unit_properties import shown


def rsa_line(seed: int = 1, bits: int = 2048) -> str:
    """A public-key line that is whole: type, exponent, modulus."""
    modulus = (1 << (bits - 1)) | (seed << 1) | 1
    return "ssh-rsa " + blob(
        b"ssh-rsa", b"\x01\x00\x01", b"\0" + modulus.to_bytes(bits // 8, "big")
    )


def blob(*parts: bytes) -> str:
    packed = b"".join(struct.pack(">I", len(part)) + part for part in parts)
    return base64.b64encode(packed).decode()


def der(kind: int, content: bytes) -> bytes:
    length = len(content)
    if length < 128:
        return bytes([kind, length]) + content
    size = (length.bit_length() + 7) // 8
    return bytes([kind, 0x80 | size]) + length.to_bytes(size, "big") + content


def integer(number: int) -> bytes:
    return der(0x02, number.to_bytes(number.bit_length() // 8 + 1, "big"))


def pkcs1(modulus: int, exponent: int = 65537) -> bytes:
    return der(0x30, integer(0) + integer(modulus) + integer(exponent) + integer(7) * 6)


def pem(body: bytes, kind: str = "PRIVATE KEY") -> str:
    text = base64.b64encode(body).decode()
    lines = "\n".join(text[i : i + 64] for i in range(0, len(text), 64))
    return f"-----BEGIN {kind}-----\n{lines}\n-----END {kind}-----\n"


class Programs:
    """Small programs below a scratch root, and what they were asked."""

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self.answers = layout.root / "answers"
        self.answers.mkdir()
        root = shlex.quote(str(layout.root))
        self.program(
            "systemctl",
            'what=$1\n[ -f answers/$what ] && cat "answers/$what"\nexit 0',
        )
        self.program("journalctl", "cat answers/journal 2>/dev/null\nexit 0")
        layout.at("/etc").mkdir(exist_ok=True)
        layout.at("/etc/passwd").write_text("root:x:0:0::/root:/bin/sh\n")
        ids = f"{os.getuid()}:{os.getgid()}"
        self.program(
            "useradd",
            f'for name; do :; done\necho "$name:x:{ids}::/nonexistent:/x" >> {root}/etc/passwd',
        )
        self.program("userdel", f'sed -i "/^$1:/d" {root}/etc/passwd')
        self.has()

    def program(self, name: str, body: str) -> None:
        path = self.layout.at(f"/usr/bin/{name}")
        path.parent.mkdir(parents=True, exist_ok=True)
        root = shlex.quote(str(self.layout.root))
        path.write_text(f"#!/bin/sh\ncd {root}\necho {name} $* >> asked\n{body}\n")
        path.chmod(0o755)

    def has(self, **properties: object) -> None:
        (self.answers / "show").write_text(shown(**{"InvocationID": "run1", **properties}))

    def runs(self, environment: dict[str, str], pid: int = 4711, **properties: object) -> None:
        self.has(ActiveState="active", SubState="running", MainPID=pid, **properties)
        folder = self.layout.at(f"/proc/{pid}")
        folder.mkdir(parents=True, exist_ok=True)
        entries = (f"{name}={value}\0" for name, value in environment.items())
        (folder / "environ").write_text("".join(entries))

    def says(self, *lines: str) -> None:
        """What the journal holds, the newest last."""
        (self.answers / "journal").write_text("".join(f"{line}\n" for line in reversed(lines)))

    def asked(self) -> list[str]:
        """What was asked for since the last call; questions left out."""
        path = self.layout.root / "asked"
        lines = path.read_text().splitlines() if path.exists() else []
        path.unlink(missing_ok=True)
        questions = ("systemctl show", "systemctl list-jobs", "journalctl")
        return [line.removeprefix("systemctl ") for line in lines if not line.startswith(questions)]
