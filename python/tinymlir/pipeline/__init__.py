"""Pass pipelines: MLIR's textual syntax, with our passes and native ones mixed freely."""

from .diagnostics import Diagnostic, PassRunError, Position, position_of
from .expectations import Expectations
from .instrumentation import Chain, IRPrinter, Selection, Timing
from .manager import (
    Instrumentation,
    PassInfo,
    add_pass,
    implicit_nesting,
    run_pipeline,
)
from .native import is_pass, pass_names
from .options import nearest, option_specs
from .parser import PipelineError, parse_pipeline

__all__ = [
    "Chain",
    "Diagnostic",
    "Expectations",
    "IRPrinter",
    "Instrumentation",
    "PassInfo",
    "PassRunError",
    "PipelineError",
    "Position",
    "Selection",
    "Timing",
    "add_pass",
    "implicit_nesting",
    "is_pass",
    "nearest",
    "option_specs",
    "parse_pipeline",
    "pass_names",
    "position_of",
    "run_pipeline",
]
