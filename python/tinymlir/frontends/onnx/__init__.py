"""The ONNX frontend: a quantised ONNX model becomes the canonical form."""

from __future__ import annotations

import onnx

from tinymlir.bindings import ir

from .graph import Graph
from .importer import import_graph
from .load import MIN_OPSET, check_model, load_model

__all__ = ["MIN_OPSET", "check_model", "import_onnx", "load_model"]


def import_onnx(model: onnx.ModelProto, *, file: str, context: ir.Context) -> ir.Module:
    """Build the canonical form (docs/design.md) of a quantised model.

    Args:
        model: with its external data loaded.
        file: what error messages call it.

    Raises:
        TinymlirError: the model is broken, not quantised, or uses what is not
            supported; the message names the node and says what to do.
    """
    return import_graph(Graph(check_model(model, file), file), context)
