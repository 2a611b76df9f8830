#!/usr/bin/env python3
"""Write docs/reference/options.md and actions.md from config.yaml and actions.yaml.

`tox -e docs` runs it; a unit test says when what it would write has changed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parent.parent
NOTE = "<!-- Made from {source} by `tox -e docs`: change that file, not this one. -->\n"

OPTIONS_HEAD = """# Options

Set them with `juju config APP OPTION=VALUE`, or at deployment with `--config OPTION=VALUE`;
`juju config APP` shows them on the spot. A value that can't be read blocks the unit with one
sentence that names the option, and nothing is changed because of it.

| Option | Type | Default |
|---|---|---|
"""

ACTIONS_HEAD = """# Actions

Run them with `juju run UNIT ACTION`, parameters as `NAME=VALUE` behind it. No action takes any
other parameter than those listed.
"""


def options() -> str:
    """Return options.md."""
    described = _load("config.yaml")["options"]
    rows = [
        f"| [{name}](#{name}) | {option['type']} | {_default(option)} |\n"
        for name, option in described.items()
    ]
    parts = [
        f"\n## {name}\n\n{_text(option['description'])}\n" for name, option in described.items()
    ]
    return NOTE.format(source="config.yaml") + OPTIONS_HEAD + "".join(rows + parts)


def actions() -> str:
    """Return actions.md."""
    return NOTE.format(source="actions.yaml") + ACTIONS_HEAD + "".join(_actions())


def pages() -> dict[Path, str]:
    """Return every generated page: where it lies, and what it holds."""
    folder = ROOT / "docs/reference"
    return {folder / "options.md": options(), folder / "actions.md": actions()}


def _actions() -> Iterator[str]:
    for name, action in _load("actions.yaml").items():
        yield f"\n## {name}\n\n{_text(action['description'])}\n"
        params: Mapping[str, Any] = action.get("params", {})
        if params:
            yield "\n| Parameter | Type | Default | |\n|---|---|---|---|\n"
        for param, schema in params.items():
            yield (
                f"| {param} | {schema['type']} | {_default(schema)} "
                f"| {_text(schema['description'])} |\n"
            )


def _default(option: Mapping[str, Any]) -> str:
    """Return a default as a table shows it; YAML's spelling of true and false."""
    value = option.get("default", "")
    if isinstance(value, bool):
        value = str(value).lower()
    return f"`{value}`" if value != "" else ""


def _text(description: str) -> str:
    """Return a description as Markdown: a line never begins a heading or a list."""
    lines = (re.sub(r"^(?=[#*+>-])", r"\\", line.strip()) for line in description.splitlines())
    return "\n".join(lines).strip()


def _load(name: str) -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((ROOT / name).read_text(encoding="utf-8"))
    return loaded


def main() -> None:
    """Write the pages."""
    for path, text in pages().items():
        path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
