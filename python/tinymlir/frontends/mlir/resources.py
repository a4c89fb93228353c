"""Constants that a module keeps apart, as resources."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import NoReturn

import numpy as np

from tinymlir.bindings import ir

#: Raises an error about an operation: what is wrong, and what to do.
Fail = Callable[[ir.Operation, str, str], NoReturn]
_REFERENCE = re.compile(r"dense_resource<(?:\"((?:[^\"\\]|\\.)*)\"|([\w.$]+))>")
_BLOB = re.compile(r"^\s*(?:\"((?:[^\"\\]|\\.)*)\"|([\w.$]+)): \"0x([0-9A-Fa-f]*)\"", re.MULTILINE)
_SECTION = "\n{-#"


#: A resource begins with its alignment, four bytes.
_HEADER = 4
_EXPORT_AGAIN = "export the module again, with its resources"


def inline_resources(module: ir.Module, fail: Fail) -> None:
    """Put the elements of ``dense_resource`` constants into the constants themselves.

    ``fail`` is called where a resource is missing or does not fit its constant.
    """
    found: list[tuple[ir.Operation, str, ir.Attribute]] = []

    def collect(op: ir.Operation) -> ir.WalkResult:
        for name in op.attributes:
            attribute = op.attributes[name]
            # The bindings have no class for what they do not know, which is short to print.
            if type(attribute) is ir.Attribute and _REFERENCE.match(str(attribute)):
                found.append((op, name, attribute))
        return ir.WalkResult.ADVANCE

    module.operation.walk(collect)
    if not found:
        return
    blobs = _blobs(module)
    for op, name, attribute in found:
        op.attributes[name] = _dense(op, attribute, blobs, fail)


def _blobs(module: ir.Module) -> dict[str, bytes]:
    """The resources of a module by name; only its text gives access to them."""
    text = str(module)
    section = text[text.rindex(_SECTION) :] if _SECTION in text else ""
    return {
        quoted or plain: bytes.fromhex(digits) for quoted, plain, digits in _BLOB.findall(section)
    }


def _dense(
    op: ir.Operation, attribute: ir.Attribute, blobs: dict[str, bytes], fail: Fail
) -> ir.Attribute:
    kind = ir.DenseResourceElementsAttr(attribute).type
    reference = _REFERENCE.match(str(attribute))
    name = (reference[1] or reference[2]) if reference else ""
    if len(blobs.get(name, b"")) < _HEADER:
        fail(op, f"has no data for the resource '{name}'", _EXPORT_AGAIN)
    element = kind.element_type
    if not isinstance(element, ir.IntegerType) or element.width not in (8, 16, 32, 64):
        fail(op, f"has a resource of the type {kind}", "quantise the network first")
    signed = "u" if element.is_unsigned else ""
    size = (len(blobs[name]) - _HEADER) * 8
    if size != math.prod(kind.shape) * element.width:
        fail(op, f"has {size // 8} bytes of data for {kind}", _EXPORT_AGAIN)
    data = np.frombuffer(blobs[name], f"{signed}int{element.width}", offset=_HEADER)
    return ir.DenseElementsAttr.get(data, type=element, shape=list(kind.shape))
