"""What converters from other formats write, and hand-written modules do not."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from mlir_inputs import agrees, compiled
from tosa_models import TosaModel, scale_of

from tinymlir.errors import TinymlirError

RANDOM = np.random.default_rng(5)


def weights(*shape: int) -> np.ndarray:
    return RANDOM.integers(-127, 128, shape)


def network() -> str:
    """A convolution, a crop, a mean and a dense layer, which gives a batch of vectors."""
    m = TosaModel()
    x = m.input((1, 7, 6, 3))
    y = m.conv2d(x, weights(4, 3, 3, 3), weights(4), 3, pad=(1, 1, 1, 1))
    y = m.rescale(y, [scale_of(0.003)] * 4, 0, -5, rounding="DOUBLE_ROUND")
    part = m.op("slice", [y, (m.shape([0] * 4), 4), (m.shape([1, 6, 5, 4]), 4)], (1, 6, 5, 4))
    y = m.avg_pool2d(part, (6, 5), (6, 5), zeros=(-5, -5))
    y = m.rescale(m.conv2d(y, weights(5, 1, 1, 4), weights(5), -5), [scale_of(0.004)], 0, 2)
    return m.text(m.reshape(y, (1, 5)))


def with_unknown_batch(text: str) -> str:
    """Types of tensors with a batch, and the shapes that speak of it."""
    text = re.sub(r"tensor<1x(?=\d)", "tensor<?x", text)
    return re.sub(r"dense<\[1, (?=[\d, ]+\]> : tensor<\dxindex>)", "dense<[-1, ", text)


def test_a_batch_of_any_size_is_one_sample(tmp_path: Path) -> None:
    text = network()
    unknown = with_unknown_batch(text)
    assert "tensor<?x7x6x3xi8>" in unknown and "dense<[-1, 5]>" in unknown
    kinds = agrees(text, tmp_path)
    fixed, free = compiled(text, tmp_path), compiled(unknown, tmp_path)
    assert [layer.op for layer in free.compilation.layers] == kinds
    assert free.compilation.stages["linalg"] == fixed.compilation.stages["linalg"]


def test_a_batch_of_any_size_in_linalg(tmp_path: Path) -> None:
    text = """
    #map = affine_map<(a, b) -> (a, b)>
    func.func @main(%x: tensor<?x4xi8>) -> tensor<?x4xi8> {
      %c0 = arith.constant 0 : index
      %n = tensor.dim %x, %c0 : tensor<?x4xi8>
      %e = tensor.empty(%n) : tensor<?x4xi8>
      %y = linalg.generic {indexing_maps = [#map, #map], iterator_types = ["parallel", "parallel"]}
          ins(%x : tensor<?x4xi8>) outs(%e : tensor<?x4xi8>) {
      ^bb0(%v: i8, %o: i8):
        %s = arith.addi %v, %v : i8
        linalg.yield %s : i8
      } -> tensor<?x4xi8>
      return %y : tensor<?x4xi8>
    }"""
    model = compiled(text, tmp_path)
    assert model.inputs[0].shape == model.outputs[0].shape == (1, 4)
    np.testing.assert_array_equal(
        model(np.array([[1, -2, 100, 5]], np.int8))[0], [[[2, -4, -56, 10]]]
    )


def test_another_unknown_dimension_is_refused(tmp_path: Path) -> None:
    text = with_unknown_batch(network()).replace("?x7x6x3", "?x?x6x3")
    with pytest.raises(TinymlirError, match=r"argument 0 of type tensor<1x\?x6x3xi8>, whose shape"):
        compiled(text, tmp_path)


@pytest.mark.parametrize(
    ("kernel", "stride", "pad", "cropped", "kinds"),
    [
        (1, (2, 2), (0, 0, 0, 0), (7, 5), ["conv2d"]),
        (3, (3, 2), (1, 0, 1, 0), (8, 6), ["conv2d"]),
        # Here the padding stands where rows were, and there rows are cut that windows reach.
        (3, (2, 2), (1, 1, 1, 1), (7, 5), ["slice", "conv2d"]),
        (1, (2, 2), (0, 0, 0, 0), (5, 5), ["slice", "conv2d"]),
    ],
)
def test_a_crop_before_a_strided_window_goes(
    tmp_path: Path,
    kernel: int,
    stride: tuple[int, int],
    pad: tuple[int, ...],
    cropped: tuple[int, int],
    kinds: list[str],
) -> None:
    """TOSA demands that windows fit, so converters cut off what no window reaches."""
    m = TosaModel()
    size = (1, *cropped, 2)
    x = m.op("slice", [m.input((1, 8, 6, 2)), (m.shape([0] * 4), 4), (m.shape(size), 4)], size)
    y = m.conv2d(x, weights(3, kernel, kernel, 2), weights(3), 4, pad=pad, stride=stride)
    assert agrees(m.text(m.rescale(y, [scale_of(0.004)], 0, 1)), tmp_path) == kinds


def test_a_crop_before_a_pool_goes(tmp_path: Path) -> None:
    m = TosaModel()
    x = m.input((1, 7, 7, 3))
    x = m.op("slice", [x, (m.shape([0] * 4), 4), (m.shape([1, 6, 6, 3]), 4)], (1, 6, 6, 3))
    text = m.text(m.max_pool2d(x, (2, 2), (2, 2), (0, 0, 0, 0)), m.avg_pool2d(x, (2, 2), (2, 2)))
    assert agrees(text, tmp_path) == ["max_pool2d", "average_pool2d"]


def test_leading_zeros(tmp_path: Path) -> None:
    """Softmax counts them; a Cortex-M0 has no instruction for it."""
    m = TosaModel()
    x = m.rescale(m.input((1, 300)), [(1 << 30, 20)], -3, 0, "i32")
    zeros = m.op("clz", [x], x.shape, "i32")
    y = m.rescale(zeros, [(1 << 30, 30)])
    z = m.rescale(m.binary("add", zeros, m.reduce("max", x, 1)), [(1 << 30, 40)])
    assert agrees(m.text(y, z), tmp_path)


def test_metadata_of_others_may_be_any_bytes(tmp_path: Path) -> None:
    text = f'module attributes {{tfl.metadata = {{a = "\\00\\FF\\C3"}}}} {{\n{network()}\n}}'
    assert compiled(text, tmp_path).outputs[0].shape == (1, 5)


def test_a_product_with_one_quantised_number_is_a_table(tmp_path: Path) -> None:
    """Converters rescale and reshape even that."""
    m = TosaModel()
    x = m.rescale(m.input((1, 4, 4, 3)), [(1 << 30, 30)], 3, 0, "i32", "DOUBLE_ROUND")
    number = m.rescale(m.constant(97, "i8", ()), [(1 << 30, 30)], -4, 0, "i32", "DOUBLE_ROUND")
    product = m.binary("mul", x, m.reshape(number, (1, 1, 1, 1)))
    text = m.text(m.rescale(product, [scale_of(0.004)], 0, -7, rounding="DOUBLE_ROUND"))
    assert agrees(text, tmp_path) == ["lookup"]
