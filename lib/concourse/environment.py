r"""The syntax of systemd's EnvironmentFile: writing it so that any value survives.

Everything is written in double quotes, where systemd takes a backslash off the
characters " \ ` $ and leaves all else as it is; it expands nothing
(systemd.exec(5), EnvironmentFile=; src/basic/env-file.c).
"""

from __future__ import annotations

import re

from concourse.errors import ConcourseError

_NEEDS_ESCAPE = re.compile(r'(["\\`$])')
_LINE = re.compile(r'([A-Za-z_][A-Za-z0-9_]*)="((?:[^"\\]|\\.)*)"')


def quoted(value: str) -> str:
    """Return a value as it stands behind `NAME=` in an environment file.

    Raises:
        ConcourseError: systemd would drop the variable or the whole file, as it does for
            line breaks and other control characters.
    """
    for character in value:
        if (ord(character) < 32 and character != "\t") or ord(character) == 127:
            raise ConcourseError(f"a setting holds the control character {character!r}")
        if 0xD800 <= ord(character) <= 0xDFFF:
            raise ConcourseError("a setting holds bytes that are no UTF-8 text")
    return '"' + _NEEDS_ESCAPE.sub(r"\\\1", value) + '"'


def parse(text: str) -> dict[str, str]:
    """Return the variables of a file whose values `quoted` wrote; other lines are left out.

    Only a line feed ends a line, as for systemd; U+0085 and U+2028 are part of a value.
    """
    matches = (_LINE.fullmatch(line) for line in text.split("\n"))
    return {found[1]: re.sub(r"\\(.)", r"\1", found[2]) for found in matches if found}
