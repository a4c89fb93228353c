"""The whole exploration: calibrate, score, price, search, and report on what was not chosen on."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, astuple, dataclass
from functools import partial
from math import inf
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tinymlir.arrays import from_object
from tinymlir.bindings import ir
from tinymlir.compiler import check_budget, versions
from tinymlir.dialects import register
from tinymlir.errors import TinymlirError
from tinymlir.exploration.cluster import Cluster
from tinymlir.exploration.confidence import drop_interval, samples_for, share_interval
from tinymlir.exploration.data import Data, Files, PartName, load_data, require_knowledge
from tinymlir.exploration.evaluator import Evaluator
from tinymlir.exploration.guide import Candidate, Guide, doubt, measured_levels
from tinymlir.exploration.levels import (
    FRACTIONS,
    Reduction,
    SkippableLayer,
    skippable_layers,
    sort_by_significance,
    with_constants,
)
from tinymlir.exploration.losses import Loss, measure_loss, scores_shape
from tinymlir.exploration.memory import Memory
from tinymlir.exploration.prices import Latency, Measured, Prices, leaves_out_zeros
from tinymlir.exploration.replay import replay
from tinymlir.exploration.result import Exploration, Point, faster
from tinymlir.exploration.search import Evaluated, Promise, confirm, load_optuna, search
from tinymlir.frontends import import_model
from tinymlir.network import read_interface
from tinymlir.passes.tiny_outline_layers import find_main
from tinymlir.pipeline import run_pipeline
from tinymlir.pipelines import on_module, to_functions
from tinymlir.progress import progress
from tinymlir.skipping.annotations import skippable
from tinymlir.skipping.calibration import calibrate
from tinymlir.skipping.compensation import Compensation
from tinymlir.skipping.layerwise import Layerwise
from tinymlir.skipping.significance import Score
from tinymlir.skipping.units import Granularity
from tinymlir.targets import Target, require_simulator

#: Losses of accuracy for which the fastest point is compiled and reported on.
_LOSSES = (0.0, 0.01, 0.02, 0.05, 0.1)


@dataclass(frozen=True)
class Settings:
    """What a search depends on besides model, data and target."""

    seed: int = 0
    trials: int = 60
    score: Score = "impact"
    compensation: Compensation = "sequence"
    granularity: Granularity = "pair"
    #: what latency is counted in
    latency: Latency = "instructions"
    max_flash: int | None = None
    #: networks that go into this flash beside the exact one, if that goes there as well
    beside: int = 0


def _versions() -> dict[str, str]:
    """Everything that a search depends on, besides model, data and options."""
    return {**versions(), "numpy": np.__version__, "optuna": load_optuna().__version__}


def require_samples(data: Data, max_drop: float) -> None:
    """Raise a TinymlirError where there are too few samples to tell whether a loss is so small."""
    if max_drop > 0 and len(data.reporting) < samples_for(max_drop):
        raise TinymlirError(
            f"a loss under {max_drop:g} shows on {samples_for(max_drop)} samples or more; "
            f"{len(data.reporting)} are there to report on",
            hint="give more samples, by --data or --test, or allow a greater loss",
        )


class Study:
    """One network on one target, with its data."""

    def __init__(
        self,
        model: Path,
        name: str,
        target: Target,
        settings: Settings,
        files: Files,
        directory: Path | None,
        dask: str | None = None,
    ) -> None:
        """
        Args:
            name: C prefix of what is compiled.
            directory: where a search leaves what it has measured; None for nowhere.
            dask: address of a cluster that evaluates candidates; None for this machine.

        Raises:
            TinymlirError: the model does not compile, the data do not fit it, the target is
                not simulated, or the cluster does not answer.
        """
        require_simulator(target, node="--target")
        load_optuna()
        self.settings, self.target, self.name, self.directory = settings, target, name, directory
        self.files = files
        self.model_sha256 = (
            hashlib.sha256(model.read_bytes()).hexdigest() if model.is_file() else ""
        )
        self.context = ir.Context()
        register(self.context)
        with self.context, ir.Location.unknown():
            self.module = import_model(model, self.context)
            inputs, outputs = read_interface(find_main(self.module.operation))
            self.outputs = outputs
            self._shape = scores_shape(outputs[0], str(model))
            self.data = load_data(files, inputs, self._shape[-1], settings.seed)
            if self.data.confirming.labels is not None and len(self._shape) > 1:
                raise TinymlirError(
                    f"has labels of samples; '{outputs[0].name}' has classes of positions",
                    file=str(files.data),
                    hint="leave 'y' out: the measure is agreement with the exact network",
                )
            run_pipeline(self.module, on_module(self._to_functions()))
        self.cluster = None if dask is None else Cluster(dask, self.data.confirming.inputs)

    def run(self, promised: Sequence[float] = ()) -> Exploration:
        """Search, and report on the fastest points for some losses of accuracy.

        Args:
            promised: losses to search for; some usual ones without.
        """
        with self.context, ir.Location.unknown():
            return self._run(promised)

    def _run(self, promised: Sequence[float]) -> Exploration:
        settings, fitting = self.settings, self.data.fitting
        statistics = calibrate(self.module, fitting.inputs)
        self.sorted = sort_by_significance(self.module, settings.score, fitting.inputs, statistics)
        if self.sorted:
            statistics = calibrate(self.module, fitting.inputs)
        self.text = str(self.module)
        if self.cluster is not None:
            self.cluster.send(self.text)
        network = Layerwise(self.module)
        layers = skippable_layers(
            self.module,
            lambda conv: leaves_out_zeros(conv, self.target),
            statistics,
            settings.score,
            settings.granularity,
            network,
            fitting.inputs,
        )
        if not layers:
            raise TinymlirError(
                f"no layer has a kernel for {self.target.name} that leaves out multiplications",
                hint="docs/kernels.md says which layers and cores have one",
            )
        self.layers = layers
        convs = {la.name.value: conv for la, conv in skippable(self.module.operation)}
        self.reduction = Reduction(
            layers, convs, statistics, settings.compensation, network, fitting.inputs
        )
        self.evaluator = Evaluator(network, self.reduction)
        self.prices = Prices(
            self._build,
            self._unfitted,
            self.name,
            self.target,
            layers,
            settings.latency,
            settings.max_flash,
            settings.beside,
        )
        self.known = self._memory()
        self._exact: dict[tuple[PartName, bool], npt.NDArray[np.int8]] = {}
        require_knowledge(fitting, self._scores("fitting", {}), self.files.fit or self.files.data)
        guide = Guide(self._sensitivity(), self.prices)
        usual = [loss for loss in _LOSSES if not promised or loss <= max(promised)]
        losses = sorted({*usual, *promised})
        found = search(self._evaluate, guide, losses, settings.trials, settings.seed)
        tried = list(progress(found, settings.trials, "searching"))
        return self._report(tried, guide, losses)

    def _build(self, levels: Mapping[str, int]) -> ir.Module:
        gone = self.reduction.gone(levels)
        losing = [layer for layer in self.layers if layer.symbol in gone]
        skipped = {layer.symbol: layer.skipped_macs(gone[layer.symbol]) for layer in losing}
        return with_constants(self.text, self.reduction(levels), skipped)

    def _unfitted(self, levels: Mapping[str, int]) -> ir.Module:
        """What takes as long as the network with layers at ``levels``."""
        return with_constants(self.text, self.reduction.left(levels), {})

    def _sensitivity(self) -> list[dict[int, float]]:
        """Doubt about classes with one layer at a level, by layer."""
        layers = enumerate(self.layers)
        jobs = [(i, level) for i, layer in layers for level in measured_levels(layer)]
        result: list[dict[int, float]] = [{} for _ in self.layers]
        exact = self._scores("fitting", {})
        for i, level in progress(jobs, len(jobs), "measuring sensitivities"):
            symbol = self.layers[i].symbol
            key = f"{symbol}:{level}"
            if key not in self.known:
                scores = self._scores("fitting", {symbol: level})
                self.known.add(key, doubt(exact, scores))
            result[i][level] = self.known[key][0]
        return result

    def _evaluate(self, candidate: Candidate) -> Evaluated:
        loss, doubtful = self._measure("fitting", candidate)
        latency = self.prices.choose(self._levels(candidate)).latency
        return Evaluated(candidate, loss, doubtful, latency)

    def _loss(self, name: PartName, candidate: Candidate) -> Loss:
        return self._measure(name, candidate)[0]

    def _measure(self, name: PartName, candidate: Candidate) -> tuple[Loss, float]:
        """What a candidate loses on a part of the samples to choose on, and its `doubt`."""
        key = f"{name}:{','.join(map(str, candidate))}"
        if key not in self.known:
            exact, scores = (self._scores(name, levels) for levels in ({}, self._levels(candidate)))
            loss = measure_loss(exact, scores, self.data.part(name).labels)
            self.known.add(key, *astuple(loss), doubt(exact, scores))
        accuracy, drop, mean, most, least, samples, doubtful = self.known[key]
        return Loss(accuracy, drop, mean, most, least, int(samples)), doubtful

    def _scores(
        self, name: PartName, levels: Mapping[str, int], *, raw: bool = True
    ) -> npt.NDArray[np.int8]:
        """The network's first output (`Evaluator`), (N, classes) or (N, positions, classes); the
        exact one's once.
        """
        return self._elements(name, levels, raw).reshape(-1, *self._shape)

    def _elements(
        self, name: PartName, levels: Mapping[str, int], raw: bool
    ) -> npt.NDArray[np.int8]:
        if not any(levels.values()):
            if (name, raw) not in self._exact:
                inputs = self.data.part(name).inputs
                self._exact[name, raw] = self.evaluator(inputs, {}, raw=raw)
            return self._exact[name, raw]
        if self.cluster is not None and name == "confirming" and raw:
            return self.cluster(self.reduction(levels))
        return self.evaluator(self.data.part(name).inputs, levels, raw=raw)

    def _levels(self, candidate: Candidate) -> dict[str, int]:
        return {la.symbol: n for la, n in zip(self.layers, candidate, strict=True) if n}

    def _report(self, tried: list[Evaluated], guide: Guide, losses: Sequence[float]) -> Exploration:
        affordable = self._affordable(tried)
        confirmed, fitted = (partial(self._loss, name) for name in ("confirming", "fitting"))
        picks = confirm(affordable, losses, confirmed, fitted, self._price)
        points = [self._point(one) for one in progress(picks, len(picks), "measuring the front")]
        promise = Promise(tried[0].levels, 0.0, confirmed(tried[0].levels))
        exact = self._point(promise, self.prices.exact)
        if self.settings.max_flash is None:
            points = faster(points, exact, self.settings.latency)
        curves = zip(self.layers, guide.errors.tolist(), strict=True)
        return Exploration(
            self._facts(),
            exact,
            points,
            tried,
            {layer.symbol: errors for layer, errors in curves},
        )

    def _affordable(self, tried: list[Evaluated]) -> list[Evaluated]:
        """Those that ``--max-flash`` allows.

        Raises:
            TinymlirError: there are none; names the least that is needed.
        """
        budget = self.prices.max_flash
        if budget is None:
            return tried
        bytes_of = {one: self.prices.choose(self._levels(one.levels)).flash_bytes for one in tried}
        check_budget("flash", "--max-flash", round(min(bytes_of.values())), budget)
        return [one for one in tried if bytes_of[one] <= budget]

    def _price(self, candidate: Candidate) -> float:
        """Latency of a candidate; without end where ``--max-flash`` does not allow it."""
        choice, budget = self.prices.choose(self._levels(candidate)), self.prices.max_flash
        fits = budget is None or choice.flash_bytes <= budget
        return choice.latency if fits else inf

    def _point(self, one: Promise, measured: Measured | None = None) -> Point:
        """A candidate on the samples to report on, compiled and simulated if not ``measured``."""
        labels, levels = self.data.reporting.labels, self._levels(one.levels)
        kernels: dict[str, str] = {}
        if measured is None:
            # Within a budget of flash, `compile` chooses kernels by what their code takes.
            free = self.settings.max_flash is None
            kernels = self.prices.choose(levels).kernels if free else {}
            measured = self.prices.measure(levels, kernels)
        exact, given = (self.scores(each, "reporting") for each in ({}, levels))
        # Without labels, right is what the exact network says.
        truth = exact.argmax(-1) if labels is None else labels
        classes, count = given.argmax(-1), given.shape[-1]
        right = classes == truth
        confusion = np.zeros((count, count), int)
        np.add.at(confusion, (truth, classes), 1)
        return Point(
            levels,
            kernels,
            measured,
            one,
            float(right.mean()),
            share_interval(right),
            drop_interval(exact.argmax(-1) == truth, right),
            confusion.tolist(),
            [self._layer(layer, levels, measured) for layer in self.layers],
            self._replay(levels),
        )

    def _layer(
        self,
        layer: SkippableLayer,
        levels: Mapping[str, int],
        measured: Measured,
    ) -> dict[str, Any]:
        level = levels.get(layer.symbol, 0)
        gone = self.reduction.gone(levels).get(layer.symbol, layer.gone(0))
        before, after = (
            next(la for la in m.report["layers"] if la["name"] == layer.name)
            for m in (self.prices.exact, measured)
        )
        return {
            "symbol": layer.symbol,
            "name": layer.name,
            "fraction": FRACTIONS[level],
            "threshold": layer.threshold(level),
            "macs": layer.macs,
            "macs_skipped": layer.skipped_macs(gone),
            "kernel": after["kernel"],
            "instructions": after["instructions"],
            "instructions_exact": before["instructions"],
            "flash_bytes": after["code_bytes"] + after["constant_bytes"],
        }

    def build(self, point: Point) -> ir.Module:
        """The outlined module of a point, each layer with its kernel."""
        return self.prices.build(point.levels, point.kernels)

    def scores(self, levels: Mapping[str, int], name: PartName) -> npt.NDArray[np.int8]:
        """The first output with layers at ``levels``, as `_scores`."""
        with self.context, ir.Location.unknown():
            return self._scores(name, levels, raw=False)

    def calibration(self) -> dict[str, npt.NDArray[np.generic]]:
        """The samples that statistics are of, as arrays of a file for ``tiny-calibrate``."""
        inputs, _ = read_interface(find_main(self.module.operation))
        samples = self.data.fitting.inputs
        return {
            info.name: from_object(array, info) for info, array in zip(inputs, samples, strict=True)
        }

    def _replay(self, levels: Mapping[str, int]) -> str:
        settings = self.settings
        return replay(
            self._to_functions(),
            {symbol: FRACTIONS[level] for symbol, level in levels.items()},
            settings.score,
            settings.granularity,
            settings.compensation,
            ordered=self.sorted,
        )

    def _to_functions(self) -> tuple[str, ...]:
        """The network as functions of layers, without channels that are for nothing already."""
        return (*to_functions(self.target), "tiny-drop-channels")

    def _facts(self) -> dict[str, Any]:
        part = self.data
        return {
            "name": self.name,
            "target": self.target.name,
            "measure": "agreement" if part.confirming.labels is None else "accuracy",
            "input_sha256": self.model_sha256,
            "data_sha256": part.sha256,
            "samples_chosen_on": len(part.fitting) + len(part.confirming),
            "samples_fitted_to": len(part.fitting),
            "samples_reported_on": len(part.reporting),
            "settings": asdict(self.settings),
            "versions": _versions(),
            "macs": self.prices.exact.report["macs"],
            "fractions": FRACTIONS,
        }

    def _memory(self) -> Memory:
        """Of the layers, which the target decides as well as the model."""
        how = self.settings
        asked = [how.seed, how.score, how.compensation, how.granularity]
        layers = [self.text, *(layer.symbol for layer in self.layers)]
        return Memory(self.directory, [*layers, self.data.sha256, *asked])
