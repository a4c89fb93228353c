"""The MLIR Python bindings, wherever they come from.

Upstream publishes its wheels under the name ``mlir``; PyPI has the same
bindings inside ``torch-mlir``. This is the only module that knows. Everything
else writes ``from tinymlir.bindings import ir, arith``.
"""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import TYPE_CHECKING


def _find_root() -> str:
    """Name of the first installed package with complete, new enough bindings."""
    for root in ("mlir", "torch_mlir"):
        try:
            importlib.import_module(f"{root}.dialects.ext")
        except ImportError:
            continue
        return root
    raise ImportError(
        "tinymlir needs the MLIR Python bindings with 'dialects.ext':"
        " pip install 'torch-mlir>=20261001'"
    )


ROOT = _find_root()


def _load(name: str) -> ModuleType:
    return importlib.import_module(f"{ROOT}.{name}")


if TYPE_CHECKING:
    # Untyped packages: to a type checker every name below is `Any`, types included.
    from torch_mlir import ir, passmanager, rewrite
    from torch_mlir.dialects import (
        affine,
        arith,
        bufferization,
        builtin,
        ext,
        func,
        irdl,
        linalg,
        llvm,
        memref,
        quant,
        scf,
        tensor,
        vector,
    )
else:
    ir = _load("ir")
    passmanager = _load("passmanager")
    rewrite = _load("rewrite")
    ext = _load("dialects.ext")
    irdl = _load("dialects.irdl")
    affine = _load("dialects.affine")
    arith = _load("dialects.arith")
    bufferization = _load("dialects.bufferization")
    builtin = _load("dialects.builtin")
    func = _load("dialects.func")
    linalg = _load("dialects.linalg")
    llvm = _load("dialects.llvm")
    memref = _load("dialects.memref")
    quant = _load("dialects.quant")
    scf = _load("dialects.scf")
    tensor = _load("dialects.tensor")
    vector = _load("dialects.vector")


def version() -> str:
    """Distribution name and version of the bindings, for reports."""
    from importlib import metadata

    distribution = {"mlir": "mlir", "torch_mlir": "torch-mlir"}[ROOT]
    try:
        return f"{distribution} {metadata.version(distribution)}"
    except metadata.PackageNotFoundError:
        return distribution
