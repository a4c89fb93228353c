"""Which candidates are worth a look: a model of what each layer's level does to the network.

What a layer alone at a level does to the scores of classes is measured (`doubt`); errors of
several layers are taken to add up. Under that model the best networks are those of least
error + λ · latency, one choice for each layer (Shoham and Gersho, 1988, for bits of
quantisers): the *path*, from the exact network to the most skipped. Since the model is not
quite right, a search may weigh the errors of layers otherwise, and gets the networks that are
best under its weights.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from tinymlir.exploration.levels import FRACTIONS, SkippableLayer
from tinymlir.exploration.losses import wrongness
from tinymlir.exploration.prices import WORTH, Option, Prices

#: A level for each layer.
Candidate = tuple[int, ...]

#: Levels at which errors are measured; in between their logarithms are lines.
_MEASURED, _MEASURED_CHANNELS = (4, 9, 12, 15), (2, 4, 7, 11)
#: What counts as no error: logarithms need some.
_LEAST = 1e-6
#: Exchange rates of error for latency that the path tries.
_RATES = 160
#: Times that layers are chosen beside each other.
_SWEEPS = 4
#: Share of the mean lead by which a class leads that is in some doubt: so wide, most samples tell.
_SOFTNESS = 0.4
#: Error at which the path ends: more than anyone wants.
_MOST = 0.5


def doubt(exact: npt.NDArray[np.int8], scores: npt.NDArray[np.int8]) -> float:
    """How far scores bring the exact network's classes into doubt: 0 to 1.

    The mean square of what the `wrongness` of these classes changes by. Whether a change is
    for the worse, few samples do not say of small losses: labels are left out, and changes for the
    better count as well. How great changes are shows on few samples, what others lose follows it,
    and squares of errors of several layers add up, as these do not depend on each other.

    Args:
        exact, scores: (N, classes) or (N, positions, classes).
    """
    right = exact.argmax(-1)
    moved = wrongness(scores, right, _SOFTNESS) - wrongness(exact, right, _SOFTNESS)
    return float(np.square(moved).mean())


def measured_levels(layer: SkippableLayer) -> tuple[int, ...]:
    """The levels of a layer at which its error is to be measured."""
    return _MEASURED if layer.channels is None else _MEASURED_CHANNELS


class Guide:
    """Proposes candidates.

    ``errors`` is (layers, levels): the `doubt` about classes.
    """

    def __init__(self, measured: Sequence[Mapping[int, float]], prices: Prices) -> None:
        """
        Args:
            measured: errors of each layer, by level.
        """
        pairs = zip(measured, prices.layers, strict=True)
        self.errors = np.array([_interpolated(known, layer) for known, layer in pairs])
        self._prices = prices
        #: by layer, the others that its channels run through
        self._tied = [
            [
                j
                for j, other in enumerate(prices.layers)
                if layer.channels is not None
                and other is not layer
                and other.symbol in layer.channels.symbols()
            ]
            for layer in prices.layers
        ]
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
        options: Sequence[Sequence[Option]] = self._options
        levels: Candidate = ()
        for _ in range(_SWEEPS):
            choice = self._prices.cheapest(options, errors, rate)
            chosen = [choice.options[layer.symbol] for layer in self._prices.layers]
            before, levels = levels, tuple(option.level for option in chosen)
            if not any(self._tied) or levels == before:
                break
            options = self._beside(chosen)
        return levels

    def _beside(self, chosen: Sequence[Option]) -> list[list[Option]]:
        """What options cost beside those that are chosen of other layers.

        Layers that channels run through take as much less time as these are fewer, and
        what they save counts for the depthwise layer that leaves channels out.
        """
        layers = self._prices.layers
        kept = [
            layer.kept(option.level) if tied else 1.0
            for layer, option, tied in zip(layers, chosen, self._tied, strict=True)
        ]
        result = []
        for i, (layer, options) in enumerate(zip(layers, self._options, strict=True)):
            share = float(np.prod([kept[j] for j, tied in enumerate(self._tied) if i in tied]))
            others = [chosen[j] for j in self._tied[i]]
            along = sum(other.latency + WORTH * other.flash_bytes for other in others)
            result.append(
                [
                    replace(
                        option,
                        latency=share * option.latency
                        + (along * layer.kept(option.level) / kept[i] if others else 0),
                        flash_bytes=share * option.flash_bytes,
                    )
                    for option in options
                ]
            )
        return result

    def path(self) -> dict[Candidate, float]:
        """Candidates under equal weights, from the exact network on, and the rate of each."""
        total = self._prices.exact.report[self._prices.latency]
        ones = [1.0] * len(self.errors)
        found = {(0,) * len(self.errors): _LEAST / total}
        for rate in np.geomspace(_LEAST / total, 1e3 / total, _RATES):
            candidate = self.propose(float(rate), ones)
            if sum(self.errors[i, level] for i, level in enumerate(candidate)) > _MOST:
                break
            found.setdefault(candidate, float(rate))
        return found


def _interpolated(known: Mapping[int, float], layer: SkippableLayer) -> list[float]:
    """The error of each level: between two that are measured, logarithms are lines.

    Few samples show no error that is small. So below the least that is measured errors are in
    the ratio of what the layer's scores say.
    """
    levels = sorted(known)
    xs = np.array([FRACTIONS[level] for level in levels])
    ys = np.log([max(known[level], _LEAST) for level in levels])
    least = max(layer.error(levels[0]), np.finfo(float).tiny)
    result = [0.0]
    for level, fraction in list(enumerate(FRACTIONS))[1:]:
        if level < levels[0]:
            result.append(float(np.exp(ys[0])) * layer.error(level) / least)
            continue
        i = int(np.clip(np.searchsorted(xs, fraction) - 1, 0, len(xs) - 2))
        slope = max(0.0, (ys[i + 1] - ys[i]) / (xs[i + 1] - xs[i]))
        result.append(float(np.exp(ys[i] + slope * (fraction - xs[i]))))
    return result
