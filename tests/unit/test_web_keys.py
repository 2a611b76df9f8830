from __future__ import annotations

import base64
import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from concourse.authorized import is_whole_key
from concourse.errors import ConcourseError
from concourse.web_keys import encryption_key, generate, public_host_key
from host import Layout
from tests.unit.webs import der, integer, pem, pkcs1

MODULUS = (1 << 2047) | 12345
ALGORITHM = der(0x30, der(0x06, bytes.fromhex("2a864886f70d010101")) + der(0x05, b""))


def numbers(line: str) -> list[int]:
    data, found = base64.b64decode(line.split()[1]), []
    while data:
        (length,) = struct.unpack_from(">I", data)
        found.append(int.from_bytes(data[4 : 4 + length], "big", signed=True))
        data = data[4 + length :]
    return found[1:]


@given(st.integers(1 << 1023, 1 << 4096), st.sampled_from([3, 65537]))
def test_the_public_half_of_a_key(modulus: int, exponent: int) -> None:
    line = public_host_key(pem(pkcs1(modulus, exponent)))
    assert numbers(line) == [exponent, modulus]
    assert line.startswith("ssh-rsa AAAAB3NzaC1yc2EA")


def test_every_envelope() -> None:
    inner = pkcs1(MODULUS)
    pkcs8 = der(0x30, integer(0) + ALGORITHM + der(0x04, inner))
    lines = {
        public_host_key(pem(inner)),  # as concourse generate-key writes it
        public_host_key(pem(inner, "RSA PRIVATE KEY")),
        public_host_key(pem(pkcs8)),
        public_host_key("text before\n" + pem(pkcs8).replace("\n", "\r\n")),
    }
    assert len(lines) == 1
    assert is_whole_key(lines.pop())


@pytest.mark.parametrize(
    "text",
    [
        "",
        "no key",
        pem(b""),
        pem(b"\x30\x82"),
        pem(pkcs1(MODULUS)[:-40]),
        pem(pkcs1(5)),
        pem(der(0x30, integer(0) + ALGORITHM + der(0x03, b"x"))),
        pem(pkcs1(MODULUS)).replace("END PRIVATE", "END PUBLIC"),
        pem(pkcs1(MODULUS), "OPENSSH PRIVATE KEY").replace("M", "-"),
    ],
)
def test_what_is_no_private_key(text: str) -> None:
    with pytest.raises(ConcourseError, match="host key is no RSA private key"):
        public_host_key(text)


def test_what_all_webs_share_is_made_where_root_alone_can_enter(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    tree = layout.trees / "8.3.0"
    (tree / "bin").mkdir(parents=True)
    program = tree / "bin/concourse"
    source = tmp_path / "key.pem"
    source.write_text(pem(pkcs1(MODULUS)))
    program.write_text(
        "#!/bin/sh\n"
        f'[ "$1 $2 $3 $4" = "generate-key -t rsa -f" ] || exit 1\ncat {source} > "$5"\n'
        f'stat -c %a "${{5%/*/*}}" "${{5%/*}}" >> {tmp_path}/modes\n'
    )
    program.chmod(0o755)
    made = generate(layout, tree)
    assert made.session_signing_key == made.tsa_host_key == source.read_text()
    assert len(made.admin_password) == 24
    assert made.admin_password.isalnum()
    assert made.encryption_key == ""
    assert (tmp_path / "modes").read_text().split() == ["700"] * 4
    assert list(layout.state.iterdir()) == []
    assert generate(layout, tree).admin_password != made.admin_password
    program.write_text("#!/bin/sh\nexit 1\n")
    with pytest.raises(ConcourseError, match="web's key could not be made"):
        generate(layout, tree)


def test_an_encryption_key_is_one_that_concourse_takes() -> None:
    assert len(encryption_key().encode()) == 32
    assert encryption_key() != encryption_key()
