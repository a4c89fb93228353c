"""Dialects of tinymlir, one file each."""

from .tiny import Tiny, irdl_text, register

__all__ = ["Tiny", "irdl_text", "register"]
