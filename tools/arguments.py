"""Types of command-line arguments that several tools take."""

from __future__ import annotations

import argparse


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
