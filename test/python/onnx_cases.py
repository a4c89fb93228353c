"""What the operator tests draw from, and how they compare."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx_models import Agreement, Array, Quant

#: Models per operator; the draws are the same in every run.
EXAMPLES = 12
#: Samples per model.
SAMPLES = 8


def random_integers(seed: int, shape: tuple[int, ...], dtype: str = "int8") -> Array:
    """Uniform over the whole type."""
    limits = np.iinfo(dtype)
    rng = np.random.default_rng(seed)
    return rng.integers(limits.min, limits.max + 1, shape).astype(dtype)


def quants(dtype: str) -> st.SearchStrategy[Quant]:
    """Per-tensor quantisations of activations, scales over two decades."""
    limits = np.iinfo(dtype)
    scales = st.floats(-2.0, 0.0).map(lambda e: float(np.float32(10.0**e)))
    middle = (int(limits.min) + int(limits.max)) // 2
    # The ends of the range and its middle are what calibration gives most often.
    points = st.one_of(
        st.sampled_from([int(limits.min), middle, middle + 1]),
        st.integers(int(limits.min), int(limits.max)),
    )
    return st.builds(Quant, scales, points, st.just(dtype))


DTYPES = st.sampled_from(["int8", "uint8"])
FORMS = st.sampled_from(["qdq", "qoperator"])
SEEDS = st.integers(0, 2**32 - 1)


def agree(
    case: st.SearchStrategy[Any],
    compare: Callable[[Any, Agreement], int],
    examples: int = EXAMPLES,
    least: float = 0.999,
) -> Agreement:
    """Run ``compare`` on drawn cases.

    No output may be off by more than one step, and over all cases the share
    ``least`` of them must be equal.
    """
    agreement = Agreement()

    @settings(
        max_examples=examples,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(case)
    def run(drawn: Any) -> None:
        assert compare(drawn, agreement) <= 1

    run()
    assert agreement.total > 0
    assert agreement.equal >= least * agreement.total, agreement
    return agreement
