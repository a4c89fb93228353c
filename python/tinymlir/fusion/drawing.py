"""Pictures of a front, and of memory over time with and without fusion."""

from __future__ import annotations

from collections.abc import Sequence

from tinymlir.fusion import msf
from tinymlir.fusion.placement import place
from tinymlir.fusion.planner import Planner
from tinymlir.fusion.search import front
from tinymlir.fusion.setting import InputMode, Setting
from tinymlir.svg import Chart, Points, Series, drawing

_KILO = 1000
_OURS, _CHOSEN, _VANILLA, _MSF = "#1f6fb4", "#d62728", "#8c8c8c", "#e08a1e"


def draw(name: str, planner: Planner, found: Sequence[Setting], chosen: Setting) -> str:
    """An SVG: the arena against the overhead, and bytes alive while the network runs.

    Args:
        name: what the network is called.
        found: the front.
        chosen: the setting to mark.
    """
    vanilla = planner.vanilla()
    trade = Chart(
        f"{name}: memory against computation, input {planner.mode}",
        "F: multiply-accumulates over those of the network layer by layer",
        "arena, kB",
        [Series("fusion settings", _trade(planner, found), _OURS, "steps")],
        x_from=1.0,
        y_from=0.0,
    )
    ways = list(msf.edges(planner.graph))
    if ways:
        trade.series.append(Series("msf-CNN, as it counts", _rivals(front(ways)), _MSF))
    trade.series.append(Series("layer by layer", _trade(planner, [vanilla]), _VANILLA, "squares"))
    trade.series.append(Series("chosen", _trade(planner, [chosen]), _CHOSEN, "squares"))
    unfused: InputMode = "in-arena" if planner.mode == "streamed" else planner.mode
    time = Chart(
        "bytes in use while the network runs",
        "layers",
        "arena, kB",
        [
            Series("layer by layer", _live(planner, unfused, vanilla), _VANILLA, "area"),
            Series("chosen", _live(planner, planner.mode, chosen), _OURS, "area"),
        ],
        y_from=0.0,
    )
    return drawing([trade, time])


def _trade(planner: Planner, found: Sequence[Setting]) -> Points:
    points = [(planner.overhead(setting), setting.bytes / _KILO) for setting in found]
    return sorted(points)


def _rivals(found: Sequence[tuple[int, int]]) -> Points:
    """msf-CNN's points; the one with the most memory computes nothing twice."""
    least = found[-1][1]
    return [(macs / least, size / _KILO) for size, macs in found]


def _live(planner: Planner, mode: InputMode, setting: Setting) -> Points:
    """Bytes in use from each block's first layer on."""
    live = place(planner.graph, mode, setting.blocks).plan.live
    heights = [live[i] if i < len(live) else 0 for i in range(len(setting.blocks))]
    begins = [block.first for block in setting.blocks]
    ends = (len(planner.graph.layers), heights[-1] / _KILO)
    return [*zip(begins, (height / _KILO for height in heights), strict=True), ends]
