"""The report of an exploration: one HTML file that needs nothing else."""

from __future__ import annotations

import html
from collections.abc import Sequence
from math import ceil, floor, log10
from typing import Any

from tinymlir.exploration.gate import why_no_gain

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 62em; margin: 2em auto; padding: 0 1em; }
table { border-collapse: collapse; margin: 1em 0; font-variant-numeric: tabular-nums; }
th, td { border: 1px solid #ccc; padding: .2em .6em; text-align: right; }
th:first-child, td:first-child { text-align: left; }
tr.chosen { background: #e8f2ff; }
code, pre { background: #f4f4f4; padding: .1em .3em; }
pre { padding: .6em; overflow-x: auto; white-space: pre-wrap; }
svg { max-width: 100%; height: auto; }
svg text { font: 12px system-ui, sans-serif; }
"""
_WIDTH, _HEIGHT, _MARGIN = 720, 360, 60
_COLOURS = ("#0b62a4", "#c8452c", "#3a8f3a", "#8a4fa3", "#b8860b", "#2b8c8c", "#7a5230", "#666666")


def render(result: dict[str, Any]) -> str:
    """The report of what ``explore.json`` has.

    Where no point of the front was chosen, it tells of the first one.
    """
    chosen = result["chosen"]
    exact, front = result["exact"], result["front"]
    number = 0 if chosen is None else chosen
    point = front[number]
    measure, latency = result["measure"], result["settings"]["latency"]
    title = f"{result['name']} on {result['target']}: {measure} against {latency}"
    confidence = f"{_share(point['drop_interval'][0])} to {_share(point['drop_interval'][1])}"
    summary = (
        f"The {'chosen' if chosen is not None else 'fastest'} point takes "
        f"<b>{point[latency]:,}</b> {latency}, "
        f"{1 - point[latency] / exact[latency]:.1%} fewer than the exact network's "
        f"{exact[latency]:,}, and leaves out "
        f"{point['macs_skipped'] / result['macs']:.1%} of {result['macs']:,} MACs. "
        f"Its {measure} is {_share(point['accuracy'])}, the exact network's "
        f"{_share(exact['accuracy'])}: a loss of {_share(point['drop'])} "
        f"(95&nbsp;% confidence: {confidence})."
    )
    parts = [
        f"<h1>{html.escape(title)}</h1><p>{summary}</p>",
        "<h2>The front</h2>",
        _front_plot(result, number),
        f"<p>Dark: the front on {result['samples_reported_on']:,} samples that nothing was chosen "
        "on, with 95&nbsp;% confidence (Wilson). Light: candidates, by what they lose on the "
        f"{result['samples_fitted_to']:,} samples of the search, at the price that they have. "
        "Dashed, and grey: the exact network.</p>",
        _front_table(result, number),
        *([_levels_section(result)] if "levels" in result else []),
        "<h2>What each layer leaves out</h2>",
        _layer_table(point),
        "<h2>How much each layer bears alone</h2>",
        _sensitivity_plot(result),
        "<h2>Confusion</h2>",
        f"<p>Rows: the {'labels' if measure == 'accuracy' else 'exact network'}; columns: what "
        "the network says.</p><h3>Exact</h3>" + _confusion(exact["confusion"]),
        "<h3>With what is left out</h3>" + _confusion(point["confusion"]),
        "<h2>Where this comes from</h2>",
        _provenance(result, point),
    ]
    body = "\n".join(parts)
    return (
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        f"<title>{html.escape(title)}</title><style>{_STYLE}</style></head>"
        f"<body>\n{body}\n</body></html>\n"
    )


def _share(value: float) -> str:
    return f"{100 * value:.2f}&nbsp;%"


class _Plot:
    """Axes and marks, as SVG."""

    def __init__(self, xs: Sequence[float], ys: Sequence[float], x_name: str, y_name: str) -> None:
        self.low, self.high = (min(xs), min(ys)), (max(xs), max(ys))
        self.marks: list[str] = []
        self.names = x_name, y_name

    def at(self, x: float, y: float) -> tuple[float, float]:
        spans = [(h - lo) or 1.0 for lo, h in zip(self.low, self.high, strict=True)]
        return (
            _MARGIN + (x - self.low[0]) / spans[0] * (_WIDTH - 2 * _MARGIN),
            _HEIGHT - _MARGIN - (y - self.low[1]) / spans[1] * (_HEIGHT - 2 * _MARGIN),
        )

    def dot(self, x: float, y: float, radius: float, colour: str, title: str = "") -> None:
        cx, cy = self.at(x, y)
        tip = f"<title>{html.escape(title)}</title>" if title else ""
        self.marks.append(
            f'<circle cx="{cx:.1f}" cy="{cy:.1f}" r="{radius}" fill="{colour}">{tip}</circle>'
        )

    def line(
        self, points: Sequence[tuple[float, float]], colour: str, dashed: bool = False
    ) -> None:
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in (self.at(*p) for p in points))
        dashes = ' stroke-dasharray="5 4"' if dashed else ""
        self.marks.append(
            f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.5"{dashes}/>'
        )

    def svg(self) -> str:
        ticks = []
        for x in _ticks(self.low[0], self.high[0]):
            left, _ = self.at(x, self.low[1])
            ticks.append(
                f'<text x="{left:.1f}" y="{_HEIGHT - _MARGIN + 18}" text-anchor="middle">'
                f"{x:g}</text>"
            )
        for y in _ticks(self.low[1], self.high[1]):
            _, bottom = self.at(self.low[0], y)
            ticks.append(
                f'<text x="{_MARGIN - 6}" y="{bottom + 4:.1f}" text-anchor="end">{y:g}</text>'
                f'<line x1="{_MARGIN}" x2="{_WIDTH - _MARGIN}" y1="{bottom:.1f}" y2="{bottom:.1f}" '
                'stroke="#e5e5e5"/>'
            )
        names = (
            f'<text x="{_WIDTH / 2}" y="{_HEIGHT - 14}" text-anchor="middle">{self.names[0]}</text>'
            f'<text x="{_MARGIN}" y="{_MARGIN - 24}">{self.names[1]}</text>'
        )
        inside = "\n".join([*ticks, names, *self.marks])
        return f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" width="{_WIDTH}">\n{inside}\n</svg>'


def _ticks(low: float, high: float) -> list[float]:
    """Round numbers from ``low`` to ``high``, five or so."""
    rough = (high - low) / 5 or 1.0
    power = 10.0 ** floor(log10(rough))
    step = next(power * n for n in (1, 2, 5, 10) if power * n >= rough)
    return [n * step for n in range(ceil(low / step), floor(high / step) + 1)]


def _front_plot(result: dict[str, Any], chosen: int) -> str:
    exact, front, tried = result["exact"], result["front"], result["tried"]
    unit = result["settings"]["latency"]
    points = [*front, exact]
    bounds = [edge for point in points for edge in point["accuracy_interval"]]
    floor = min(bounds) - 0.05
    # Other samples have another accuracy even when exact: what compares is the loss.
    losses = [(one["latency"], exact["accuracy"] - one["loss"]["mean"]) for one in tried]
    shown = [(latency, accuracy) for latency, accuracy in losses if accuracy >= floor]
    xs = [n / 1e6 for n in (*(p[unit] for p in points), *(n for n, _ in shown))]
    ys = [100 * y for y in (*bounds, *(accuracy for _, accuracy in shown))]
    plot = _Plot(xs, ys, f"million {unit}", f"{result['measure']}, %")
    for latency, accuracy in shown:
        plot.dot(latency / 1e6, 100 * accuracy, 2.5, "#b9cfe4")
    level = 100 * exact["accuracy"]
    plot.line([(plot.low[0], level), (plot.high[0], level)], "#666", dashed=True)
    plot.line([(p[unit] / 1e6, 100 * p["accuracy"]) for p in front], _COLOURS[0])
    words = f"exact: {exact[unit]:,} {unit}, {level:.2f} %"
    plot.dot(exact[unit] / 1e6, level, 4.5, "#666", words)
    for number, point in enumerate(front):
        x, colour = point[unit] / 1e6, _COLOURS[number == chosen]
        plot.line([(x, 100 * y) for y in point["accuracy_interval"]], colour)
        words = f"{point[unit]:,} {unit}, {100 * point['accuracy']:.2f} %"
        plot.dot(x, 100 * point["accuracy"], 4.5, colour, words)
    return plot.svg()


def _front_table(result: dict[str, Any], chosen: int) -> str:
    exact = result["exact"]
    rows = []
    for number, point in enumerate(result["front"]):
        low, high = point["accuracy_interval"]
        cells = [
            f"{number}",
            _share(point["accuracy"]),
            f"{_share(low)} to {_share(high)}",
            _share(point["drop"]),
            _share(point["promised_drop"]),
            _share(point["shown_when_choosing"]["most"]),
            f"{point['instructions']:,}",
            f"{1 - point['instructions'] / exact['instructions']:.1%}",
            f"{point['cycles']:,}",
            f"{1 - point['cycles'] / exact['cycles']:.1%}",
            f"{point['macs_skipped'] / result['macs']:.1%}",
            f"{point['flash_bytes']:,}",
        ]
        rows.append((cells, number == chosen))
    head = [
        "point",
        result["measure"],
        "95 %",
        "loss",
        "promised",
        "at most, when choosing",
        "instructions",
        "fewer",
        "cycles",
        "fewer",
        "MACs skipped",
        "flash bytes",
    ]
    return _table(head, rows)


def _levels_section(result: dict[str, Any]) -> str:
    """The levels of an object, and what gating them brings."""
    levels = result["levels"]
    rows = [
        (
            [
                f"{number} ({html.escape(level['name'])})",
                _interval(level["skipping"], "accuracy"),
                _interval(level["skipping"], "drop"),
                f"{level['instructions']:,}",
                f"{level['cycles']:,}",
                f"{level['arena_bytes']:,}",
                f"{level['own_flash_bytes']:,}",
            ],
            False,
        )
        for number, level in enumerate(levels)
    ]
    head = ["level", f"{result['measure']} (95 %)", "loss (95 %)", "instructions", "cycles"]
    parts = [
        "<h2>Levels</h2><p>All are in one object, which chooses at run time. Flash is what a level "
        "has for itself.</p>",
        _table([*head, "arena bytes", "flash bytes"], rows),
    ]
    gates = [(number, level["gate"]) for number, level in enumerate(levels) if level["gate"]]
    if gates:
        parts += [
            "<h2>Run again where not sure</h2><p>A gated level is run again exactly where its best "
            "score leads the second best by less than the margin. Margins are the least for which "
            f"{result['samples_chosen_on']:,} samples show, with 95&nbsp;% confidence, the exact "
            f"network's class on {_share(gates[0][1]['promised'])} of all; the rest is measured on "
            f"{result['samples_reported_on']:,} others. The worst case is both levels.</p>",
            _gate_table(gates),
        ]
        reasons = [why_no_gain(number, gate["cycles"]) for number, gate in gates]
        parts += [f"<p>{reason}.</p>" for reason in reasons if reason is not None]
    return "\n".join(parts)


def _gate_table(gates: Sequence[tuple[int, dict[str, Any]]]) -> str:
    rows = [
        (
            [
                f"{number}",
                f"{gate['margin']}",
                _share(gate["agreement_alone"]),
                _interval(gate, "agreement"),
                "-" if gate["accuracy"] is None else _interval(gate, "accuracy"),
                f"{_share(gate['rerun_rate'])} ({_range(gate['rerun_interval'])})",
                *(f"{gate['cycles'][case]:,}" for case in ("exact", "trusted", "mean", "worst")),
            ],
            False,
        )
        for number, gate in gates
    ]
    head = ["level", "margin", "agrees ungated", "agrees (95 %)", "accuracy (95 %)"]
    return _table([*head, "run again (95 %)", "cycles, exact", "trusted", "mean", "worst"], rows)


def _interval(part: dict[str, Any], key: str) -> str:
    return f"{_share(part[key])} ({_range(part[f'{key}_interval'])})"


def _range(interval: Sequence[float]) -> str:
    return " to ".join(map(_share, interval))


def _layer_table(point: dict[str, Any]) -> str:
    rows = [
        (
            [
                html.escape(layer["name"]),
                f"{layer['macs']:,}",
                f"{layer['macs_skipped'] / layer['macs']:.1%}",
                f"{layer['threshold']:.4f}",
                html.escape(layer["kernel"] or "-"),
                f"{layer['instructions_exact']:,}",
                f"{layer['instructions']:,}",
                f"{layer['flash_bytes']:,}",
            ],
            False,
        )
        for layer in point["layers"]
    ]
    head = [
        "layer",
        "MACs",
        "skipped",
        "significance of what goes, at most",
        "kernel",
        "instructions, exact",
        "instructions",
        "flash bytes",
    ]
    return _table(head, rows)


def _sensitivity_plot(result: dict[str, Any]) -> str:
    fractions = result["fractions"]
    curves = result["sensitivity"]
    names = {layer["symbol"]: layer["name"] for layer in result["exact"]["layers"]}
    losses = [100 * loss for curve in curves.values() for loss in curve]
    xs = [100 * f for f in fractions]
    plot = _Plot(xs, losses, "% of a layer left out", "doubt about classes, %")
    legend = []
    for number, (symbol, curve) in enumerate(curves.items()):
        colour = _COLOURS[number % len(_COLOURS)]
        plot.line([(x, 100 * loss) for x, loss in zip(xs, curve, strict=True)], colour)
        legend.append(f'<span style="color: {colour}">&#9632; {html.escape(names[symbol])}</span>')
    return f"{plot.svg()}<p>{' '.join(legend)}</p>"


def _confusion(matrix: list[list[int]]) -> str:
    rows = [([f"{i}", *(f"{n or ''}" for n in row)], False) for i, row in enumerate(matrix)]
    return _table(["", *map(str, range(len(matrix)))], rows)


def _provenance(result: dict[str, Any], point: dict[str, Any]) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in result["versions"].items())
    settings = ", ".join(f"{name} {value}" for name, value in result["settings"].items())
    rows = [
        ["model, SHA-256", f"<code>{result['input_sha256']}</code>"],
        ["data, SHA-256", f"<code>{result['data_sha256']}</code>"],
        ["settings", html.escape(settings)],
        ["versions", html.escape(versions)],
    ]
    return (
        _table(["", ""], [(row, False) for row in rows])
        + f"<p>This report again:</p><pre>{html.escape(result['command'])}</pre>"
        + f"<p>The network of the point, by passes:</p><pre>{html.escape(point['pipeline'])}</pre>"
    )


def _table(head: Sequence[str], rows: Sequence[tuple[Sequence[str], bool]]) -> str:
    top = "".join(f"<th>{name}</th>" for name in head)
    lines = [
        f"<tr{' class=chosen' if marked else ''}>"
        + "".join(f"<td>{cell}</td>" for cell in cells)
        + "</tr>"
        for cells, marked in rows
    ]
    return f"<table><tr>{top}</tr>\n" + "\n".join(lines) + "</table>"
