"""Charts as SVG, the same bytes every time."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal
from xml.sax.saxutils import escape

Points = Sequence[tuple[float, float]]
Style = Literal["dots", "squares", "steps", "area"]

WIDTH, HEIGHT = 640, 360
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 16, 36, 48
_TICKS = 6
_MARK = 4


@dataclass
class Series:
    """Points of one kind: marks, marks joined by steps, or the area under steps."""

    name: str
    points: Points
    colour: str
    style: Style = "dots"


@dataclass
class Chart:
    """A chart with its origin at the bottom left; both axes are linear."""

    title: str
    x_label: str
    y_label: str
    series: list[Series] = field(default_factory=list)
    #: where the axes begin, if not at the least value
    x_from: float | None = None
    y_from: float | None = None

    def _range(self, axis: int, begin: float | None) -> tuple[float, float, list[float]]:
        """Where an axis begins and ends, and its ticks."""
        values = [point[axis] for series in self.series for point in series.points]
        low = min(values) if begin is None else begin
        step = _tick((max(values) - low) or 1.0)
        first, last = math.floor(low / step), max(math.ceil(max(values) / step), 1)
        last += last == first
        return first * step, last * step, [i * step for i in range(first, last + 1)]

    def render(self, top: float) -> str:
        """The elements of the chart, ``top`` below the top of the drawing."""
        x0, x1, x_ticks = self._range(0, self.x_from)
        y0, y1, y_ticks = self._range(1, self.y_from)
        right, bottom = WIDTH - _RIGHT, top + HEIGHT - _BOTTOM

        def x(value: float) -> float:
            return _LEFT + (value - x0) / (x1 - x0) * (right - _LEFT)

        def y(value: float) -> float:
            return bottom - (value - y0) / (y1 - y0) * (bottom - top - _TOP)

        parts = [_text(WIDTH / 2, top + 20, self.title, "middle", bold=True)]
        for tick in x_ticks:
            parts.append(_line([(x(tick), bottom), (x(tick), top + _TOP)], "#e4e4e4"))
            parts.append(_text(x(tick), bottom + 16, f"{tick:g}", "middle"))
        for tick in y_ticks:
            parts.append(_line([(_LEFT, y(tick)), (right, y(tick))], "#e4e4e4"))
            parts.append(_text(_LEFT - 6, y(tick) + 4, f"{tick:g}", "end"))
        parts.append(_text(WIDTH / 2, bottom + 36, self.x_label, "middle"))
        parts.append(_text(_LEFT, top + _TOP - 8, self.y_label, "middle"))
        for number, series in enumerate(self.series):
            parts += _marks(series, [(x(a), y(b)) for a, b in series.points], bottom)
            spot = (right - 180, top + _TOP + 14 + 16 * number)
            parts += _marks(Series("", [], series.colour, "squares"), [spot], bottom)
            parts.append(_text(spot[0] + 10, spot[1] + 4, series.name, "start"))
        return "\n".join(parts)


def drawing(charts: Sequence[Chart]) -> str:
    """An SVG file with charts one below the other."""
    height = HEIGHT * len(charts)
    body = "\n".join(chart.render(HEIGHT * i) for i, chart in enumerate(charts))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}"'
        ' font-family="sans-serif" font-size="12">\n'
        f'<rect width="{WIDTH}" height="{height}" fill="white"/>\n{body}\n</svg>\n'
    )


def _tick(span: float) -> float:
    """The distance of ticks: 1, 2 or 5 times a power of ten."""
    least = span / _TICKS
    power = 10.0 ** math.floor(math.log10(least))
    return next(power * factor for factor in (1, 2, 5, 10) if power * factor >= least)


def _marks(series: Series, places: Points, bottom: float) -> list[str]:
    if series.style == "squares":
        size = 2 * _MARK
        return [
            f'<rect x="{x - _MARK:.1f}" y="{y - _MARK:.1f}" width="{size}" height="{size}"'
            f' fill="{series.colour}"/>'
            for x, y in places
        ]
    dots = [
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{_MARK}" fill="{series.colour}"/>' for x, y in places
    ]
    if series.style == "dots":
        return dots
    stairs = _stairs(places)
    if series.style == "steps":
        return [_line(stairs, series.colour), *dots]
    corners = [(stairs[0][0], bottom), *stairs, (stairs[-1][0], bottom)]
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in corners)
    return [f'<polygon points="{path}" fill="{series.colour}" fill-opacity="0.6"/>']


def _stairs(places: Points) -> list[tuple[float, float]]:
    """Each height is held until the next place."""
    stairs = [places[0]]
    for x, y in places[1:]:
        stairs += [(x, stairs[-1][1]), (x, y)]
    return stairs


def _line(places: Points, colour: str) -> str:
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
    return f'<polyline points="{path}" fill="none" stroke="{colour}"/>'


def _text(x: float, y: float, text: str, anchor: str, bold: bool = False) -> str:
    weight = ' font-weight="bold"' if bold else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{weight}>{escape(text)}</text>'
