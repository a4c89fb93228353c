"""Samples on the workers of a Dask cluster, each of which runs a network on its part of them."""

from __future__ import annotations

import functools
import importlib
import threading
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tinymlir.bindings import ir
from tinymlir.dialects import register
from tinymlir.errors import TinymlirError
from tinymlir.exploration.evaluator import Evaluator
from tinymlir.skipping.layerwise import Bytes, Constants, Layerwise

#: Seconds that a scheduler may take to answer.
_PATIENCE = 10
#: Parts of the samples for each thread of the cluster, so that fast workers take more of them.
_PARTS = 2


class Cluster:
    """The workers there are; samples and network are sent to them once."""

    def __init__(self, address: str, samples: Sequence[Bytes]) -> None:
        """
        Args:
            address: of the scheduler, as ``tcp://host:8786``.
            samples: one array per input, (N, *shape).

        Raises:
            TinymlirError: Dask is not installed, nobody answers, or there are no workers.
        """
        try:
            distributed: Any = importlib.import_module("distributed")
        except ImportError:
            raise TinymlirError(
                "a cluster takes the package distributed",
                node="--dask",
                hint="pip install 'tinymlir[dask]'",
            ) from None
        try:
            self._client = distributed.Client(address, timeout=_PATIENCE)
        except (OSError, ValueError) as error:
            raise TinymlirError(
                f"no Dask scheduler answers at '{address}'",
                node="--dask",
                hint="'dask scheduler' prints the address of one",
            ) from error
        threads = sum(self._client.nthreads().values())
        if not threads:
            raise TinymlirError(
                f"the cluster at '{address}' has no workers",
                node="--dask",
                hint=f"start some: dask worker {address}",
            )
        parts = min(len(samples[0]), _PARTS * threads)
        divided = zip(*(np.array_split(array, parts) for array in samples), strict=True)
        self._parts = self._client.scatter(list(map(list, divided)))

    def send(self, text: str) -> None:
        """Give the workers the outlined network."""
        self._text = self._client.scatter(text, broadcast=True)

    def __call__(self, constants: Mapping[str, Constants]) -> Bytes:
        """The network's scores on all samples, with other ``constants``.

        Raises:
            TinymlirError: workers fail.
        """
        jobs = self._client.map(_run, self._parts, text=self._text, constants=dict(constants))
        try:
            return np.concatenate(self._client.gather(jobs))
        except Exception as error:
            raise TinymlirError(
                f"a worker of the cluster failed: {error}",
                node="--dask",
                hint="workers need the same tinymlir as this machine",
            ) from error

    def close(self) -> None:
        self._client.close()


def _run(samples: Sequence[Bytes], text: str, constants: Mapping[str, Constants]) -> Bytes:
    """On a worker: the network's scores; one at a time, which takes all cores."""
    with _ONE_AT_A_TIME:
        module, network = _network(text)
        with module.context, ir.Location.unknown():
            return Evaluator(network, lambda _: constants)(samples, {}, raw=True)


_ONE_AT_A_TIME = threading.Lock()


@functools.lru_cache(maxsize=1)
def _network(text: str) -> tuple[ir.Module, Layerwise]:
    context = ir.Context()
    register(context)
    with context, ir.Location.unknown():
        module = ir.Module.parse(text)
        return module, Layerwise(module)
