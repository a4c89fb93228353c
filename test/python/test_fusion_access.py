"""The rows and columns that layers read, from their IR."""

from __future__ import annotations

import pytest

from tinymlir.bindings import ir
from tinymlir.fusion.access import windows
from tinymlir.fusion.graph import ELEMENT, Window

SAME = "affine_map<(d0, d1, d2, d3) -> (d0, d1, d2, d3)>"
LOOPS = 'iterator_types = ["parallel", "parallel", "parallel", "parallel"]'


def elementwise(source: str, kind: str, maps: str, result: str, body: str = "") -> str:
    """``%y`` from ``source``, whose body gives what it has, ``%i``, or the ``%r`` of ``body``."""
    given = "%r" if body else "%i"
    return f"""
      %e = tensor.empty() : tensor<{result}>
      %y = linalg.generic {{indexing_maps = [{maps}, {SAME}], {LOOPS}}}
          ins({source} : tensor<{kind}>) outs(%e : tensor<{result}>) {{
      ^bb0(%i: i8, %o: i8):
        {body}
        linalg.yield {given} : i8
      }} -> tensor<{result}>"""


def pooling(kind: str, size: str, result: str, strides: int, dilations: int) -> str:
    return f"""
      %w = tensor.empty() : tensor<{size}xi8>
      %e = tensor.empty() : tensor<{result}>
      %y = linalg.pooling_nhwc_max {{strides = dense<{strides}> : tensor<2xi64>,
          dilations = dense<{dilations}> : tensor<2xi64>}}
          ins(%p, %w : tensor<{kind}>, tensor<{size}xi8>) outs(%e : tensor<{result}>)
          -> tensor<{result}>"""


PAD = """
      %c = arith.constant 0 : i8
      %p = tensor.pad %x low[0, 1, 2, 0] high[0, 0, 1, 0] {
      ^bb0(%a: index, %b: index, %f: index, %g: index):
        tensor.yield %c : i8
      } : tensor<1x8x8x2xi8> to tensor<1x9x11x2xi8>"""
CONV = """
      %w = arith.constant dense<1> : tensor<3x3x3x2xi8>
      %e = tensor.empty() : tensor<1x7x9x3xi32>
      %y = linalg.conv_2d_nhwc_fhwc {strides = dense<1> : tensor<2xi64>,
          dilations = dense<1> : tensor<2xi64>}
          ins(%p, %w : tensor<1x9x11x2xi8>, tensor<3x3x3x2xi8>) outs(%e : tensor<1x7x9x3xi32>)
          -> tensor<1x7x9x3xi32>"""
CROP = """
      %y = tensor.extract_slice %x[0, 2, 1, 0] [1, 3, 6, 2] [1, 2, 1, 1]
          : tensor<1x8x8x2xi8> to tensor<1x3x6x2xi8>"""
TABLE = """
        %t = arith.constant dense<3> : tensor<256xi8>
        %n = arith.index_castui %i : i8 to index
        %r = tensor.extract %t[%n] : tensor<256xi8>"""
OWN_PLACE = """
        %0 = linalg.index 0 : index
        %1 = linalg.index 1 : index
        %2 = linalg.index 2 : index
        %3 = linalg.index 3 : index
        %r = tensor.extract %x[%0, %1, %2, %3] : tensor<1x8x8x2xi8>"""
IMAGE = "1x8x8x2xi8"


