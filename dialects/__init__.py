"""Dialects of tinymlir, one file each."""

from .tiny import Tiny, register

__all__ = ["Tiny", "register"]
