"""A search over levels of layers for the front of accuracy against latency."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Protocol

import numpy as np

from tinymlir.errors import TinymlirError
from tinymlir.exploration.guide import Candidate
from tinymlir.exploration.losses import SURELY, Loss
from tinymlir.progress import progress

#: Candidates in a row that improve nothing, after which the search ends.
_PATIENCE = 20
#: Share of the latency by which candidates that are tested differ, at least.
_STEP = 0.01
#: How far the search weighs a layer's errors up or down.
_WEIGHT = 4.0


@dataclass(frozen=True)
class Evaluated:
    """A candidate: what it loses on the samples to fit to, and its latency as prices tell.

    ``doubt`` compares candidates: it shows smaller differences than what is lost (`guide.doubt`).
    """

    levels: Candidate
    loss: Loss
    doubt: float
    latency: float


@dataclass(frozen=True)
class Promise:
    """A candidate that loses at most ``loss``, as ``shown`` by samples that it is not fitted to."""

    levels: Candidate
    loss: float
    shown: Loss


def confirm(
    candidates: Sequence[Evaluated],
    losses: Sequence[float],
    measure: Callable[[Candidate], Loss],
    fitted: Callable[[Candidate], Loss],
    price: Callable[[Candidate], float],
) -> list[Promise]:
    """For each loss the fastest candidate that samples show to lose no more, fastest first.

    The fastest of many is one that chance has favoured. So the samples of ``measure`` are others
    than those of the search, and the front of the search is tested on them one by one,
    the slowest first, up to the first that fails: in 5 % of cases at most is one accepted that
    loses more, however many are tested. That is fixed sequence testing along the front
    (Angelopoulos et al., "Learn then Test", 2021; Laufer-Goldshtein et al., "Pareto Testing",
    2023). Of no loss, what is tested so is that it is surely small; of those that pass, the fastest
    counts that is likely to lose nothing. What the samples of the search suggest must not be more
    than a promise either: they may be of another kind, on which more is lost. Where no candidate
    passes, there is the slowest, and the least that can be promised of it.

    Args:
        candidates: those of the search.
        measure: gives what a candidate loses on samples that the search has not seen.
        fitted: gives what it loses on those of the search.
        price: gives its latency.
    """
    sequence = _sequence(candidates, price)
    shown: list[Loss] = []
    for one in progress(sequence, len(sequence), "confirming"):
        shown.append(measure(one))
        if not shown[-1].shows(max(SURELY, *losses)):
            break

    def passed(loss: float) -> range:
        """Those before the first of which samples do not show that it loses no more."""
        return range(next((n for n, test in enumerate(shown) if not test.shows(loss)), len(shown)))

    searched = [fitted(one) for one in sequence[: len(shown)]]
    lossless = {n for n in passed(SURELY) if shown[n].is_none() and searched[n].suggests(0)}
    found: dict[Candidate, Promise] = {}
    for loss in sorted(losses):
        able = {n for n in passed(loss) if searched[n].suggests(loss)}
        fastest = max(able | lossless, default=None)
        if fastest is not None:
            best = sequence[fastest]
            found.setdefault(best, Promise(best, loss, shown[fastest]))
    if not found:
        return [Promise(sequence[0], max(shown[0].most, shown[0].least), shown[0])]
    return sorted(found.values(), key=lambda promise: price(promise.levels))


def _sequence(
    candidates: Sequence[Evaluated], price: Callable[[Candidate], float]
) -> list[Candidate]:
    """The front, the slowest first, and steps between those that are far apart."""
    ends = [one.levels for one in reversed(front(candidates))]
    found = ends[:1]
    for end in ends[1:]:
        start = found[-1]
        steps = max(1, int(np.log(price(end) / price(start)) / np.log(1 - _STEP)))
        for part in np.arange(1, steps + 1) / steps:
            way = np.rint(start + part * np.subtract(end, start)).astype(int)
            if price(tuple(way.tolist())) <= (1 - _STEP) * price(found[-1]):
                found.append(tuple(way.tolist()))
    return found


def front(candidates: Sequence[Evaluated]) -> list[Evaluated]:
    """Those that none beats in both, the fastest first."""
    best: list[Evaluated] = []
    for one in sorted(candidates, key=lambda c: (c.latency, c.doubt, c.levels)):
        if not best or one.doubt < best[-1].doubt:
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
        evaluate: gives a candidate's loss of accuracy and latency.
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
    for loss in sorted(losses, reverse=True):
        low, high = 0, len(steps)
        while high - low > 1 and len(done) < trials:
            middle = (low + high) // 2
            yield from look(steps[middle])
            within = done[steps[middle]].loss.within(loss)
            low, high = (middle, high) if within else (low, middle)
    near = [path[levels] for levels, one in done.items() if one.loss.within(2 * max(losses))]
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
    study = optuna.create_study(directions=["minimize", "minimize"], sampler=sampler)
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
        study.tell(trial, (done[candidate].doubt, done[candidate].latency))
        if number >= len(known):
            idle = 0 if front(list(done.values())) != best else idle + 1
