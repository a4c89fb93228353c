"""When a level is trusted: margins, what they promise, and how they are asked for."""

from __future__ import annotations

import argparse
from dataclasses import replace

import numpy as np
import pytest

from tinymlir.errors import TinymlirError
from tinymlir.exploration.confidence import shows_share
from tinymlir.exploration.gate import (
    ALWAYS,
    choose_margin,
    leads,
    measure,
    why_no_gain,
    why_no_scores,
)
from tinymlir.network import TensorInfo
from tinymlir.tools import arguments, simulation

SCORES = TensorInfo("scores", (1, 4), 1.0, 0, "int8", (1, 4), (0, 1))


@pytest.mark.parametrize(
    ("level", "gated", "margin", "message"),
    [
        (2, False, None, "there is no level 2; the levels are 0 (exact), 1 (5%)"),
        (None, True, None, "level 0 is exact"),
        (1, True, None, "level 1 has no class scores"),
        (1, False, 5, "is for --gated; add --gated"),
    ],
)
def test_levels_that_are_not_there(
    level: int | None, gated: bool, margin: int | None, message: str
) -> None:
    args = argparse.Namespace(level=level, gated=gated, margin=margin)
    levels = [{"name": "exact", "gate": None}, {"name": "5%", "gate": None}]
    with pytest.raises(TinymlirError) as refused:
        simulation.entry_of(args, {"levels": levels})
    assert message in str(refused.value)
    with pytest.raises(TinymlirError, match="one level only"):
        simulation.entry_of(args, {})


@pytest.mark.parametrize("text", ["1%,5%", "exact", "exact,5%,1%", "exact,x%", "exact,101%"])
def test_levels_that_are_none(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError):
        arguments.levels(text)


def test_outputs_without_a_margin() -> None:
    assert why_no_scores([SCORES], False) is None
    assert why_no_scores([replace(SCORES, shape=(1, 1, 1, 4))], False) is None
    assert why_no_scores([SCORES, SCORES], False) == "the network has 2 outputs"
    assert why_no_scores([replace(SCORES, shape=(1, 2, 4))], False) == (
        "the output has the shape 1x2x4"
    )
    assert why_no_scores([replace(SCORES, shape=(1, 1))], False) == "the output is a single number"


def test_margin_is_the_least_that_keeps_the_promise() -> None:
    exact = np.tile(np.array([[9, 0, -128]], np.int8), (1000, 1))
    fast = exact.copy()
    # 40 samples are wrong, by 1 to 40.
    fast[:40, 1] = 10 + np.arange(40)
    margin = choose_margin(exact, fast, 0.99)
    wrong = int((np.arange(1, 41) >= margin).sum())
    assert shows_share(wrong, 1000, 0.99) and not shows_share(wrong + 1, 1000, 0.99)
    assert choose_margin(exact, exact, 0.99) == 0
    assert choose_margin(exact[:100], exact[:100], 0.99) == ALWAYS
    gate = measure(0.99, (exact, fast), (exact, fast), np.zeros(1000, int))
    assert gate.agreement == gate.accuracy == 1 - wrong / 1000
    assert gate.agreement_alone == 0.96
    assert gate.rerun_rate == (leads(fast) < margin).mean()
    assert gate.mean(100, 300) == 100 + 200 * gate.rerun_rate


def test_a_gate_that_is_seldom_trusted_saves_nothing() -> None:
    assert why_no_gain(1, {"exact": 100, "mean": 99}) is None
    reason = why_no_gain(1, {"exact": 100, "mean": 120})
    assert reason == (
        "gated, level 1 takes 120 cycles on average and the exact network 100: run that, or "
        "promise less by --agreement"
    )


def test_shares_are_shown_as_by_clopper_and_pearson() -> None:
    # Their upper limit is 1.05 % for 5 of 1000; for none of n it is 1 - 0.05^(1/n).
    assert shows_share(5, 1000, 0.9895) and not shows_share(5, 1000, 0.9896)
    assert shows_share(0, 299, 0.99) and not shows_share(0, 298, 0.99)
