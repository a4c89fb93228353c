"""A search over levels of layers for the front of accuracy against instructions."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from tinymlir.errors import TinymlirError

#: A level for each layer.
Candidate = tuple[int, ...]

#: Loss of accuracy beyond which a candidate is of no interest.
MOST_LOSS = 0.15
#: What may be lost by chance where nothing may be lost.
UNSHOWN_LOSS = 0.005
#: Candidates in a row that improve nothing, after which the search ends.
_PATIENCE = 30
#: Loss of accuracy that no sample shows: a step that seems free is not.
_UNSEEN = 1e-4


@dataclass(frozen=True)
class Evaluated:
    """A candidate: share of samples that are right, and instructions as prices tell.

    ``worse`` is whether the samples show it to be less accurate than the exact network.
    """

    levels: Candidate
    accuracy: float
    instructions: float
    worse: bool = True


def fastest_within(candidates: Sequence[Evaluated], exact: float, loss: float) -> Evaluated | None:
    """The fastest candidate that loses at most ``loss`` of the accuracy ``exact``.

    No loss at all is one that the samples do not show and that is at most `UNSHOWN_LOSS`.
    """
    fitting = [
        one
        for one in candidates
        if one.accuracy >= exact - loss
        or (loss == 0 and not one.worse and one.accuracy >= exact - UNSHOWN_LOSS)
    ]
    return min(fitting, key=lambda one: (one.instructions, -one.accuracy), default=None)


def front(candidates: Sequence[Evaluated]) -> list[Evaluated]:
    """Those that none beats in both, the fastest first."""
    best: list[Evaluated] = []
    for one in sorted(candidates, key=lambda c: (c.instructions, -c.accuracy, c.levels)):
        if not best or one.accuracy > best[-1].accuracy:
            best.append(one)
    return best


def descents(
    sensitivity: Mapping[tuple[int, int], float], costs: Mapping[tuple[int, int], float], top: int
) -> Iterator[Candidate]:
    """Candidates from exact to the most skipped, one layer a step up at a time.

    Args:
        sensitivity: loss of accuracy, by (layer, level), with only that layer there.
        costs: instructions of a layer at a level.
        top: the highest level.

    A step is the one that saves most instructions for its share of the losses, which are taken
    to add up.
    """
    count = 1 + max(layer for layer, _ in costs)
    levels = [0] * count
    while True:
        steps = []
        for layer, at in enumerate(levels):
            for level in range(at + 1, top + 1):
                saved = costs[layer, at] - costs[layer, level]
                lost = max(sensitivity[layer, level] - sensitivity[layer, at], 0)
                if saved > 0:
                    steps.append(((lost + _UNSEEN) / saved, layer, level))
        if not steps:
            return
        best = min(steps)
        levels[best[1]] = best[2]
        yield tuple(levels)


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


def search(
    evaluate: Callable[[Candidate], Evaluated],
    top: int,
    seeds: Iterable[Candidate],
    trials: int,
    seed: int,
) -> Iterator[Evaluated]:
    """Evaluate ``seeds``, then what a tree-structured Parzen estimator proposes.

    Args:
        evaluate: gives a candidate's accuracy and instructions.
        top: the highest level.
        seeds: candidates to begin with: the exact network, then others until one loses more
            than `MOST_LOSS`.
        trials: how many to evaluate at most, seeds included.
        seed: of what is proposed; the same seed proposes the same.
    """
    optuna = load_optuna()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    sampler = optuna.samplers.TPESampler(seed=seed, multivariate=True, n_startup_trials=0)
    study = optuna.create_study(directions=["maximize", "minimize"], sampler=sampler)
    done: dict[Candidate, Evaluated] = {}
    first, *others = seeds
    names = [f"layer{i}" for i in range(len(first))]

    def tell(levels: Candidate, trial: Any) -> None:
        one = done[levels]
        trial.set_constraint("loss", done[first].accuracy - one.accuracy - MOST_LOSS)
        study.tell(trial, (one.accuracy, one.instructions))

    for levels in [first, *others][:trials]:
        done[levels] = evaluate(levels)
        yield done[levels]
        study.enqueue_trial(dict(zip(names, levels, strict=True)))
        trial = study.ask()
        assert tuple(trial.suggest_int(name, 0, top) for name in names) == levels
        tell(levels, trial)
        if done[first].accuracy - done[levels].accuracy > MOST_LOSS:
            break
    idle = 0
    for _ in range(trials - len(done)):
        trial = study.ask()
        levels = tuple(trial.suggest_int(name, 0, top) for name in names)
        best = front(list(done.values()))
        if levels not in done:
            done[levels] = evaluate(levels)
            yield done[levels]
        tell(levels, trial)
        idle = 0 if front(list(done.values())) != best else idle + 1
        if idle >= _PATIENCE:
            return
