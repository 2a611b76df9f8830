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
    *("\u0660\u0661", "\u00e9", "\U0001f600", "\u202e", "0", "-1", "9" * 40, "1e999", "NaN"),
    *("CONCOURSE_X=1", "all", "none", "auto", "8.3.0", "http://x", "127.0.0.1", "x" * 5000),
)


def texts(*good: str) -> st.SearchStrategy[str]:
    """Return texts made of hostile pieces and of what would be right."""
    pieces = st.sampled_from((*PIECES, *(one for one in good if one)))
    joined = st.lists(pieces, min_size=1, max_size=4).map("".join)
    # No zero byte and no lone surrogate: Juju takes neither.
    free = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=40)
    return st.one_of(joined, joined, free)


def sentence(message: str) -> None:
    """Hold a status to what fits into `juju status`: one printable line, not endless."""
    assert message.isprintable(), message
    assert len(message) <= 400, message


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
