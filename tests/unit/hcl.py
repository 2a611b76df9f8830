"""Reads as much of Terraform's language as the module in terraform/ is written in."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

_TOKEN = re.compile(r'\s*(?:#[^\n]*\s*)*("(?:[^"\\]|\\.)*"|[A-Za-z_][\w.-]*|\d+|[=?:]=|\S)')


@dataclass
class Block:
    """One block: `kind "label" … { attributes and blocks }`."""

    kind: str
    labels: tuple[str, ...]
    attributes: dict[str, Any] = field(default_factory=dict)
    blocks: list[Block] = field(default_factory=list)


def read(path: Path) -> list[Block]:
    """Return a file's blocks."""
    return _Reader(path.read_text(encoding="utf-8")).body("file", ()).blocks


class _Reader:
    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0

    def body(self, kind: str, labels: tuple[str, ...]) -> Block:
        found = Block(kind, labels)
        while (name := self._next()) not in ("", "}"):
            if self._peek() == "=":
                self._next()
                found.attributes[name] = self._value()
                continue
            inner = []
            while (token := self._next()) != "{":
                inner.append(token.strip('"'))
            found.blocks.append(self.body(name, tuple(inner)))
        return found

    def _value(self) -> Any:
        """Return a map, a list or a text's content, or an expression as it is written."""
        token = self._peek()
        if token == "{":
            self._next()
            return self.body("map", ()).attributes
        # All the rest of the module's values stand on one line.
        end = self._text.find("\n", self._at)
        line = self._text[self._at : end if end >= 0 else None].strip()
        self._at += len(self._text[self._at : end if end >= 0 else None])
        literal = re.fullmatch(r'"((?:[^"\\]|\\.)*)"', line)
        return literal[1] if literal else line

    def _peek(self) -> str:
        found = _TOKEN.match(self._text, self._at)
        return found[1] if found else ""

    def _next(self) -> str:
        found = _TOKEN.match(self._text, self._at)
        self._at = found.end() if found else len(self._text)
        return found[1] if found else ""
