"""Reads an environment file the way systemd does.

Written from the state machine that systemd.exec(5) describes, apart from the code
under test; the functional tests ask systemd itself.
"""

from __future__ import annotations

# The last two characters of each plane, and 32 of the first: text that holds one is no UTF-8 to
# systemd, which then refuses the file.
NO_CHARACTERS = {plane << 16 | last for plane in range(17) for last in (0xFFFE, 0xFFFF)}
NO_CHARACTERS |= {*range(0xFDD0, 0xFDF0)}


def read_environment_file(text: str) -> dict[str, str]:
    assert NO_CHARACTERS.isdisjoint(map(ord, text)), "no character"
    found: dict[str, str] = {}
    position = 0
    while position < len(text):
        end = text.find("\n", position)
        end = len(text) if end < 0 else end
        if text[position:end].strip() == "" or text[position:end].lstrip()[0] in "#;":
            position = end + 1
            continue
        equals = text.index("=", position)
        value, position = read_value(text, equals + 1)
        found[text[equals - len(text[:equals].rpartition("\n")[2]) : equals].strip()] = value
    return found


def read_value(text: str, position: int) -> tuple[str, int]:
    value, quote = "", ""
    while position < len(text):
        character = text[position]
        position += 1
        if quote == '"' and character == "\\":
            following = text[position]
            position += 1
            value += following if following in '"\\`$' else "\\" + following
        elif quote:
            if character == quote:
                quote = ""
            else:
                value += character
        elif character in "\"'":
            quote = character
        elif character == "\n":
            break
        else:
            value += character
    assert not quote, "a quote that never ends"
    return value, position
