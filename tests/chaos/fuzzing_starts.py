"""What the fuzzer begins with: for each target right texts, some words, and whom it has to reach.

From nothing, it would have to guess a PEM key, a certificate or a tar header's checksum.
"""

from __future__ import annotations

import base64
import gzip
import random
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.unit.databases import CA
from tests.unit.gpu_roots import gpu_uuid, mig_uuid, row
from tests.unit.nvidia_configs import PACKAGED
from tests.unit.releases import member, pack
from tests.unit.toolkit_roots import KEY, URL, armoured
from tests.unit.webs import der, integer, pem, pkcs1, rsa_line
from tests.unit.workers import public

MODULUS = (1 << 1023) | 12345
ALGORITHM = der(0x30, der(0x06, bytes.fromhex("2a864886f70d010101")) + der(0x05, b""))
LISTING = (
    f"GPU 0: NVIDIA A100 (UUID: {gpu_uuid(0)})\n"
    f"  MIG 3g.20gb  Device  0: (UUID: {mig_uuid(0)})\n"
    f"  MIG 1c.3g.20gb  Device  1: (UUID: MIG-{gpu_uuid(0)}/1/0)\n"
)
TABLES = (
    'a.b = 1\n"c d" = "\\u00e9"\n[nvidia-container-runtime]\nruntimes = ["a"] # x\n[z]\ny = -0.0\n',
    "[nvidia-container-runtime.modes]\nx = {y = [1, {z = 2}], w = 1979-05-27T07:32:00Z}\n[a]\n",
    "nvidia-container-runtime.modes.cdi = {}\n[[n]]\nx = '''\n\\'''\n[[n]]\n[n.y]\nz = 0x1F\n",
    '[nvidia-container-runtime]\nlog-level = "info"\n[a]\nb = inf\n[nvidia-container-runtime.x]\n',
    "nvidia-container-runtime = 5\n",
    "a = 1\na = 2\n",
)
SOURCES = (
    f"deb [signed-by=/k.gpg] {URL}/$(ARCH) /\n# deb x y\n deb {URL}/ ./\n",
    f"Types: deb deb-src\nURIs:\n {URL}/$(ARCH)\n https://other/\nSuites: ./\nSigned-By: /k.gpg\n",
    f"Enabled: no\nTypes: deb\nURIs: {URL}\nSuites: /\n\n# x\nTypes: deb-src\nURIs: x\n",
)


@dataclass(frozen=True)
class Start:
    """What a target begins with.

    Attributes:
        readers: whom it has to reach, as the target counts them.
        inputs: right ones, and nearly right ones.
        words: what libFuzzer puts into them besides.
    """

    readers: tuple[str, ...]
    inputs: tuple[str | bytes, ...]
    words: tuple[str, ...] = ()


def _tars() -> Iterator[bytes]:
    """Yield a small release, bare tars, and bytes that `fuzzing_tars` makes its choices by."""
    plain = [
        member("concourse/bin", type=tarfile.DIRTYPE, mode=0o755),
        member("concourse/bin/runc", b"x", mode=0o6777),
        member("concourse/bin/link", type=tarfile.SYMTYPE, linkname="../bin/runc"),
        member("concourse/hard", type=tarfile.LNKTYPE, linkname="concourse/bin/runc"),
    ]
    odd = [
        member(f"concourse/{'n' * 120}", b"x", pax_headers={"mtime": "1.5", "comment": "x"}),
        member("concourse/s", b"x", pax_headers={"GNU.sparse.map": "0,1", "GNU.sparse.size": "1"}),
    ]
    yield pack(plain)
    for members in (plain, odd):
        yield gzip.decompress(pack(members)).rstrip(b"\0") + bytes(1024)
    for number in range(100):
        yield random.Random(number).randbytes(10 + number)


