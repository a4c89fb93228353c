"""Which candidates are worth a look: a model of what each layer's level does to the network.

What a layer alone at a level does to the scores of classes is measured (`doubt`); errors of
several layers are taken to add up. Under that model the best networks are those of least
error + λ · instructions, one choice for each layer (Shoham and Gersho, 1988, for bits of
quantisers): the *path*, from the exact network to the most skipped. Since the model is not
quite right, a search may weigh the errors of layers otherwise, and gets the networks that are
best under its weights.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from tinymlir.exploration.levels import FRACTIONS
from tinymlir.exploration.losses import wrongness
from tinymlir.exploration.prices import Prices

#: A level for each layer.
Candidate = tuple[int, ...]

#: Levels at which errors are measured; in between their logarithms are lines.
MEASURED = (4, 9, 12, 15)
#: What counts as no error: logarithms need some.
_LEAST = 1e-6
#: Exchange rates of error for instructions that the path tries.
_RATES = 160
#: Error at which the path ends: more than anyone wants.
_MOST = 0.5
#: What doubt about the exact network's class counts beside half of that about the label: half of
#: all changes, where classes are in doubt, are to a class that is no worse.
_AGREEMENT = 0.25


def doubt(
    exact: npt.NDArray[np.int8],
    scores: npt.NDArray[np.int8],
    labels: npt.NDArray[np.integer] | None,
) -> float:
    """How much nearer than the exact scores others are to a wrong class: 0 to 1 (`wrongness`).

    Labels say whether a change is for the worse, but of few samples not surely; the exact network's
    classes show every change, also those to the right class. So both count.

    Args:
        exact, scores: (N, classes).
        labels: right classes; the exact network's, where None.
    """
    agreement = _more_wrong(exact, scores, exact.argmax(1))
    if labels is None:
        return agreement
    return _AGREEMENT * agreement + 0.5 * _more_wrong(exact, scores, labels)


def _more_wrong(
    exact: npt.NDArray[np.int8],
    scores: npt.NDArray[np.int8],
    right: npt.NDArray[np.integer],
) -> float:
    return max(float((wrongness(scores, right) - wrongness(exact, right)).mean()), 0.0)


class Guide:
    """Proposes candidates.

    ``errors`` is (layers, levels): the `doubt` about classes.
    """

    def __init__(self, measured: Sequence[Mapping[int, float]], prices: Prices) -> None:
        """
        Args:
            measured: errors of each layer, by level.
        """
        self.errors = np.array([_interpolated(known) for known in measured])
        self._prices = prices
        self._options = [
            [o for level in range(len(FRACTIONS)) for o in prices.options[layer.symbol, level]]
            for layer in prices.layers
        ]

    def propose(self, rate: float, weights: Sequence[float]) -> Candidate:
        """The best candidate where an instruction is worth ``rate`` of error.

        Args:
            weights: of the errors of each layer.
        """
        errors = [
            weight * own[[option.level for option in options]]
            for weight, own, options in zip(weights, self.errors, self._options, strict=True)
        ]
        choice = self._prices.cheapest(self._options, errors, rate)
        return tuple(choice.options[layer.symbol].level for layer in self._prices.layers)

    def path(self) -> dict[Candidate, float]:
        """Candidates under equal weights, from the exact network on, and the rate of each."""
        total = self._prices.exact.instructions
        ones = [1.0] * len(self.errors)
        found = {(0,) * len(self.errors): _LEAST / total}
        for rate in np.geomspace(_LEAST / total, 1e3 / total, _RATES):
            candidate = self.propose(float(rate), ones)
            if sum(self.errors[i, level] for i, level in enumerate(candidate)) > _MOST:
                break
            found.setdefault(candidate, float(rate))
        return found


def _interpolated(known: Mapping[int, float]) -> list[float]:
    levels = sorted(known)
    xs = np.array([FRACTIONS[level] for level in levels])
    ys = np.log([max(known[level], _LEAST) for level in levels])
    result = []
    for fraction in FRACTIONS:
        i = int(np.clip(np.searchsorted(xs, fraction) - 1, 0, len(xs) - 2))
        slope = max(0.0, (ys[i + 1] - ys[i]) / (xs[i + 1] - xs[i]))
        result.append(float(np.exp(ys[i] + slope * (fraction - xs[i]))))
    return [0.0, *result[1:]]
