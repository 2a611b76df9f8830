"""Renders the files of templates/."""

from __future__ import annotations

from pathlib import Path

import jinja2

from concourse.environment import quoted

_TEMPLATES = Path(__file__).resolve().parents[2] / "templates"


def render(name: str, **values: object) -> str:
    """Return a template's text; a value that is missing raises jinja2.UndefinedError."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES),
        undefined=jinja2.StrictUndefined,
        keep_trailing_newline=True,
        trim_blocks=True,
        lstrip_blocks=True,
        autoescape=False,  # noqa: S701 - unit and environment files, no HTML
    )
    environment.filters["quoted"] = quoted
    return environment.get_template(name).render(values)
