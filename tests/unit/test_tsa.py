"""What a web publishes is read whole or refused by field."""

from __future__ import annotations

import base64

import pytest

from tsa import public_key


def key(kind: str = "ssh-rsa") -> str:
    blob = len(kind).to_bytes(4, "big") + kind.encode() + bytes(range(64))
    return f"{kind} {base64.b64encode(blob).decode()}"


@pytest.mark.parametrize("kind", ["ssh-rsa", "ssh-ed25519", "ecdsa-sha2-nistp256"])
def test_a_public_key_line_is_taken_without_its_comment(kind: str) -> None:
    assert public_key(f"{key(kind)} root@web\n", "tsa-host-public-key") == key(kind)


@pytest.mark.parametrize(
    "line",
    [
        "",
        "ssh-rsa",
        "ssh-rsa AAAA",
        "ssh-rsa not*base64",
        "nonsense " + key().split()[1],
        "ssh-ed25519 " + key("ssh-rsa").split()[1],
        key() + "\n" + key(),
        'command="sh" ' + key(),
        key().replace(" ", "\n"),
        "ssh-rsa " + "A" * 100_000 + "!",
    ],
    ids=[
        "empty",
        "type alone",
        "cut",
        "not base64",
        "unknown type",
        "two types",
        "two keys",
        "options",
        "broken line",
        "huge",
    ],
)
def test_anything_else_is_refused_by_the_name_of_its_field(line: str) -> None:
    with pytest.raises(ValueError, match="^tsa-host-public-key is not one public-key line") as e:
        public_key(line, "tsa-host-public-key")
    assert len(str(e.value)) < 120
    assert "\n" not in str(e.value)