def resized(table: list[int]) -> str:
    """Rows of an image in the order of a table."""
    rows = len(table)
    return f"""
      %t = arith.constant dense<{table}> : tensor<{rows}xi32>
      %e = tensor.empty() : tensor<1x{rows}x8x2xi8>
      %y = linalg.generic {{indexing_maps = [{SAME}], {LOOPS}}}
          outs(%e : tensor<1x{rows}x8x2xi8>) {{
      ^bb0(%o: i8):
        %0 = linalg.index 0 : index
        %1 = linalg.index 1 : index
        %place = tensor.extract %t[%1] : tensor<{rows}xi32>
        %row = arith.index_cast %place : i32 to index
        %2 = linalg.index 2 : index
        %3 = linalg.index 3 : index
        %r = tensor.extract %x[%0, %row, %2, %3] : tensor<1x8x8x2xi8>
        linalg.yield %r : i8
      }} -> tensor<1x{rows}x8x2xi8>"""


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (elementwise("%x", IMAGE, SAME, IMAGE), (ELEMENT, ELEMENT)),
        (PAD + CONV, (Window(1, 1, 3), Window(1, 2, 3))),
        # Three rows, two apart: five in all.
        (
            PAD + pooling("1x9x11x2xi8", "3x2", "1x2x3x2xi8", 3, 2),
            (Window(3, 1, 5), Window(3, 2, 3)),
        ),
        (CROP, (Window(2, -2, 1), Window(1, -1, 1))),
        # One row for all, as a product with a number for each column.
        (
            elementwise(
                "%x", "1x1x8x2xi8", "affine_map<(d0, d1, d2, d3) -> (d0, 0, d2, d3)>", "1x4x8x2xi8"
            ),
            (Window(0, 0, 1), ELEMENT),
        ),
        (elementwise("%x", IMAGE, SAME, IMAGE, TABLE), (ELEMENT, ELEMENT)),
        (elementwise("%x", IMAGE, SAME, IMAGE, OWN_PLACE), (ELEMENT, ELEMENT)),
        # Elsewhere than at its own place.
        (elementwise("%x", IMAGE, SAME, IMAGE, OWN_PLACE.replace("[%0, %1", "[%0, %2")), None),
        # Each row twice; and three for two, of which the nearest counts.
        (resized([row // 2 for row in range(16)]), (Window(1, 0, 1, 2), ELEMENT)),
        (resized([(2 * row + 1) // 3 for row in range(12)]), (Window(2, 0, 2, 3), ELEMENT)),
        # Rows become columns.
        (
            elementwise(
                "%x", IMAGE, "affine_map<(d0, d1, d2, d3) -> (d0, d2, d1, d3)>", IMAGE
            ),
            None,
        ),
        # Backwards.
        (
            elementwise(
                "%x", IMAGE, "affine_map<(d0, d1, d2, d3) -> (d0, d1 * -1 + 7, d2, d3)>", IMAGE
            ),
            None,
        ),
        # Each row twice.
        (
            elementwise(
                "%x",
                IMAGE,
                "affine_map<(d0, d1, d2, d3) -> (d0, d1 floordiv 2, d2, d3)>",
                "1x16x8x2xi8",
            ),
            None,
        ),
        ("\n      %y = tensor.concat dim(3) %x, %x : (tensor<1x8x8x2xi8>, tensor<1x8x8x2xi8>)"
         " -> tensor<1x8x8x4xi8>", (ELEMENT, ELEMENT)),
        ("\n      %y = tensor.concat dim(1) %x, %x : (tensor<1x8x8x2xi8>, tensor<1x8x8x2xi8>)"
         " -> tensor<1x16x8x2xi8>", None),
        ("\n      %y = tensor.expand_shape %x [[0], [1], [2], [3, 4]] output_shape [1, 8, 8, 2, 1]"
         " : tensor<1x8x8x2xi8> into tensor<1x8x8x2x1xi8>", (ELEMENT, ELEMENT)),
        ("\n      %y = tensor.collapse_shape %x [[0, 1], [2], [3]]"
         " : tensor<1x8x8x2xi8> into tensor<8x8x2xi8>", None),
    ],
)  # fmt: skip
def test_windows(body: str, expected: tuple[Window, Window] | None, context: ir.Context) -> None:
    kind = "1x1x8x2xi8" if "1x1x8x2" in body else IMAGE
    module = ir.Module.parse(f"func.func @f(%x: tensor<{kind}>) {{{body}\n      return\n    }}")
    function = module.body.operations[0]
    operations = list(function.regions[0].blocks[0].operations)
    root = operations[-2].operation.results[0]
    assert windows(function.arguments[0], root) == expected


def test_ways_that_join_read_what_each_does(context: ir.Context) -> None:
    """A tensor and its neighbours: a pooling and the sum with its input."""
    module = ir.Module.parse("""
    func.func @f(%x: tensor<1x8x8x2xi8>) {
      %c = arith.constant 0 : i8
      %p = tensor.pad %x low[0, 1, 1, 0] high[0, 1, 1, 0] {
      ^bb0(%a: index, %b: index, %f: index, %g: index):
        tensor.yield %c : i8
      } : tensor<1x8x8x2xi8> to tensor<1x10x10x2xi8>
      %w = tensor.empty() : tensor<3x3xi8>
      %e = tensor.empty() : tensor<1x8x8x2xi8>
      %m = linalg.pooling_nhwc_max {strides = dense<1> : tensor<2xi64>,
          dilations = dense<1> : tensor<2xi64>}
          ins(%p, %w : tensor<1x10x10x2xi8>, tensor<3x3xi8>) outs(%e : tensor<1x8x8x2xi8>)
          -> tensor<1x8x8x2xi8>
      %y = linalg.max ins(%x, %m : tensor<1x8x8x2xi8>, tensor<1x8x8x2xi8>)
          outs(%e : tensor<1x8x8x2xi8>) -> tensor<1x8x8x2xi8>
      return
    }""")
    function = module.body.operations[0]
    root = list(function.regions[0].blocks[0].operations)[-2].operation.results[0]
    assert windows(function.arguments[0], root) == (Window(1, 1, 3), Window(1, 1, 3))
    assert Window(1, 1, 3).hull(Window(2, 0, 1)) is None
    twice = Window(repeat=2)
    assert twice.after(ELEMENT) == ELEMENT.after(twice) == twice
    assert twice.after(Window(1, 1, 3)) is None
