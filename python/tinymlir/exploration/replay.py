"""The passes that make a point of the front again, for ``tinymlir-opt``."""

from __future__ import annotations

from collections.abc import Mapping

from tinymlir.pipelines import on_module
from tinymlir.skipping.compensation import Compensation
from tinymlir.skipping.significance import Score
from tinymlir.skipping.units import Granularity

#: The samples that were fitted to, beside the report.
_DATA = "data=calibration.npz"


def replay(
    functions: tuple[str, ...],
    fractions: Mapping[str, float],
    score: Score,
    granularity: Granularity,
    compensation: Compensation,
    *,
    ordered: bool,
) -> str:
    """A pass pipeline, from the model in canonical form on.

    Args:
        functions: passes that make functions of its layers.
        fractions: shares of layers that go, by symbol.
        ordered: whether channels are put in order first.
    """
    if not fractions:
        return on_module(functions)
    seen = f" {_DATA}" * (score == "impact")
    scored = (
        f"tiny-calibrate{{{_DATA}}}",
        f"tiny-significance{{score={score}{seen} granularity={granularity}}}",
    )
    order = (*scored, "tiny-sort-channels") if ordered else ()
    layers = ",".join(f"{symbol}:{fraction:g}" for symbol, fraction in fractions.items())
    fitted = f" {_DATA}" * (compensation == "sequence")
    skip = f"tiny-skip-macs{{per-layer={layers} compensate={compensation}{fitted}}}"
    return on_module((*functions, *order, *scored, skip, "tiny-drop-channels"))
