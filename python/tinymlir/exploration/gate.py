"""The gate of an approximate level: by how much its best score must lead to be trusted.

Samples that an approximation classifies otherwise than the exact network are mostly those between
two classes. Run these again exactly, and what is left agrees as often as one likes; how often that
is, and how many samples that takes, is measured (docs/skipping.md).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from math import ceil, log
from typing import Any

import numpy as np
import numpy.typing as npt

from tinymlir.errors import TinymlirError
from tinymlir.exploration.confidence import UNLIKELY, shows_share, wilson
from tinymlir.exploration.data import Part
from tinymlir.exploration.losses import Classes, Scores
from tinymlir.network import TensorInfo

#: More than any score of 8 bits leads another: nothing is trusted.
ALWAYS = 256
#: Share of samples on which the exact network's class is promised, unless said otherwise.
AGREEMENT = 0.99


@dataclass(frozen=True)
class Gate:
    """A margin and what it brings, on samples that it was not chosen on.

    ``agreement`` is the share of samples with the exact network's class, ``agreement_alone`` that
    of the level without a gate, ``rerun_rate`` the share of samples that are run again exactly.
    Intervals are of 95 % confidence. ``accuracy`` is None without labels.
    """

    promised: float
    margin: int
    agreement_when_choosing: float
    agreement: float
    agreement_interval: tuple[float, float]
    agreement_alone: float
    rerun_rate: float
    rerun_interval: tuple[float, float]
    accuracy: float | None
    accuracy_interval: tuple[float, float] | None

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    def mean(self, trusted: float, rerun: float) -> float:
        """What a sample takes on average, of what one takes that is trusted or run again."""
        return (1 - self.rerun_rate) * trusted + self.rerun_rate * rerun


def why_no_scores(outputs: Sequence[TensorInfo], float_io: bool) -> str | None:
    """Why the margin of outputs says nothing; None where it does: one vector of class scores."""
    if len(outputs) != 1:
        return f"the network has {len(outputs)} outputs"
    (output,) = outputs
    classes = max(output.shape, default=1)
    if int(np.prod(output.shape)) != classes:
        return f"the output has the shape {'x'.join(map(str, output.shape))}"
    if classes < 2:
        return "the output is a single number"
    if float_io and output.model_type == "float32":
        return "--float-io makes the output float32"
    return None


def require_samples_for(agreement: float, confirming: Part) -> None:
    """Raise a TinymlirError where even perfect agreement on the samples does not show so much."""
    needed = ceil(log(UNLIKELY) / log(agreement))
    if len(confirming) < needed:
        raise TinymlirError(
            f"an agreement of {agreement:g} shows on {needed} samples or more; "
            f"{len(confirming)} are there to confirm a level on",
            node="--agreement",
            hint="give more samples by --data, or promise less",
        )


def leads(scores: Scores) -> npt.NDArray[np.int64]:
    """How far the best score is above the second best, (N,), of (N, classes)."""
    ordered = np.sort(scores.astype(np.int64), axis=1)
    return np.asarray(ordered[:, -1] - ordered[:, -2])


def choose_margin(exact: Scores, fast: Scores, promised: float) -> int:
    """The least margin for which samples show the promised agreement with 95 % confidence.

    Margins are tried from the largest down to the first that fails, so trying many does not weaken
    the confidence (fixed-sequence testing, as in "Learn then Test", Angelopoulos et al., 2021).

    Args:
        exact: of the exact network, (N, classes).
        fast: of the level.
    """
    lead = leads(fast)
    differ = lead[exact.argmax(1) != fast.argmax(1)]
    margin = ALWAYS
    while margin > 0 and shows_share(int((differ >= margin - 1).sum()), len(lead), promised):
        margin -= 1
    return margin


def measure(
    promised: float,
    choosing: tuple[Scores, Scores],
    reporting: tuple[Scores, Scores],
    labels: Classes | None,
) -> Gate:
    """Choose a margin on some samples, and say what it brings on others.

    Args:
        promised: agreement with the exact network.
        choosing: scores of the exact network and of the level, (N, classes) each.
        reporting: likewise.
        labels: of the samples to report on.
    """
    margin = choose_margin(*choosing, promised)
    chosen_on = _gated(*choosing, margin) == choosing[0].argmax(1)
    exact, fast = reporting
    gated = _gated(exact, fast, margin)
    agree, again = gated == exact.argmax(1), leads(fast) < margin
    right = None if labels is None else gated == labels
    return Gate(
        promised,
        margin,
        float(chosen_on.mean()),
        float(agree.mean()),
        wilson(int(agree.sum()), len(agree)),
        float((fast.argmax(1) == exact.argmax(1)).mean()),
        float(again.mean()),
        wilson(int(again.sum()), len(again)),
        None if right is None else float(right.mean()),
        None if right is None else wilson(int(right.sum()), len(right)),
    )


def why_no_gain(number: int, cycles: Mapping[str, int]) -> str | None:
    """Why a gated level saves nothing; None where it does.

    Args:
        number: of the level.
        cycles: on average, ``mean``, and of the ``exact`` network.
    """
    if cycles["mean"] < cycles["exact"]:
        return None
    return (
        f"gated, level {number} takes {cycles['mean']} cycles on average and the exact network "
        f"{cycles['exact']}: run that, or promise less by --agreement"
    )


def _gated(exact: Scores, fast: Scores, margin: int) -> Classes:
    """What ``NAME_invoke_gated`` makes of samples."""
    return np.where(leads(fast) < margin, exact.argmax(1), fast.argmax(1))
