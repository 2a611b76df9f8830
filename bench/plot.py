"""The plot: overhead by runtime as bars with their quartiles, an SVG without a library."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

_WIDTH, _LEFT, _RIGHT, _BAR, _STEP = 760, 250, 90, 16, 26
_STYLE = "font-family:system-ui,sans-serif;font-size:13px"


@dataclass(frozen=True)
class Bar:
    """One bar, in milliseconds.

    Attributes:
        label: whose it is.
        value: the median.
        spread: the quartiles.
        ours: whether it is this charm's, which has a colour of its own.
    """

    label: str
    value: float
    spread: tuple[float, float]
    ours: bool = False


@dataclass(frozen=True)
class Panel:
    """Some bars on one scale, below a heading."""

    heading: str
    bars: Sequence[Bar]


def svg(title: str, panels: Sequence[Panel], foot: str = "") -> str:
    """Return the plot; every panel has the same scale, so that bars compare across them."""
    most = max((max(bar.value, bar.spread[1]) for panel in panels for bar in panel.bars), default=1)
    scale = (_WIDTH - _LEFT - _RIGHT) / max(most, 1e-9)
    parts = [_text(20, 28, title, "font-size:16px;font-weight:600")]
    y = 44
    for panel in panels:
        y += 24
        parts.append(_text(20, y, panel.heading, "font-weight:600"))
        y += 12
        for bar in panel.bars:
            parts += _bar(bar, y, scale)
            y += _STEP
    y += 18
    parts.append(_text(20, y, foot, "font-size:11px;fill:#666"))
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{y + 14}" '
        f'viewBox="0 0 {_WIDTH} {y + 14}" role="img" style="{_STYLE}">\n'
        f"<title>{escape(title)}</title>\n"
        f'<rect width="100%" height="100%" fill="#fff"/>\n'
    )
    return head + "\n".join(parts) + "\n</svg>\n"


def _bar(bar: Bar, y: int, scale: float) -> list[str]:
    length = max(bar.value * scale, 0.5)
    low, high = (_LEFT + max(value, 0) * scale for value in bar.spread)
    middle = y + _BAR / 2
    colour = "#0a7d55" if bar.ours else "#8a94a6"
    return [
        _text(_LEFT - 10, y + 13, bar.label, "text-anchor:end"),
        f'<rect x="{_LEFT}" y="{y}" width="{length:.1f}" height="{_BAR}" fill="{colour}"/>',
        f'<path d="M{low:.1f} {middle}H{high:.1f}" stroke="#222" stroke-width="1.5"/>',
        _text(max(_LEFT + length, high) + 8, y + 13, f"{bar.value:.1f} ms", ""),
    ]


def _text(x: float, y: float, text: str, style: str) -> str:
    return f'<text x="{x:.1f}" y="{y}" style="{style}">{escape(text)}</text>'
