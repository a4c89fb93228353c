"""The ONNX frontend: a quantised ONNX model becomes the canonical form."""

from __future__ import annotations

import onnx

from tinymlir.bindings import ir

from . import arithmetic, linear, movement, pooling
from .graph import Graph
from .importer import Importer
from .load import check_model, load_model

__all__ = ["arithmetic", "import_onnx", "linear", "load_model", "movement", "pooling"]


def import_onnx(model: onnx.ModelProto, *, file: str, context: ir.Context) -> ir.Module:
    """Build the canonical form (docs/design.md) of a quantised model.

    Args:
        model: with its external data loaded.
        file: what error messages call it.

    Raises:
        TinymlirError: the model is broken, not quantised, or uses what is not
            supported; the message names the node and says what to do.
    """
    check_model(model, file)
    return Importer(Graph(model, file), context).run()
