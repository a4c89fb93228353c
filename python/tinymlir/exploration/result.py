"""What an exploration found."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from tinymlir.errors import TinymlirError
from tinymlir.exploration.prices import Measured
from tinymlir.exploration.search import Evaluated, fastest_within


@dataclass(frozen=True)
class Point:
    """A network of the front, compiled, measured and reported on.

    ``accuracy`` and ``chosen_accuracy`` are shares of the samples that were reported on and
    chosen on; without labels, of agreement with the exact network.
    """

    levels: dict[str, int]
    kernels: Mapping[str, str]
    measured: Measured
    candidate: Evaluated
    accuracy: float
    interval: tuple[float, float]
    drop: tuple[float, float, float]
    confusion: list[list[int]]
    layers: list[dict[str, Any]]
    pipeline: str

    @property
    def chosen_accuracy(self) -> float:
        return self.candidate.accuracy

    @property
    def macs_skipped(self) -> int:
        return sum(layer["macs_skipped"] for layer in self.layers)

    def to_json(self) -> dict[str, Any]:
        report = self.measured.report
        return {
            "accuracy": self.accuracy,
            "accuracy_interval": self.interval,
            "accuracy_when_choosing": self.chosen_accuracy,
            "most_drop_when_choosing": self.candidate.most_drop,
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
        """The fastest point that loses at most so much, on the samples that were chosen on.

        What counts as no loss: `fastest_within`.

        Raises:
            TinymlirError: no point does; names the nearest.
        """
        points = {point.candidate: point for point in self.front}
        found = fastest_within(list(points), self.exact.chosen_accuracy, max_drop)
        if found is not None:
            return points[found]
        nearest = min(self.front, key=lambda point: point.candidate.most_drop)
        raise TinymlirError(
            f"no point of the front loses {max_drop:g} or less, as far as samples tell",
            hint=f"the nearest does with --max-accuracy-drop {nearest.candidate.most_drop:.4f}",
        )
