"""Types of command-line arguments that several tools take."""

from __future__ import annotations

import argparse
import itertools
from dataclasses import dataclass
from typing import get_args

from tinymlir.fusion.setting import Scheme


def natural(text: str) -> int:
    """A whole number from zero up."""
    if not text.isascii() or not text.isdigit():
        raise argparse.ArgumentTypeError(f"'{text}' is not a whole number from 0 up")
    return int(text)


def seed(text: str) -> int:
    """What a generator of random numbers starts from: NumPy's take 32 bits."""
    value = natural(text)
    if value >= 1 << 32:
        raise argparse.ArgumentTypeError(f"'{text}' is not below 4294967296")
    return value


def positive(text: str) -> int:
    """A whole number above zero."""
    if not text.isascii() or not text.isdigit() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"'{text}' is not a positive number")
    return int(text)


def size(text: str) -> int:
    """Bytes; ``K`` and ``M`` mean 1024 and 1024²."""
    factors = {"K": 1024, "M": 1024 * 1024}
    digits, factor = (
        (text[:-1], factors[text[-1].upper()]) if text[-1:].upper() in factors else (text, 1)
    )
    if not digits.isascii() or not digits.isdigit():
        raise argparse.ArgumentTypeError(f"'{text}' is not a size (as 49152, 48K, 1M)")
    return int(digits) * factor


def share(text: str) -> float:
    """A number from 0 to 1."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"'{text}' is not a number from 0 to 1")
    return value


@dataclass(frozen=True)
class Levels:
    """Levels as they were asked for: names, and what accuracy each may lose; the first is exact."""

    names: tuple[str, ...]
    losses: tuple[float, ...]

    def __str__(self) -> str:
        return ",".join(self.names)


def levels(text: str) -> Levels:
    """``exact`` and then losses that grow, in percent (``1%``) or as a share (``0.01``)."""
    names = tuple(text.split(","))
    if names[0] != "exact" or len(names) < 2:
        raise argparse.ArgumentTypeError(f"'{text}' is not 'exact' and losses after it (exact,1%)")
    losses = (0.0, *map(_loss, names[1:]))
    if any(after <= before for before, after in itertools.pairwise(losses[1:])):
        raise argparse.ArgumentTypeError(f"'{text}' has losses that do not grow")
    return Levels(names, losses)


def _loss(text: str) -> float:
    try:
        return share(str(float(text[:-1]) / 100) if text.endswith("%") else text)
    except (ValueError, argparse.ArgumentTypeError):
        message = f"'{text}' is not a loss of accuracy, as 1% or 0.01"
        raise argparse.ArgumentTypeError(message) from None


def promise(text: str) -> float:
    """A share that samples can show: above 0 and below 1."""
    value = share(text)
    if value in (0.0, 1.0):
        raise argparse.ArgumentTypeError(f"no number of samples shows a share of {text}")
    return value


def overhead(text: str) -> float:
    """A number from 1 on."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 1 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"'{text}' is not a number from 1 on")
    return value


def schemes(text: str) -> tuple[Scheme, ...]:
    """Kinds of stages, by commas."""
    known = {str(scheme): scheme for scheme in get_args(Scheme)}
    parts = text.split(",")
    for part in parts:
        if part not in known:
            raise argparse.ArgumentTypeError(f"'{part}' is none of {', '.join(known)}")
    return tuple(known[part] for part in parts)


def numbers(text: str) -> list[float]:
    """Numbers, by commas."""
    return [float(part) for part in text.split(",")]
