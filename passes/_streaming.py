"""Entry points of a network whose input arrives row by row (``tiny-emit-entry``)."""

from __future__ import annotations

from tinymlir.bindings import arith, func, ir, scf


def emit_streaming(
    main: func.FuncOp, calls: dict[str, ir.Operation], symbol: str
) -> list[func.FuncOp]:
    """Split ``main`` in ``symbol_begin``, ``symbol_push_rows`` and ``symbol_finish``.

    Args:
        calls: those of the stage that takes the rows, by what they do.
        main: ``(input, outputs…, arena)``; what is left of it calls the three.
    """
    entry = main.body.blocks[0]
    rows, *outputs, arena = entry.arguments
    i32 = ir.IntegerType.get_signless(32)
    height = calls["push"].operands[1]

    with ir.InsertionPoint(main.operation), main.location:
        begin = _function(f"{symbol}_begin", [arena.type])
        push = _function(f"{symbol}_push_rows", [arena.type, rows.type, i32])
        finish = _function(f"{symbol}_finish", [arena.type, *(o.type for o in outputs)])
    with ir.InsertionPoint(begin.body.blocks[0]), main.location:
        _repeat(calls["begin"], {arena: begin.arguments[0]})
        func.ReturnOp([arith.constant(i32, 0)])
    with ir.InsertionPoint(push.body.blocks[0]), main.location:
        given = dict(zip((arena, rows, height), push.arguments, strict=True))
        func.ReturnOp(_repeat(calls["push"], given).results)

    _move_rest(entry, calls, finish)
    with ir.InsertionPoint.at_block_begin(entry), main.location:
        func.call([i32], begin.name.value, [arena])
        func.call([i32], push.name.value, [arena, rows, arith.constant(i32, rows.type.shape[1])])
        func.call([i32], finish.name.value, [arena, *outputs])
    return [begin, push, finish]


def _function(symbol: str, types: list[ir.Type]) -> func.FuncOp:
    function = func.FuncOp(symbol, (types, [ir.IntegerType.get_signless(32)]))
    function.add_entry_block()
    return function


def _repeat(op: ir.Operation, mapping: dict[ir.Value, ir.Value]) -> ir.Operation:
    """``op`` once more, with what makes its operands, as far as ``mapping`` does not give them."""
    operands = []
    for operand in op.operands:
        if operand not in mapping:
            mapping[operand] = _repeat(operand.owner.operation, mapping).results[0]
        operands.append(mapping[operand])
    clone = op.clone()
    for number, operand in enumerate(operands):
        clone.operands[number] = operand
    return clone


def _move_rest(entry: ir.Block, calls: dict[str, ir.Operation], finish: func.FuncOp) -> None:
    """Move what does not take rows to ``finish``; what follows them only if none are missing."""
    for name in ("begin", "push"):
        calls[name].erase()
    *moved, terminator = [child.operation for child in entry.operations]
    arena, *outputs = finish.arguments
    for old, new in zip([*entry.arguments][1:], [*outputs, arena], strict=True):
        old.replace_all_uses_with(new)
    missing = calls["finish"].results[0]
    with ir.InsertionPoint(finish.body.blocks[0]), terminator.location:
        zero = arith.constant(missing.type, 0)
        end = func.ReturnOp([missing])
    after = moved.index(calls["finish"]) + 1
    for op in moved[:after]:
        op.move_before(end.operation)
    with ir.InsertionPoint(end), terminator.location:
        none = arith.cmpi(arith.CmpIPredicate.eq, missing, zero)
        rest = scf.IfOp(none).then_block
    with ir.InsertionPoint(rest), terminator.location:
        done = scf.YieldOp([])
    for op in moved[after:]:
        op.move_before(done.operation)
