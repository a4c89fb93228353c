"""``tiny-dense-to-conv``: dense layers of flattened images become convolutions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from tinymlir.bindings import ir, linalg
from tinymlir.frontends.canonical.builder import Builder
from tinymlir.linalg_info import VIEW_OPS, broadcast_array, constant_array, indexing_maps
from tinymlir.transposes import is_elementwise, is_plain, is_scalar_code, renamed

from ._pass import Pass, register_pass
from .tiny_outline_layers import erase_dead, find_main

_KIND = "fully_connected"
#: Of the loops over an image, which one of its flat form each is: 0 and 1, of which there are two.
_LOOPS = [0, 2, 3, 1]


@register_pass
@dataclass(frozen=True)
class DenseToConv(Pass):
    """Make dense layers of flattened images convolutions of one window

    The window is the image, so the weights are the same in another shape; flattening goes behind
    the product, and behind elementwise ops that read it. What comes next is then a dense layer of
    an image of one pixel. Rows of the image are seen as such, so the layer can add up its products
    as they come (docs/fusion.md). Only images in the order rows, columns, channels.

    Before::

        func.func @main(%x: tensor<1x2x2x3xi8>) -> tensor<1x2xi8> {
          %flat = tensor.collapse_shape %x [[0], [1, 2, 3]]
              : tensor<1x2x2x3xi8> into tensor<1x12xi8>
          %w = arith.constant dense<1> : tensor<12x2xi8>
          %zero = arith.constant 0 : i32
          %e = tensor.empty() : tensor<1x2xi32>
          %init = linalg.fill ins(%zero : i32) outs(%e : tensor<1x2xi32>) -> tensor<1x2xi32>
          %acc = linalg.matmul ins(%flat, %w : tensor<1x12xi8>, tensor<12x2xi8>)
                               outs(%init : tensor<1x2xi32>) -> tensor<1x2xi32>
          %e8 = tensor.empty() : tensor<1x2xi8>
          %y = linalg.generic {
              indexing_maps = [affine_map<(d0, d1) -> (d0, d1)>, affine_map<(d0, d1) -> (d0, d1)>],
              iterator_types = ["parallel", "parallel"]}
              ins(%acc : tensor<1x2xi32>) outs(%e8 : tensor<1x2xi8>) {
          ^bb0(%a: i32, %o: i8):
            %q = arith.trunci %a : i32 to i8
            linalg.yield %q : i8
          } -> tensor<1x2xi8>
          return %y : tensor<1x2xi8>
        }

    After::

        func.func @main(%x: tensor<1x2x2x3xi8>) -> tensor<1x2xi8> {
          ...
          %acc = linalg.conv_2d_nhwc_fhwc ... tiny.op = "fully_connected"} ins(%x, %w
              : tensor<1x2x2x3xi8>, tensor<2x2x2x3xi8>)
          %e8 = tensor.empty() : tensor<1x1x1x2xi8>
          %y = linalg.generic ... ins(%acc : tensor<1x1x1x2xi32>) outs(%e8 : tensor<1x1x1x2xi8>) {
          ^bb0(%a: i32, %o: i8):
            %q = arith.trunci %a : i32 to i8
            linalg.yield %q : i8
          } -> tensor<1x1x1x2xi8>
          %flat = tensor.collapse_shape %y {{.*}} : tensor<1x1x1x2xi8> into tensor<1x2xi8>
          return %flat : tensor<1x2xi8>
        }
    """

    name: ClassVar[str] = "tiny-dense-to-conv"

    def run(self, op: ir.Operation) -> None:
        main, builder = find_main(op), Builder(op.context)
        for child in [child.operation for child in main.body.blocks[0].operations]:
            with ir.InsertionPoint(child), child.location:
                image = _convolution(builder, child) or _elementwise(builder, child)
                if image is not None:
                    flat = builder.reshape(image, child.results[0].type.shape)
                    child.results[0].replace_all_uses_with(flat)
                    child.erase()
        erase_dead(main)


def _image(value: ir.Value) -> ir.Value | None:
    """The image, of batch 1, that ``value`` has in one row: what is made, not a view of it."""
    found, shape = None, list(value.type.shape)
    while not isinstance(value, ir.BlockArgument) and value.owner.name in VIEW_OPS:
        value = value.owner.operands[0]
        found = value if _is_image(value) else found
    return found if len(shape) == 2 and shape[0] == 1 else None


def _is_image(value: ir.Value) -> bool:
    shape = list(value.type.shape)
    return len(shape) == 4 and shape[0] == 1


def _convolution(builder: Builder, op: ir.Operation) -> ir.Value | None:
    """The accumulators of a dense layer as those of a convolution."""
    image = _image(op.operands[0]) if op.name == "linalg.matmul" else None
    if image is None or not _is_scaled(op):
        return None
    weights, bias = constant_array(op.operands[1]), broadcast_array(op.operands[2])
    if weights is None or bias is None:
        return None
    _, height, width, depth = image.type.shape
    channels = weights.shape[1]
    window = builder.constant(weights.T.reshape(channels, height, width, depth))
    shape = (1, 1, 1, channels)
    init = builder.broadcast(builder.constant(bias[0].astype("<i4")), shape, (0, 1, 2))
    result = builder.structured(linalg.Conv2DNhwcFhwcOp, [image, window], init, (1, 1), (1, 1))
    result.owner.attributes["tiny.op"] = ir.StringAttr.get(_KIND)
    return result


def _is_scaled(matmul: ir.Operation) -> bool:
    """Whether one elementwise op reads the product, of bytes, and besides constants nothing."""
    kinds = [str(value.type.element_type) for value in matmul.operands]
    users = [use.owner.operation for use in matmul.results[0].uses]
    if kinds != ["i8", "i8", "i32"] or len(users) != 1 or not is_scalar_code(users[0]):
        return False
    others = [value for value in list(users[0].operands)[:-1] if value != matmul.results[0]]
    return is_elementwise(users[0]) and all(_is_constant(value) for value in others)


def _is_constant(value: ir.Value) -> bool:
    return not isinstance(value.type, ir.RankedTensorType) or broadcast_array(value) is not None


def _elementwise(builder: Builder, op: ir.Operation) -> ir.Value | None:
    """The result of an elementwise op on flattened images as an image; what is read but constants
    must be images of that shape.
    """
    if not is_scalar_code(op) or not is_elementwise(op):
        return None
    *sources, init = op.operands
    images = [_image(value) for value in sources]
    shapes = {tuple(image.type.shape) for image in images if image is not None}
    maps, identity = indexing_maps(op), ir.AffineMap.get_identity(2)
    if len(shapes) != 1 or any(each.n_dims != 2 for each in maps) or maps[-1] != identity:
        return None
    (shape,) = shapes
    exprs: list[list[ir.AffineExpr]] = []
    for value, image, own in zip(sources, images, maps, strict=False):
        if image is not None and own == identity:
            exprs.append(_dims(range(4)))
        elif _is_constant(value) and shape[1:3] == (1, 1) and is_plain(list(own.results)):
            exprs.append(renamed(list(own.results), _LOOPS))
        else:
            return None
    result = builder.empty(shape, init.type.element_type)
    inputs = [image or value for image, value in zip(images, sources, strict=True)]
    generic = _generic(op, inputs, result, [*exprs, _dims(range(4))])
    for name in op.attributes:
        if name.startswith("tiny."):
            generic.attributes[name] = op.attributes[name]
    return generic.results[0]


def _dims(places: range | tuple[int, ...]) -> list[ir.AffineExpr]:
    return [ir.AffineExpr.get_dim(place) for place in places]


def _generic(
    op: ir.Operation, inputs: list[ir.Value], init: ir.Value, exprs: list[list[ir.AffineExpr]]
) -> ir.Operation:
    """``op`` as a ``linalg.generic`` of the same body, over images."""
    parallel = ir.Attribute.parse("#linalg.iterator_type<parallel>")
    maps = [ir.AffineMapAttr.get(ir.AffineMap.get(4, 0, each)) for each in exprs]
    generic = linalg.GenericOp(
        [init.type], inputs, [init], ir.ArrayAttr.get(maps), ir.ArrayAttr.get([parallel] * 4)
    ).operation
    op.regions[0].blocks[0].append_to(generic.regions[0])
    return generic