STARTS: dict[str, Start] = {
    "web_env": Start(
        ("variables",),
        ('CONCOURSE_LOG_X=debug\r\n# a\n CONCOURSE_A_1 = b "c" $d`\\ \n', "X", "CONCOURSE_TAG=x"),
        ("CONCOURSE_", "=", "\n", "'", '"', "#", "CONCOURSE_GARDEN_", "\u0085", "\u2028"),
    ),
    "user_secret": Start(
        ("secret",),
        ("github-client-secret\na value, and a long one at that\n", 'concourse-a\nb\\"$`', "A\nb"),
        ("concourse-", "-", "\n", "\r\n", "\t", '"', "\\", "$"),
    ),
    "connection": Start(
        ("connection string",),
        (
            "host=a port=5432 user='o\\'b' password = \\\\x dbname=''",
            "postgresql://u:p%20w@[2001:db8::1]:5432,h2:1/d?sslmode=require&ssl=true",
            "postgres:///?host=/run&user=u",
            "host='a",
        ),
        ("postgresql://", "postgres://", "host=", "=", "'", "\\", "%20", "%00", "?", "&", "[", "]"),
    ),
    "database_text": Start(
        ("database host", "database port", "database text"),
        ("db.example", "[2001:db8::1]", "10.0.0.1", "5432", "65536", "fe80::1%eth0", "\u00e9 b\t"),
        ("::", "[", "]", ".", "%", "\u0660", "-", "_"),
    ),
    "certificates": Start(
        ("certificates",),
        (CA, f"a comment\n{CA}{CA}", CA.replace("\n", "\r\n"), CA.replace("MII", "MIJ"), " "),
        ("-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----", "\r\n", "="),
    ),
    "worker_key": Start(
        ("worker's key",),
        (
            *(rsa_line(), f" {rsa_line(bits=1024)} a comment\n", public("ssh-ed25519", body=b"")),
            base64.b64decode(rsa_line().split()[1]),
            b"\0\0\0\x0bssh-ed25519\0\0\0 " + bytes(32),
            b"\0\0\0\x13ecdsa-sha2-nistp256\0\0\0\x08nistp256\0\0\0A\x04" + bytes(64),
        ),
        ("ssh-rsa ", "ssh-ed25519 ", "ecdsa-sha2-nistp256 ", "AAAAB3NzaC1yc2E", "nistp384"),
    ),
    "host_key": Start(
        ("host key",),
        (
            *(pkcs1(MODULUS), der(0x30, integer(0) + ALGORITHM + der(0x04, pkcs1(MODULUS)))),
            *(pem(pkcs1(MODULUS)), pem(pkcs1(MODULUS), "RSA PRIVATE KEY").replace("\n", "\r\n")),
            *(pkcs1(5), pem(pkcs1(MODULUS)[:-9]), "no key"),
        ),
        ("-----BEGIN ", "-----END ", "RSA PRIVATE KEY-----", "PRIVATE KEY-----\n"),
    ),
    "repository_key": Start(
        ("repository key",),
        (
            *(KEY, f"{KEY}x\n{armoured(b'2')}", KEY.replace("\n\n", "\nA: b\n\n")),
            base64.b64decode("".join(KEY.split("\n")[2:-2])),
            *(b"\xc6\x07\x04" + bytes(6), b"\xc6\x05\x06abcd", b"\x95\x00\x01x"),
            KEY.replace("PUBLIC", "PRIVATE"),
        ),
        ("-----BEGIN PGP PUBLIC KEY BLOCK-----\n", "-----END PGP PUBLIC", " KEY BLOCK-----", "\n="),
    ),
    "nvidia_smi": Start(
        ("GPUs", "MIG devices"),
        (
            f"{row(0, mig='Enabled')}\n{row(1)}\n{LISTING}",
            f"{row(0, mig='Enabled')}\n{row(1, memory='[N/A]')}\n",
            f"{row(0)}\n{row(1).replace('H100', '[GPU is lost]')}\nNo devices were found\n",
            "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver.\n",
        ),
        ("Enabled", "[N/A]", ", ", "GPU-", "MIG-GPU-", "Device  0: (UUID: ", "/1/0)", "\u202e"),
    ),
    "choices": Start(
        ("devices", "capabilities", "tags"),
        ("all", "0,1, 2:1", f"{gpu_uuid(0)},{mig_uuid(0).lower()}", "ngx, Video", "a=b,@c", ""),
        ("GPU-", "MIG-", ",", ":", "compat32", "ngx", "auto", "none", "\u0660"),
    ),
    "config_toml": Start(
        ("TOML",),
        (PACKAGED, *TABLES),
        (
            *("nvidia-container-runtime", "runtimes", "[[", "]]", "\n[", '"""', "'''", " = ", "{}"),
            *(".", "inf", "nan", "1979-05-27", "0x", "\\u00e9", "true", "#"),
        ),
    ),
    "apt_source": Start(
        ("apt sources",),
        SOURCES,
        ("deb ", "Types: deb\n", "URIs: ", "Enabled: no\n", "$(ARCH)", "\n\n", "\n ", "[a=b] "),
    ),
    "package_versions": Start(
        ("an older version",),
        ("1.18.2~rc.1-1\n1.18.2-1", "1:1.0\n9.0", f"1.{'9' * 4400}\n2", "007-1\n7-1", "a+\na~"),
        ("~", "+", "-", ":", ".", "0", "9999999999"),
    ),
    "release_file": Start(
        ("release", "symbolic link", "hard link"),
        tuple(_tars()),
        ("concourse/", "/..", "../", "/", "ustar", "path=", "linkpath=", "mtime=", "GNU.sparse."),
    ),
}


def write(target: str, folder: Path) -> list[str]:
    """Write what a target begins with, and return libFuzzer's options for it."""
    start = STARTS[target]
    corpus, words = folder / "corpus", folder / "words"
    corpus.mkdir(parents=True)
    for number, each in enumerate(start.inputs):
        (corpus / str(number)).write_bytes(each.encode() if isinstance(each, str) else each)
    lines = ("".join(f"\\x{byte:02x}" for byte in word.encode()) for word in start.words)
    words.write_text("".join(f'"{line}"\n' for line in lines))
    return [f"-dict={words}", str(corpus)] if start.words else [str(corpus)]
