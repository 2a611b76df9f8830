"""Values as a sentence for people quotes them."""

from __future__ import annotations


def shown(value: str, most: int = 40) -> str:
    """Return somebody's text in quotes: one short printable word, whatever is in it.

    Args:
        value: an operator's, another charm's or a file's text.
        most: how many of its characters are shown; the whole has two more for each at most, as
            repr writes ten for one of some.
    """
    word = repr(value if len(value) <= most else f"{value[:most]}…")
    return word if len(word) <= 2 * most else f"{word[: 2 * most]}…"
