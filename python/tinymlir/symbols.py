"""What symbols stand for."""

from __future__ import annotations

from tinymlir.bindings import ir


def find_symbol(user: ir.Operation, name: str) -> ir.Operation | None:
    """What ``name`` stands for where ``user`` uses it; None if nothing has that name.

    In the nearest module: levels are modules in a module.
    """
    module = user
    while module.name != "builtin.module":
        module = module.parent.operation
    symbols = ir.SymbolTable(module)
    return symbols[name].operation if name in symbols else None
