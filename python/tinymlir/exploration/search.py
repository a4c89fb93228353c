"""A search over levels of layers for the front of accuracy against instructions."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Protocol

import numpy as np

from tinymlir.errors import TinymlirError
from tinymlir.exploration.guide import Candidate

#: What may be lost by chance where nothing may be lost.
UNSHOWN_LOSS = 0.005
#: Candidates in a row that improve nothing, after which the search ends.
_PATIENCE = 20
#: How far the search weighs a layer's errors up or down.
_WEIGHT = 4.0


@dataclass(frozen=True)
class Evaluated:
    """A candidate: share of samples that are right, and instructions as prices tell.

    ``worse`` is whether the samples show it to be less accurate than the exact network;
    ``most_drop`` what it loses at most, with 95 % confidence.
    """

    levels: Candidate
    accuracy: float
    instructions: float
    worse: bool
    most_drop: float

    def loses_within(self, exact: float, loss: float) -> bool:
        """Whether it loses at most ``loss`` of the accuracy ``exact``, as far as samples tell.

        A loss is promised on the upper limit of its confidence interval: the fastest of many
        candidates is one that chance has favoured. No loss is one that the samples do not
        show and that is at most `UNSHOWN_LOSS`; it is within any promise.
        """
        unshown = not self.worse and self.accuracy >= exact - UNSHOWN_LOSS
        return unshown or self.most_drop <= loss


def fastest_within(candidates: Sequence[Evaluated], exact: float, loss: float) -> Evaluated | None:
    """The fastest candidate that loses at most ``loss`` (`Evaluated.loses_within`)."""
    fitting = [one for one in candidates if one.loses_within(exact, loss)]
    return min(fitting, key=lambda one: (one.instructions, -one.accuracy), default=None)


def front(candidates: Sequence[Evaluated]) -> list[Evaluated]:
    """Those that none beats in both, the fastest first."""
    best: list[Evaluated] = []
    for one in sorted(candidates, key=lambda c: (c.instructions, -c.accuracy, c.levels)):
        if not best or one.accuracy > best[-1].accuracy:
            best.append(one)
    return best


def load_optuna() -> ModuleType:
    """The search library.

    Raises:
        TinymlirError: it is not installed.
    """
    try:
        return importlib.import_module("optuna")
    except ImportError:
        raise TinymlirError(
            "the search needs Optuna", hint="pip install 'tinymlir[explore]'"
        ) from None


class Proposals(Protocol):
    """What a `guide.Guide` proposes."""

    def path(self) -> dict[Candidate, float]: ...

    def propose(self, rate: float, weights: Sequence[float]) -> Candidate: ...


def search(
    evaluate: Callable[[Candidate], Evaluated],
    guide: Proposals,
    losses: Sequence[float],
    trials: int,
    seed: int,
) -> Iterator[Evaluated]:
    """Evaluate candidates: the exact network, some of the guide's path, then what is near those.

    On the path the last candidate within each loss is found by bisection. From there, a
    tree-structured Parzen estimator looks for weights of the layers' errors that lead to
    better candidates.

    Args:
        evaluate: gives a candidate's accuracy and instructions.
        losses: of accuracy that are of interest.
        trials: how many to evaluate at most, those of the path included.
        seed: of what is proposed; the same seed proposes the same.
    """
    path = guide.path()
    steps = list(path)
    done: dict[Candidate, Evaluated] = {}

    def look(candidate: Candidate) -> Iterator[Evaluated]:
        if candidate not in done and len(done) < trials:
            done[candidate] = evaluate(candidate)
            yield done[candidate]

    yield from look(steps[0])
    exact = done[steps[0]].accuracy
    for loss in sorted(losses, reverse=True):
        low, high = 0, len(steps)
        while high - low > 1 and len(done) < trials:
            middle = (low + high) // 2
            yield from look(steps[middle])
            within = done[steps[middle]].loses_within(exact, loss)
            low, high = (middle, high) if within else (low, middle)
    least = exact - 2 * max(losses) - UNSHOWN_LOSS
    near = [path[levels] for levels, one in done.items() if one.accuracy >= least]
    yield from _refine(look, done, guide, near, trials, seed)


def _refine(
    look: Callable[[Candidate], Iterator[Evaluated]],
    done: dict[Candidate, Evaluated],
    guide: Proposals,
    rates: Sequence[float],
    trials: int,
    seed: int,
) -> Iterator[Evaluated]:
    """Between the least and the greatest of ``rates``, which candidates on the path have."""
    optuna = load_optuna()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    sampler = optuna.samplers.TPESampler(seed=seed, multivariate=True, n_startup_trials=0)
    study = optuna.create_study(directions=["maximize", "minimize"], sampler=sampler)
    names = [f"layer{i}" for i in range(len(next(iter(done))))]
    known = np.log(rates).tolist()
    if len(known) < 2:
        return
    for rate in known:
        study.enqueue_trial({"rate": rate, **dict.fromkeys(names, 0.0)})
    idle = 0
    for number in range(len(known) + 10 * trials):
        if len(done) >= trials or idle >= _PATIENCE:
            return
        trial = study.ask()
        rate = trial.suggest_float("rate", min(known), max(known))
        edge = float(np.log(_WEIGHT))
        weights = np.exp([trial.suggest_float(name, -edge, edge) for name in names])
        candidate = guide.propose(float(np.exp(rate)), weights.tolist())
        best = front(list(done.values()))
        yield from look(candidate)
        if candidate not in done:
            return
        study.tell(trial, (done[candidate].accuracy, done[candidate].instructions))
        if number >= len(known):
            idle = 0 if front(list(done.values())) != best else idle + 1
