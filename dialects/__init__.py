"""The ``tiny`` dialect: arithmetic in ``tiny.py``, layers run depth-first in ``stages.py``."""

from . import stages
from .tiny import Tiny, irdl_text, register

__all__ = ["Tiny", "irdl_text", "register", "stages"]
