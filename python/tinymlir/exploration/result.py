"""What an exploration found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from tinymlir.errors import TinymlirError
from tinymlir.exploration.prices import Latency, Measured
from tinymlir.exploration.search import Evaluated, Promise


@dataclass(frozen=True)
class Point:
    """A network of the front, compiled, measured and reported on.

    ``accuracy`` is a share of the samples that were reported on; without labels, of agreement with
    the exact network.
    """

    levels: dict[str, int]
    kernels: Mapping[str, str]
    measured: Measured
    promise: Promise
    accuracy: float
    interval: tuple[float, float]
    drop: tuple[float, float, float]
    confusion: list[list[int]]
    layers: list[dict[str, Any]]
    pipeline: str

    @property
    def macs_skipped(self) -> int:
        return sum(layer["macs_skipped"] for layer in self.layers)

    def to_json(self) -> dict[str, Any]:
        report = self.measured.report
        return {
            "accuracy": self.accuracy,
            "accuracy_interval": self.interval,
            "promised_drop": self.promise.loss,
            "shown_when_choosing": asdict(self.promise.shown),
            "drop": self.drop[0],
            "drop_interval": self.drop[1:],
            "instructions": report["instructions"],
            "cycles": report["cycles"],
            "macs_skipped": self.macs_skipped,
            "flash_bytes": report["flash_bytes"],
            "thresholds": {layer["symbol"]: layer["threshold"] for layer in self.layers},
            "fractions": {layer["symbol"]: layer["fraction"] for layer in self.layers},
            "layers": self.layers,
            "confusion": self.confusion,
            "pipeline": self.pipeline,
        }


def faster(points: Sequence[Point], exact: Point, latency: Latency) -> list[Point]:
    """Those that are faster than ``exact``, and that where some are not: prices are estimates."""
    most = exact.measured.report[latency]
    found = [point for point in points if point.measured.report[latency] < most]
    return found if len(found) == len(points) else [*found, exact]


@dataclass(frozen=True)
class Exploration:
    """What a search found. ``front`` is of points, the fastest first; ``exact`` is the last."""

    facts: dict[str, Any]
    exact: Point
    front: list[Point]
    tried: list[Evaluated]
    sensitivity: dict[str, list[float]]

    def to_json(self) -> dict[str, Any]:
        return {
            **self.facts,
            "exact": self.exact.to_json(),
            "front": [point.to_json() for point in self.front],
            "sensitivity": self.sensitivity,
            "tried": [asdict(one) for one in self.tried],
        }

    def within(self, max_drop: float) -> Point:
        """The fastest point of which so much loss is promised, or less.

        Raises:
            TinymlirError: there is none; names the nearest.
        """
        for point in self.front:
            if point.promise.loss <= max_drop:
                return point
        nearest = min(point.promise.loss for point in self.front)
        raise TinymlirError(
            f"no point of the front loses {max_drop:g} or less, as far as samples tell",
            hint=f"the nearest does with --max-accuracy-drop {nearest + 5e-5:.4f}",
        )
