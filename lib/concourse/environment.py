r"""The syntax of systemd's EnvironmentFile: writing it so that any value survives.

Everything is written in double quotes, where systemd takes a backslash off the
characters " \ ` $ and leaves all else as it is; it expands nothing
(systemd.exec(5), EnvironmentFile=; src/basic/env-file.c).
"""

from __future__ import annotations

import re

from concourse.errors import ConcourseError

# What systemd drops a variable for, or the whole file: control characters but a tab, and what is
# no character of Unicode, the noncharacters included (src/basic/utf8.c, unichar_is_valid).
_ENDS = "".join(chr(plane << 16 | last) for plane in range(17) for last in (0xFFFE, 0xFFFF))
_UNFIT = re.compile(f"[\0-\x08\n-\x1f\x7f\ud800-\udfff\ufdd0-\ufdef{_ENDS}]")
_NEEDS_ESCAPE = re.compile(r'(["\\`$])')
_LINE = re.compile(r'([A-Za-z_][A-Za-z0-9_]*)="((?:[^"\\]|\\.)*)"')


def unfit(value: str) -> str:
    """Return the first character of a value that no environment file can hold; "" if none is."""
    found = _UNFIT.search(value)
    return found[0] if found else ""


def quoted(value: str) -> str:
    """Return a value as it stands behind `NAME=` in an environment file.

    Raises:
        ConcourseError: systemd would drop the variable or the whole file, as it does for
            line breaks and other control characters.
    """
    if found := unfit(value):
        raise ConcourseError(f"a setting holds {found!r}, a control character or no character")
    return '"' + _NEEDS_ESCAPE.sub(r"\\\1", value) + '"'


def parse(text: str) -> dict[str, str]:
    """Return the variables of a file whose values `quoted` wrote; other lines are left out.

    Only a line feed ends a line, as for systemd; U+0085 and U+2028 are part of a value.
    """
    matches = (_LINE.fullmatch(line) for line in text.split("\n"))
    return {found[1]: re.sub(r"\\(.)", r"\1", found[2]) for found in matches if found}
