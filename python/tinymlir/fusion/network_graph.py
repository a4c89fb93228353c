"""The planner's graph of a module whose layers are functions (after ``tiny-outline-layers``)."""

from __future__ import annotations

from math import prod

from tinymlir.bindings import func, ir
from tinymlir.errors import PassFailure
from tinymlir.fusion.access import windows
from tinymlir.fusion.costs import STATE_BYTES
from tinymlir.fusion.graph import ELEMENT, Graph, Layer, Read, Tensor
from tinymlir.kernels import overlap
from tinymlir.kernels.catalogue import choose, leanest
from tinymlir.kernels.kernel import Kernel
from tinymlir.kernels.reuse import reused_results
from tinymlir.kernels.row_sums import row_sums
from tinymlir.linalg_info import VIEW_OPS, yielded
from tinymlir.targets import Target

_VIEWS = (*VIEW_OPS, "tiny.patch_tile")


def network_graph(main: func.FuncOp, core: Target) -> Graph:
    """The graph of the network function and the layers that it calls.

    Layers run by themselves take the kernels, the work space and the memory that
    ``tiny-lower-layers`` gives them on ``core``.
    """
    return block_graph(main.body.blocks[0], layer_functions(main.operation.parent), core)[0]


def layer_functions(module: ir.Operation) -> dict[str, func.FuncOp]:
    """The functions of a module by their names."""
    return {
        f.name.value: f
        for f in module.regions[0].blocks[0].operations
        if isinstance(f, func.FuncOp)
    }


def block_graph(
    block: ir.Block, functions: dict[str, func.FuncOp], core: Target
) -> tuple[Graph, dict[ir.Value, int]]:
    """The graph of the layers that a block calls, and which tensor each value is.

    The block is that of ``@main``, or of a stage; inputs are what it does not make.
    """
    calls = [o.operation for o in block.operations if o.operation.name == "func.call"]
    made = [call.results[0] for call in calls]
    read: dict[ir.Value, set[Tensor]] = {}
    for value in (value for call in calls for value in call.operands):
        read.setdefault(_source(value, block), set()).add(_geometry(value))
    inputs = [*block.arguments, *(v for v in read if v not in [*made, *block.arguments])]
    numbers = {value: index for index, value in enumerate(inputs)}
    tensors = [_geometry(value) for value in inputs]
    layers = []
    for child in block.operations:
        op = child.operation
        if op.name in (*_VIEWS, "func.return", "tiny.patch_yield"):
            continue
        function = functions.get(op.attributes["callee"].value) if op.name == "func.call" else None
        if function is None or "tiny.layer" not in function.operation.attributes:
            raise PassFailure(op.location, "expects calls of layers, and nothing else")
        result = op.results[0]
        sources = [_source(operand, block) for operand in op.operands]
        plain = all(
            _geometry(operand) == tensors[numbers[source]]
            for operand, source in zip(op.operands, sources, strict=True)
        )
        numbers[result] = len(tensors)
        # What is no image itself may be read as one by all.
        seen = set() if _is_image(result.type, ir.F32Type.get()) else read.get(result, set())
        tensors.append(_geometry(result) if len(seen) != 1 else next(iter(seen)))
        layers.append(
            _layer(
                function,
                [numbers[source] for source in sources],
                numbers[result],
                tensors,
                plain,
                core,
            )
        )
    terminator = block.operations[len(block.operations) - 1].operation
    graph = Graph(
        tuple(tensors),
        tuple(layers),
        tuple(range(len(inputs))),
        tuple(numbers[_source(value, block)] for value in terminator.operands),
    )
    return graph, numbers


def _source(value: ir.Value, block: ir.Block) -> ir.Value:
    """The tensor that a chain of reshapes in the block, or a tile, looks at."""
    while not isinstance(value, ir.BlockArgument):
        op = value.owner.operation
        if op.name not in _VIEWS or op.block != block:
            break
        value = op.operands[0]
    return value


def _geometry(value: ir.Value) -> Tensor:
    """Rows, columns and channels of an image; anything else is one pixel."""
    shape = list(value.type.shape)
    width = 4 if isinstance(value.type.element_type, ir.F32Type) else 1
    if len(shape) == 4 and shape[0] == 1:
        return Tensor(shape[1], shape[2], shape[3] * width)
    return Tensor(1, 1, prod(shape) * width)


def _layer(
    function: func.FuncOp,
    sources: list[int],
    output: int,
    tensors: list[Tensor],
    plain: bool,
    core: Target,
) -> Layer:
    root = yielded(function.body.blocks[0])
    alone, leaner = choose(function, root, core), None
    if alone is not None and alone.scratch_bytes():
        least = leanest(root, core)
        leaner = least if least and least.scratch_bytes() < alone.scratch_bytes() else None
    by_rows, lean = (choose(function, root, core, by_rows=True, lean=x) for x in (False, True))
    image = tensors[output]
    # Counters of a stage have so many bits.
    counted = all(tensors[t].rows < 1 << 8 * STATE_BYTES for t in (*sources, output))
    # An input may be float32 still.
    images = all(_is_image(a.type, ir.F32Type.get()) for a in function.arguments)
    fusable = plain and counted and images and _is_image(root.type)
    reads = []
    for argument, source in zip(function.arguments, sources, strict=True):
        found = windows(argument, root)
        if found is None and (_pixels(tensors[source]), _pixels(image)) != (1, 1):
            fusable = False
        kernels = (alone, leaner or alone, by_rows)
        whole, lean_whole, row = (overlap.distance(argument, root, kernel) for kernel in kernels)
        reads.append(Read(source, *(found or (ELEMENT, ELEMENT)), whole, row == 0, lean_whole))
    facts = function.operation.attributes
    macs = facts["tiny.macs"].value
    reduces = len(reads) == 1 and image.rows == 1 < tensors[sources[0]].rows
    padded = any(read.rows.pad or read.columns.pad for read in reads)
    able = fusable and reduces and not padded
    accumulates = able and row_sums(function, core) is not None
    return Layer(
        name=facts["tiny.layer"].value,
        op=facts["tiny.op"].value,
        reads=tuple(reads),
        output=output,
        macs=macs,
        scratch_bytes=_scratch_bytes(root, alone),
        lean_alone_bytes=_scratch_bytes(root, leaner) if leaner is not None else None,
        row_scratch_bytes=_row_scratch_bytes(None if accumulates else by_rows),
        lean_scratch_bytes=_row_scratch_bytes(None if accumulates else lean),
        fusable=fusable and macs % _pixels(image) == 0,
        accumulates=accumulates,
    )


def _is_image(kind: ir.RankedTensorType, *others: ir.Type) -> bool:
    """Whether it has rows, of bytes or of ``others``."""
    kinds = (ir.IntegerType.get_signless(8), *others)
    return kind.rank == 4 and kind.shape[0] == 1 and kind.element_type in kinds


def _pixels(tensor: Tensor) -> int:
    return tensor.rows * tensor.columns


def _scratch_bytes(root: ir.Value, kernel: Kernel | None) -> int:
    """Work space of a layer that ``kernel`` computes, or that runs element by element."""
    if kernel is not None:
        return kernel.scratch_bytes()
    return sum(prod(v.type.shape) * (v.type.element_type.width // 8) for v in reused_results(root))


def _row_scratch_bytes(kernel: Kernel | None) -> tuple[int, ...]:
    """Work space of a layer that makes rows of one column, of two and so on."""
    if kernel is None:
        return (0,)
    return tuple(kernel.row_scratch_bytes(n) for n in range(1, kernel.conv.out_hw[1] + 1))
