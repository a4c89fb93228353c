"""How much accuracy an approximation loses, as well as few samples tell.

Of a thousand samples, an approximation changes the class of some dozens, and what it loses is the
difference between those that it spoils and those that it mends: a number mostly of chance. Samples
whose class it does not change tell as much. So a sample counts as wrong by a smooth share: the
logistic function of the lead of the right class, in units of a part of the mean lead. As long as
leads near zero are about as frequent at one distance as at another, that share changes with
the approximation as accuracy does, and it takes a third of the samples to show it as surely.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tinymlir.errors import TinymlirError
from tinymlir.exploration.confidence import most_drop, most_mean
from tinymlir.network import TensorInfo

Scores = npt.NDArray[np.int8]
Classes = npt.NDArray[np.integer[Any]]

#: Share of the mean lead that makes a class doubtful.
_SOFTNESS = 0.1
#: No loss: one that is likely to be so small, or to be of so few samples, and surely no greater
#: than that.
_LIKELY, _SAMPLES, SURELY = 0.0025, 2, 0.01


@dataclass(frozen=True)
class Loss:
    """What some samples say of a network beside the exact one.

    ``accuracy`` is the share of them that is right and ``drop`` how much less that is than the
    exact one's: at ``least`` so much where others are counted, with 95 % confidence. ``mean`` is
    the smooth estimate of that loss, and ``most`` what it is at most, with 95 % confidence.
    """

    accuracy: float
    drop: float
    mean: float
    most: float
    least: float
    samples: int

    def shows(self, loss: float) -> bool:
        """Whether no more than ``loss`` is lost by the estimate, and not surely more by count."""
        return self.most <= loss and self.least <= loss

    def suggests(self, loss: float) -> bool:
        """Whether the estimate is no more than ``loss``, or than what is no loss."""
        return self.mean <= max(loss, _LIKELY, _SAMPLES / self.samples)

    def is_none(self) -> bool:
        """Whether nothing is lost, as far as samples can tell."""
        return self.suggests(0) and self.least <= 0 and self.shows(SURELY)

    def within(self, loss: float) -> bool:
        """Whether samples show that no more than ``loss`` is lost; no loss is within any."""
        return self.shows(loss) or self.is_none()


def scores_shape(output: TensorInfo, file: str) -> tuple[int, ...]:
    """(classes,), or (positions, classes) where an output has several vectors of scores.

    Raises:
        TinymlirError: an output has no scores of classes.
    """
    elements, classes = int(np.prod(output.shape)), output.shape[-1] if output.shape else 1
    if elements == max(output.shape, default=1):
        classes = elements
    if classes < 2:
        what = "one number" if elements < 2 else "one number at each position"
        raise TinymlirError(f"is {what}, and no scores of classes", file=file, node=output.name)
    return (classes,) if classes == elements else (elements // classes, classes)


def measure_loss(exact: Scores, scores: Scores, labels: Classes | None) -> Loss:
    """What is lost from ``exact`` to ``scores``.

    Without labels, any other class is one that is lost; since no approximation is right where
    the exact network is wrong by then, leads near zero are not alike on both sides, and samples
    just count.

    Args:
        exact, scores: (N, classes); or (N, positions, classes), where each position has a class.
            Those of one sample are not independent, so what counts is the share of them.
        labels: right classes, (N,) or (N, positions).
    """
    truth = exact.argmax(-1) if labels is None else labels
    before, after = exact.argmax(-1) == truth, scores.argmax(-1) == truth
    if before.ndim > 1:
        gone = before.mean(1) - after.mean(1)
        drop = float(gone.mean())
        least = -most_mean(-gone)
        return Loss(float(after.mean()), drop, drop, most_mean(gone), least, len(truth))
    lost, won = int((before & ~after).sum()), int((~before & after).sum())
    samples, accuracy = len(truth), float(after.mean())
    if (exact == scores).all():
        return Loss(accuracy, 0.0, 0.0, 0.0, 0.0, samples)
    drop, least = (lost - won) / samples, -most_drop(won, lost, samples)
    if labels is None:
        return Loss(accuracy, drop, drop, most_drop(lost, won, samples), least, samples)
    moved = wrongness(scores, truth) - wrongness(exact, truth)
    return Loss(accuracy, drop, float(moved.mean()), most_mean(moved), least, samples)


def wrongness(
    scores: Scores, right: Classes, softness: float = _SOFTNESS
) -> npt.NDArray[np.float64]:
    """How wrong each class is, 0 to 1, as ``right``; a half where the best two classes are equal.

    Scores count relative to the leads that there are: to shrink is no error. ``softness`` is the
    share of the mean lead that makes a class doubtful.
    """
    unit = softness * float(_leads(scores, scores.argmax(-1)).mean())
    return 0.5 - 0.5 * np.tanh(_leads(scores, right) / (2 * max(unit, 1e-9)))


def _leads(scores: Scores, classes: Classes) -> npt.NDArray[np.float64]:
    """By how much ``classes`` lead all others, (N,)."""
    others = scores.astype(np.float64)
    own = np.take_along_axis(others, classes[..., None], -1)[..., 0]
    np.put_along_axis(others, classes[..., None], -np.inf, -1)
    return np.asarray(own - others.max(-1))
