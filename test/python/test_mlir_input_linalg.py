"""linalg of other producers against upstream's own lowering of it, byte for byte."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from linalg_models import (
    FORMS,
    STARTS,
    constant,
    contraction,
    fill,
    function,
    generic,
    pad,
    requantize,
)
from mlir_inputs import agrees, compiled
from tosa_models import TosaModel, scale_of, tensor_type
from upstream import tosa_to_linalg

from tinymlir.errors import TinymlirError
from tinymlir.host import HostModel


def has_kernel(model: HostModel) -> bool:
    """Whether every convolution has a kernel."""
    return all(layer.kernel or "conv" not in layer.op for layer in model.compilation.layers)


@pytest.mark.parametrize("op", FORMS)
def test_forms_of_convolutions_and_products(tmp_path: Path, op: str) -> None:
    rng = np.random.default_rng(len(op))
    text = contraction(op, FORMS[op], "broadcast", rng)
    (kind,) = agrees(text, tmp_path)
    expected = "fully_connected" if "matmul" in op else "conv2d"
    assert kind == ("depthwise_conv2d" if "depthwise" in op else expected)
    assert has_kernel(compiled(text, tmp_path))


@pytest.mark.parametrize("op", [op for op, form in FORMS.items() if form.quantized])
def test_zero_points_are_folded(tmp_path: Path, op: str) -> None:
    rng = np.random.default_rng(len(op))
    form = FORMS[op]
    text = contraction(str(form.quantized), form, "generic", rng, zeros=(-7, 3))
    agrees(text, tmp_path)
    model = compiled(text, tmp_path)
    assert has_kernel(model)
    assert "_q " not in model.compilation.stages["linalg"]


@pytest.mark.parametrize("start", STARTS)
@pytest.mark.parametrize("op", ["conv_2d_nchw_fchw", "depthwise_conv_2d_nhwc_hwcm", "matmul"])
def test_what_accumulators_start_from(tmp_path: Path, op: str, start: str) -> None:
    text = contraction(op, FORMS[op], start, np.random.default_rng(5))
    agrees(text, tmp_path)
    assert has_kernel(compiled(text, tmp_path))


def test_weights_that_do_not_fit_less_their_zero_point_still_compute(tmp_path: Path) -> None:
    form = FORMS["conv_2d_nhwc_fhwc"]
    agrees(
        contraction("conv_2d_nhwc_fhwc_q", form, "fill", np.random.default_rng(5), (4, 60)),
        tmp_path,
    )


def test_a_product_by_transposed_weights(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    lines = [
        constant("w", rng.integers(-128, 128, (5, 7)), "i8"),
        fill("start", 40, (3, 5)),
        """%acc = linalg.matmul indexing_maps = [
          affine_map<(m, n, k) -> (m, k)>, affine_map<(m, n, k) -> (n, k)>,
          affine_map<(m, n, k) -> (m, n)>]
        ins(%x, %w : tensor<3x7xi8>, tensor<5x7xi8>) outs(%start : tensor<3x5xi32>)
        -> tensor<3x5xi32>""",
        requantize("y", "%acc", (3, 5)),
    ]
    text = function(lines, (3, 7), (3, 5))
    assert agrees(text, tmp_path) == ["fully_connected"]
    assert "(d1, d2)" not in compiled(text, tmp_path).compilation.stages["linalg"]


def test_accumulators_that_start_from_computed_values(tmp_path: Path) -> None:
    """A residual sum inside the convolution."""
    shape = (1, 5, 5, 3)
    body = """
    %s = arith.constant 6 : i32
    %1 = arith.extsi %a0 : i8 to i32
    %2 = arith.shli %1, %s : i32
    linalg.yield %2 : i32"""
    ones = "dense<1> : tensor<2xi64>"
    types = f"tensor<1x7x7x3xi8>, tensor<3x3x3x3xi8>) outs(%r : {tensor_type(shape, 'i32')})"
    lines = [
        constant("w", np.random.default_rng(1).integers(-128, 128, (3, 3, 3, 3)), "i8"),
        pad("p", "%x", shape, (0, 1, 1, 0), (0, 1, 1, 0), 4),
        generic("r", [("%x", shape, "i8")], ["d0, d1, d2, d3"], shape, "i32", body),
        f"  %acc = linalg.conv_2d_nhwc_fhwc {{strides = {ones}, dilations = {ones}}}"
        f" ins(%p, %w : {types} -> {tensor_type(shape, 'i32')}",
        requantize("y", "%acc", shape),
    ]
    text = function(lines, shape, shape)
    assert agrees(text, tmp_path) == ["conv2d"]
    assert has_kernel(compiled(text, tmp_path))


def channels_first() -> str:
    """Convolution, depthwise convolution, pooling and dense layer on N×C×H×W tensors."""
    rng = np.random.default_rng(2)
    first, middle, pooled = (1, 4, 8, 8), (1, 4, 6, 6), (1, 4, 3, 3)
    ones, twos = (f"dense<{n}> : tensor<2xi64>" for n in (1, 2))
    lines = [
        pad("p", "%x", (1, 3, 8, 8), (0, 0, 1, 1), (0, 0, 1, 1), -5),
        constant("w", rng.integers(-128, 128, (4, 3, 3, 3)), "i8"),
        fill("f1", 100, first),
        "  %z0 = arith.constant -5 : i32",
        "  %z1 = arith.constant 0 : i32",
        f"  %c = linalg.conv_2d_nchw_fchw_q {{strides = {ones}, dilations = {ones}}}"
        f" ins(%p, %w, %z0, %z1 : tensor<1x3x10x10xi8>, tensor<4x3x3x3xi8>, i32, i32)"
        f" outs(%f1 : {tensor_type(first, 'i32')}) -> {tensor_type(first, 'i32')}",
        requantize("r", "%c", first, 10),
        constant("v", rng.integers(-128, 128, (4, 3, 3)), "i8"),
        fill("f2", -30, middle),
        f"  %d = linalg.depthwise_conv_2d_nchw_chw {{strides = {ones}, dilations = {ones}}}"
        f" ins(%r, %v : {tensor_type(first, 'i8')}, tensor<4x3x3xi8>)"
        f" outs(%f2 : {tensor_type(middle, 'i32')}) -> {tensor_type(middle, 'i32')}",
        requantize("q", "%d", middle),
        fill("f3", -128, pooled, "i8"),
        "  %k = tensor.empty() : tensor<2x2xi8>",
        f"  %m = linalg.pooling_nchw_max {{strides = {twos}, dilations = {ones}}}"
        f" ins(%q, %k : {tensor_type(middle, 'i8')}, tensor<2x2xi8>)"
        f" outs(%f3 : {tensor_type(pooled, 'i8')}) -> {tensor_type(pooled, 'i8')}",
        f"  %flat = tensor.collapse_shape %m [[0], [1, 2, 3]] : {tensor_type(pooled, 'i8')}"
        " into tensor<1x36xi8>",
        constant("u", rng.integers(-128, 128, (36, 10)), "i8"),
        fill("f4", 7, (1, 10)),
        "  %g = linalg.matmul ins(%flat, %u : tensor<1x36xi8>, tensor<36x10xi8>)"
        " outs(%f4 : tensor<1x10xi32>) -> tensor<1x10xi32>",
        requantize("y", "%g", (1, 10), 10),
    ]
    return function(lines, (1, 3, 8, 8), (1, 10), "forward")


def test_a_network_of_channels_first_tensors_moves_nothing(tmp_path: Path) -> None:
    """Its input is taken channels-last, and its dense weights follow the order of the features."""
    kinds = agrees(channels_first(), tmp_path)
    assert kinds == ["conv2d", "depthwise_conv2d", "max_pool2d", "fully_connected"]
    model = compiled(channels_first(), tmp_path)
    assert model.inputs[0].shape == (1, 8, 8, 3)
    assert model.inputs[0].permutation == (0, 2, 3, 1)


def test_tosa_lowered_by_upstream_has_the_kernels_of_tosa(tmp_path: Path) -> None:
    rng = np.random.default_rng(4)
    m = TosaModel()
    y = m.conv2d(
        m.input((1, 6, 6, 3)),
        rng.integers(-99, 99, (4, 3, 3, 3)),
        rng.integers(-99, 99, 4),
        3,
        pad=(1, 1, 1, 1),
    )
    y = m.clamp(m.rescale(y, [scale_of(0.002 * k) for k in range(1, 5)], 0, 5), -100, 90)
    y = m.conv2d(
        y, rng.integers(-99, 99, (3, 3, 4, 2)), np.arange(8), -5, pad=(1, 1, 1, 1), depthwise=True
    )
    y = m.rescale(y, [scale_of(0.003)], 0, 5, rounding="DOUBLE_ROUND")
    lowered = tosa_to_linalg(m.text(y))
    assert "tosa" not in lowered
    assert agrees(lowered, tmp_path)[:1] == ["conv2d"]
    model = compiled(lowered, tmp_path)
    assert has_kernel(model)
    macs = [layer.macs for layer in model.compilation.layers if layer.macs]
    assert macs == [layer.macs for layer in compiled(m.text(y), tmp_path).compilation.layers]


def test_reductions_and_permuted_reads(tmp_path: Path) -> None:
    """A sum over channels-first pixels, whose operand a transpose made."""
    text = (
        """
    func.func @main(%x: tensor<1x3x4x5xi8>) -> tensor<1x4xi8> {
      %e = tensor.empty() : tensor<1x4x5x3xi8>
      %t = linalg.transpose ins(%x : tensor<1x3x4x5xi8>) outs(%e : tensor<1x4x5x3xi8>)
           permutation = [0, 2, 3, 1]
      %nine = arith.constant 9 : i32
      %g = tensor.empty() : tensor<1x4xi32>
      %f = linalg.fill ins(%nine : i32) outs(%g : tensor<1x4xi32>) -> tensor<1x4xi32>
      %r = linalg.generic {indexing_maps = [affine_map<(a, b, c, d) -> (a, b, c, d)>,
                                            affine_map<(a, b, c, d) -> (a, b)>],
                           iterator_types = ["parallel", "parallel", "reduction", "reduction"]}
           ins(%t : tensor<1x4x5x3xi8>) outs(%f : tensor<1x4xi32>) {
      ^bb0(%v: i8, %acc: i32):
        %w = arith.extsi %v : i8 to i32
        %n = arith.addi %acc, %w : i32
        linalg.yield %n : i32
      } -> tensor<1x4xi32>
    """
        + requantize("y", "%r", (1, 4), 3)
        + "\n return %y : tensor<1x4xi8>\n}"
    )
    assert agrees(text, tmp_path) == ["generic"]


@pytest.mark.parametrize("count", [1, 3])
def test_sizes_that_only_fold_to_constants_are_taken(tmp_path: Path, count: int) -> None:
    amount = ", ".join(["%n"] * 2)
    text = f"""
    func.func @main(%x: tensor<2x3xi8>) -> tensor<{2 + count}x{3 + count}xi8> {{
      %n = arith.constant {count} : index
      %z = arith.constant 0 : index
      %v = arith.constant 5 : i8
      %p = tensor.pad %x low[%z, %z] high[{amount}] {{
      ^bb0(%i: index, %j: index):
        tensor.yield %v : i8
      }} : tensor<2x3xi8> to tensor<?x?xi8>
      %y = tensor.cast %p : tensor<?x?xi8> to tensor<{2 + count}x{3 + count}xi8>
      return %y : tensor<{2 + count}x{3 + count}xi8>
    }}"""
    with pytest.raises(TinymlirError, match="dynamic"):
        compiled(text, tmp_path)
    known = text.replace("tensor<?x?xi8>", f"tensor<{2 + count}x{3 + count}xi8>")
    known = known.replace(f"%y = tensor.cast %p : tensor<{2 + count}x{3 + count}xi8> to", "// ")
    assert agrees(known.replace("return %y", "return %p"), tmp_path) == ["pad"]


def test_tensors_put_together_by_insertion(tmp_path: Path) -> None:
    text = """
    func.func @main(%x: tensor<1x4x4x2xi8>) -> tensor<1x4x4x4xi8> {
      %e = tensor.empty() : tensor<1x4x4x4xi8>
      %a = tensor.insert_slice %x into %e[0, 0, 0, 0] [1, 4, 4, 2] [1, 1, 1, 1]
           : tensor<1x4x4x2xi8> into tensor<1x4x4x4xi8>
      %i = tensor.empty() : tensor<1x4x4x2xi8>
      %t = linalg.transpose ins(%x : tensor<1x4x4x2xi8>) outs(%i : tensor<1x4x4x2xi8>)
           permutation = [0, 2, 1, 3]
      %y = tensor.insert_slice %t into %a[0, 0, 0, 2] [1, 4, 4, 2] [1, 1, 1, 1]
           : tensor<1x4x4x2xi8> into tensor<1x4x4x4xi8>
      return %y : tensor<1x4x4x4xi8>
    }"""
    assert agrees(text, tmp_path) == ["transpose", "insert_slice", "insert_slice"]


def test_an_insertion_with_gaps_is_refused(tmp_path: Path) -> None:
    text = """
    func.func @main(%x: tensor<1x2xi8>, %y: tensor<1x4xi8>) -> tensor<1x4xi8> {
      %a = tensor.insert_slice %x into %y[0, 0] [1, 2] [1, 2]
           : tensor<1x2xi8> into tensor<1x4xi8>
      return %a : tensor<1x4xi8>
    }"""
    with pytest.raises(TinymlirError, match="inserted slice to be static, dense"):
        compiled(text, tmp_path)
