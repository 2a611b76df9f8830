"""Values that try to be something else where they are written, and what reads them there."""

from __future__ import annotations

import subprocess
from pathlib import Path

from hypothesis import strategies as st

# What a shell, systemd, TOML, JSON, apt or an SSH key file would take for more than text.
PIECES = (
    *("\n", "\r", "\r\n", "\t", " ", "\v", "\x1b[31m", "\x7f", "\u0085", "\u2028", "\ufeff"),
    *("$(touch /tmp/pwned)", "`touch /tmp/pwned`", "; touch /tmp/pwned", "| sh", "&", ">", "$IFS"),
    *("%n", "%%", "%i", "${PATH}", "$$", "\\", "\\n", "\\x0a", "'", '"', '"""', "'''", "=", "#"),
    *("[Service]\nExecStart=/bin/sh", "ExecStartPre=+/bin/sh", "PATH=/tmp", "LD_PRELOAD=/tmp/x"),
    *("{", "}", "[", "]", '","', '\\"', "null", "{{ 7 * 7 }}", "{% raw %}", "../", "/", "--", "-"),
    *("ssh-rsa AAAA", 'command="sh" ', "# ", "Types: deb\n", "deb [trusted=yes] file:/ /", "@"),
    *('"; DPkg::Pre-Invoke {"touch /tmp/pwned";}; "', "\nPin-Priority: 1001", "%eth0", "%\n"),
    *(
        "\u0660\u0661",
        "\u00e9",
        "\U0001f600",
        "\u202e",
        "\ufffe",
        "\ufdd0",
        "0",
        "-1",
        "9" * 40,
        "1e999",
        "NaN",
    ),
    *("CONCOURSE_X=1", "all", "none", "auto", "8.3.0", "http://x", "127.0.0.1", "x" * 5000),
    *("9" * 5000, "[" * 5000, "\U000e0001" * 60),  # digits, depth, and what repr makes ten of
)
HUGE = 1 << 20  # characters
# Repeated, they are what a reader could take more than linear time or a deep stack over.
_GRAINS = (
    *("x", "9", " ", "\n", "\t", ",", "=", "#", "%", "'", '"', "\\", "[", '{"a":', "/", ":", "@"),
    *("\U0001f600", "0,", "0:0,", "a=b ", "CONCOURSE_X=1\n", "10.0.0.1,", "random,", "://"),
    *("ssh-rsa ", "-----BEGIN PGP PUBLIC KEY BLOCK-----\n", "-----BEGIN CERTIFICATE-----\nAAAA\n"),
)


def texts(*good: str) -> st.SearchStrategy[str]:
    """Return texts made of hostile pieces and of what would be right.

    Args:
        good: what would be right; a part of the texts are one of these, or one that has a
            single hostile piece before, in or behind it.
    """
    pieces = st.sampled_from((*PIECES, *(one for one in good if one)))
    joined = st.lists(pieces, min_size=1, max_size=4).map("".join)
    # No zero byte and no lone surrogate: Juju takes neither.
    free = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=40)
    if not any(good):
        return st.one_of(joined, joined, free)
    right = st.sampled_from(good)
    spoilt = st.builds(_spoilt, right, st.sampled_from(PIECES), st.integers(0, 2))
    return st.one_of(joined, free, right, spoilt, spoilt)


def _spoilt(text: str, piece: str, where: int) -> str:
    at = len(text) * where // 2
    return f"{text[:at]}{piece}{text[at:]}"


def huge(good: str) -> list[str]:
    """Return texts of a million characters: of one thing alone, and behind what is right."""
    alone = [grain * (HUGE // len(grain)) for grain in _GRAINS]
    return alone + [good + text for text in alone if good]


def sentence(message: str) -> None:
    """Hold a status to what fits into `juju status`: one printable line, not endless."""
    assert message.isprintable(), message
    assert 0 < len(message) <= 400, message


def listed_keys(path: Path) -> list[str]:
    """Return the types and comments of the keys that ssh-keygen finds in a file."""
    done = subprocess.run(
        ["ssh-keygen", "-l", "-f", str(path)],
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    return [line.split(" ", 2)[2].rpartition(" (")[0] for line in done.stdout.splitlines()]
