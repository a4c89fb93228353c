"""Pass pipelines: MLIR's textual syntax, with our passes and native ones mixed freely."""

from .diagnostics import Diagnostic, PassRunError, Position, position_of
from .manager import Instrumentation, PassInfo, add_pass, run_pass, run_pipeline
from .parser import PipelineError, parse_pipeline

__all__ = [
    "Diagnostic",
    "Instrumentation",
    "PassInfo",
    "PassRunError",
    "PipelineError",
    "Position",
    "add_pass",
    "parse_pipeline",
    "position_of",
    "run_pass",
    "run_pipeline",
]
