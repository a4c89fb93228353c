"""Passes of tinymlir, one file each, named as on the command line."""

from ._pass import REGISTRY, Pass, PassFailure, register_pass

__all__ = ["REGISTRY", "Pass", "PassFailure", "register_pass"]
