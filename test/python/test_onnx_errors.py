"""Every model that cannot be taken gives one clear line: the file, the node, what to do."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from onnx_models import MICROSOFT, ModelBuilder, Quant

from tinymlir.bindings import ir
from tinymlir.errors import TinymlirError
from tinymlir.frontends import import_model

X = Quant(0.05, 3)
Make = Callable[[], onnx.ModelProto]
CASES: dict[str, tuple[Make, tuple[str, ...]]] = {}


def case(*words: str) -> Callable[[Make], Make]:
    """Register a model whose import must fail with all of ``words`` in the message."""

    def register(make: Make) -> Make:
        CASES[make.__name__] = (make, words)
        return make

    return register


def _layer(
    op: str = "Relu",
    shape: tuple[int | str, ...] = (1, 4),
    quant: Quant = X,
    opset: int = 13,
    dtype: str = "float32",
    domain: str = "",
    **attributes: Any,
) -> onnx.ModelProto:
    """QuantizeLinear, DequantizeLinear, one operator, QuantizeLinear."""
    b = ModelBuilder()
    x = b.input(list(shape), dtype)
    x = b.quantize(x, quant) if dtype == "float32" else x
    y = b.node(op, [b.dequantize(x, quant)], domain=domain, **attributes)
    b.output(b.quantize(y, quant), quant.dtype, [1])
    return b.model(opset)


def _conv(
    weights: np.ndarray, quant: Quant | None, x: Quant = X, axis: int = 0, **attributes: Any
) -> onnx.ModelProto:
    b = ModelBuilder()
    channels = weights.shape[1] * attributes.get("group", 1)
    tensor = b.dequantize(b.input([1, channels, 6, 6], x.dtype), x)
    w = b.constant(weights)
    if quant is not None:
        w = b.dequantize(w, quant, axis=axis)
    b.output(b.quantize(b.node("Conv", [tensor, w], **attributes), X), "int8", [1])
    return b.model()


def _ones(shape: tuple[int, ...] = (2, 3, 3, 3), dtype: str = "int8") -> np.ndarray:
    return np.ones(shape, dtype)


@case("FancyOp", "node 'FancyOp_", "docs/operators.md")
def unknown_operator() -> onnx.ModelProto:
    model = _layer("FancyOp", domain="com.example")
    model.opset_import.append(helper.make_opsetid("com.example", 1))
    return model


@case("Hardmax", "not supported")
def operator_without_an_import() -> onnx.ModelProto:
    return _layer("Hardmax")


@case("BatchNormalization", "folded", "quant_pre_process")
def batch_normalization() -> onnx.ModelProto:
    b = ModelBuilder()
    x = b.dequantize(b.input([1, 3, 4, 4], "int8"), X)
    y = b.node("GlobalAveragePool", [x])
    ones = [b.constant(np.ones(3, np.float32)) for _ in range(4)]
    b.output(b.quantize(b.node("BatchNormalization", [y, *ones]), X), "int8", [1])
    return b.model()


@case("If", "not supported")
def control_flow() -> onnx.ModelProto:
    b = ModelBuilder()
    x = b.quantize(b.input([1, 4]), X)
    value = helper.make_tensor("c", TensorProto.INT8, [1, 4], [0] * 4)
    constant = helper.make_node("Constant", [], ["inner"], value=value)
    output = helper.make_tensor_value_info("inner", TensorProto.INT8, [1, 4])
    branch = helper.make_graph([constant], "branch", [], [output])
    y = b.node("If", [b.constant(np.array(True))], then_branch=branch, else_branch=branch)
    b.output(b.node("Concat", [x, y], axis=1), "int8", [1, 8])
    return b.model()


@case("dimension 0 ('N')", "--dim_param N --dim_value 1")
def dynamic_batch() -> onnx.ModelProto:
    return _layer(shape=("N", 4))


@case("input 'input1'", "dimension 1", "static shapes")
def dynamic_width() -> onnx.ModelProto:
    model = _layer()
    model.graph.input[0].type.tensor_type.shape.dim[1].Clear()
    return model


@case("has no shape", "make_dynamic_shape_fixed")
def no_shape_at_all() -> onnx.ModelProto:
    model = _layer()
    model.graph.input[0].type.tensor_type.ClearField("shape")
    return model


@case("computes in float32", "quantize_static")
def float_network() -> onnx.ModelProto:
    b = ModelBuilder()
    w = b.constant(_ones(dtype="float32"))
    b.output(b.node("Conv", [b.input([1, 3, 6, 6]), w]), shape=[1, 2, 4, 4])
    return b.model()


@case("dynamically", "quantize_static")
def dynamically_quantized_network() -> onnx.ModelProto:
    b = ModelBuilder()
    x = b.node("DynamicQuantizeLinear", [b.input([1, 4])], outputs=3)
    b.output(b.node("MatMulInteger", [x, b.constant(_ones((4, 2), "uint8"))]), "int32", [1, 2])
    return b.model()


@case("Conv", "float32, not quantised", "quantize_static")
def float_weights() -> onnx.ModelProto:
    return _conv(_ones(dtype="float32"), None)


@case("not constant", "initializers")
def weights_computed_at_run_time() -> onnx.ModelProto:
    b = ModelBuilder()
    x, w = (b.dequantize(b.input([1, 4], "int8"), X) for _ in range(2))
    b.output(b.quantize(b.node("MatMul", [x, b.node("Reshape", [w, _column(b)])]), X), "int8", [1])
    return b.model()


def _column(b: ModelBuilder) -> str:
    return b.constant([4, 1], "int64")


@case("int16", "int8 or uint8")
def int16_activations() -> onnx.ModelProto:
    return _layer(quant=Quant(0.1, 0, "int16"), opset=21)


@case("int16", "int8 or uint8")
def int16_weights() -> onnx.ModelProto:
    return _conv(_ones(dtype="int16"), Quant(0.1, 0, "int16"))


@case("int4", "not supported")
def int4_weights() -> onnx.ModelProto:
    b = ModelBuilder()
    x = b.dequantize(b.input([1, 4], "int8"), X)
    w = b.dequantize(b.constant(np.ones((4, 2)), "int4"), Quant(0.1, 0, "int4"))
    b.output(b.quantize(b.node("MatMul", [x, w]), X), "int8", [1])
    return b.model(opset=21)


@case("float8", "not supported")
def float8_activations() -> onnx.ModelProto:
    b = ModelBuilder()
    x = b.input([1, 4])
    scale = b.constant(0.1, "float32")
    zero = b.constant(np.zeros(()), "float8_e4m3fn")
    y = b.node("QuantizeLinear", [x, scale, zero])
    b.output(b.node("DequantizeLinear", [y, scale, zero]), shape=[1, 4])
    return b.model(opset=21)


@case("scale for each channel", "per tensor")
def activations_per_channel() -> onnx.ModelProto:
    return _layer(quant=Quant([0.1, 0.2, 0.3, 0.4], [0] * 4))


@case("blockwise", "per tensor or per channel")
def blockwise_scales() -> onnx.ModelProto:
    b = ModelBuilder()
    x = b.dequantize(b.input([1, 4], "int8"), X)
    scale = b.constant(np.full((2, 2), 0.1), "float32")
    zero = b.constant(np.zeros((2, 2)), "int8")
    w = b.constant(_ones((4, 2)))
    w = b.node("DequantizeLinear", [w, scale, zero], axis=0, block_size=2)
    b.output(b.quantize(b.node("MatMul", [x, w]), X), "int8", [1])
    return b.model(opset=21)


@case("computed at run time", "quantise statically")
def scales_computed_at_run_time() -> onnx.ModelProto:
    b = ModelBuilder()
    x, scale = b.input([1, 4]), b.input([])
    y = b.node("QuantizeLinear", [x, scale, b.constant(0, "int8")])
    b.output(y, "int8", [1, 4])
    return b.model()


@case("positive float32")
def negative_scale() -> onnx.ModelProto:
    return _layer(quant=Quant(-0.1))


@case("positive float32")
def zero_scale() -> onnx.ModelProto:
    return _layer(quant=Quant(0.0))


@case("positive float32")
def scale_that_is_no_number() -> onnx.ModelProto:
    return _layer(quant=Quant(float("nan")))


@case("do not fit two int8", "symmetrically")
def weights_too_far_off_centre() -> onnx.ModelProto:
    weights = np.full((2, 3, 3, 3), 255, np.uint8)
    return _conv(weights, Quant(0.1, 0, "uint8"))


@case("int32", "int8 or uint8")
def int32_weights() -> onnx.ModelProto:
    return _conv(_ones(dtype="int32"), Quant(0.1, 0, "int32"))


@case("axis 1", "output channels")
def scales_along_the_input_channels() -> onnx.ModelProto:
    return _conv(_ones(), Quant([0.1, 0.2, 0.3], [0] * 3), axis=1)


@case("scales do not fit")
def as_many_scales_as_nothing_else() -> onnx.ModelProto:
    return _conv(_ones(), Quant([0.1, 0.2, 0.3], [0] * 3))


@case("empty shape")
def zero_sized_input() -> onnx.ModelProto:
    return _layer(shape=(1, 0))


@case("absurd shape", "MiB")
def absurd_input() -> onnx.ModelProto:
    return _layer(shape=(1, 2**20, 2**20))


@case("pads are")
def absurd_padding() -> onnx.ModelProto:
    return _conv(_ones(), Quant(0.1), pads=[2**30] * 4)


@case("absurd shape")
def absurd_result() -> onnx.ModelProto:
    b = ModelBuilder()
    x = b.input([1, 8], "int8")
    pads = b.constant([0, 2**31, 0, 2**31], "int64")
    b.output(b.node("Pad", [x, pads]), "int8", [1])
    return b.model()


@case("batch size 2", "batch 1")
def batch_of_two() -> onnx.ModelProto:
    return _layer(shape=(2, 4))


@case("opset 12", "opset 13 or newer")
def old_opset() -> onnx.ModelProto:
    return _layer(opset=12)


@case("no opset")
def no_opset() -> onnx.ModelProto:
    model = _layer()
    del model.opset_import[:]
    return model


@case("no outputs")
def no_outputs() -> onnx.ModelProto:
    model = _layer()
    del model.graph.output[:]
    return model


@case("no ONNX graph")
def no_graph() -> onnx.ModelProto:
    model = _layer()
    model.ClearField("graph")
    return model


@case("not a valid ONNX model")
def cycle() -> onnx.ModelProto:
    model = _layer()
    model.graph.node[0].input[0] = model.graph.node[2].output[0]
    return model


@case("not a valid ONNX model")
def undefined_tensor() -> onnx.ModelProto:
    model = _layer()
    model.graph.node[2].input[0] = "nowhere"
    return model


@case("output 'nowhere'")
def output_that_nothing_computes() -> onnx.ModelProto:
    model = _layer()
    model.graph.output[0].name = "nowhere"
    return model


@case("computed in float", "quantize_static", "Sigmoid")
def float_output() -> onnx.ModelProto:
    b = ModelBuilder()
    x = b.dequantize(b.input([1, 4], "int8"), X)
    b.output(b.node("Sigmoid", [x]), shape=[1, 4])
    return b.model()


@case("computed in float", "Relu")
def limited_float_output() -> onnx.ModelProto:
    b = ModelBuilder()
    x = b.dequantize(b.input([1, 4], "int8"), X)
    y = b.node("Relu", [b.node("Add", [x, x])])
    b.output(y, shape=[1, 4])
    return b.model()


@case("float result of node 'Sigmoid_", "Softmax")
def float_between_layers() -> onnx.ModelProto:
    b = ModelBuilder()
    x = b.dequantize(b.input([1, 4], "int8"), X)
    b.output(b.quantize(b.node("Softmax", [b.node("Sigmoid", [x])]), X), "int8", [1, 4])
    return b.model()


@case("float result of node 'Conv_", "Tanh")
def float_behind_a_convolution() -> onnx.ModelProto:
    b = ModelBuilder()
    x = b.dequantize(b.input([1, 2, 4, 4], "int8"), X)
    w = b.dequantize(b.constant(_ones((2, 2, 1, 1))), X)
    b.output(b.quantize(b.node("Tanh", [b.node("Conv", [x, w])]), X), "int8", [1])
    return b.model()


@case("float graph input", "Sigmoid")
def float_input_not_quantized() -> onnx.ModelProto:
    b = ModelBuilder()
    y = b.node("Sigmoid", [b.input([1, 4])])
    b.output(b.quantize(y, X), "int8", [1, 4])
    return b.model()


@case("quantised in two ways")
def input_quantized_twice() -> onnx.ModelProto:
    b = ModelBuilder()
    x = b.input([1, 4])
    b.output(b.quantize(b.node("Relu", [b.dequantize(b.quantize(x, X), X)]), X), "int8", [1, 4])
    b.output(b.quantize(x, Quant(0.2)), "int8", [1, 4])
    return b.model()


@case("type int64")
def input_of_another_type() -> onnx.ModelProto:
    b = ModelBuilder()
    b.output(b.node("Identity", [b.input([1, 4], "int64")]), "int64", [1, 4])
    return b.model()


@case("input unchanged", "nothing to compute")
def network_without_layers() -> onnx.ModelProto:
    b = ModelBuilder()
    b.output(b.node("Identity", [b.input([1, 4], "int8")]), "int8", [1, 4])
    return b.model()


@case("not computed by a quantised layer")
def constant_output() -> onnx.ModelProto:
    model = _layer()
    scale = model.graph.initializer[0]
    model.graph.output.append(helper.make_tensor_value_info(scale.name, TensorProto.FLOAT, []))
    return model


@case("do not fit", "channels")
def channels_that_do_not_fit() -> onnx.ModelProto:
    return _conv(_ones((2, 3, 3, 3)), Quant(0.1), group=4)


@case("does not fit the input")
def kernel_larger_than_the_input() -> onnx.ModelProto:
    return _conv(_ones((2, 3, 9, 9)), Quant(0.1))


@case("cannot become")
def impossible_reshape() -> onnx.ModelProto:
    b = ModelBuilder()
    x = b.input([1, 4], "int8")
    b.output(b.node("Reshape", [x, b.constant([3, 5], "int64")]), "int8", [1])
    return b.model()


@case("neither operand has the result's shape")
def operands_that_broadcast_each_other() -> onnx.ModelProto:
    b = ModelBuilder()
    x, y = (b.dequantize(b.input(s, "int8"), X) for s in ([1, 4, 1], [1, 1, 3]))
    b.output(b.quantize(b.node("Add", [x, y]), X), "int8", [1])
    return b.model()


@case("mode 'mirror'")
def padding_of_an_unknown_mode() -> onnx.ModelProto:
    b = ModelBuilder()
    x = b.input([1, 4], "int8")
    y = b.node("Pad", [x, b.constant([0, 1, 0, 1], "int64")], mode="mirror")
    b.output(y, "int8", [1])
    return b.model()


@case("alpha = 1")
def scaled_gemm() -> onnx.ModelProto:
    b = ModelBuilder()
    x, w = b.input([1, 4], "int8"), b.constant(_ones((4, 2)))
    inputs = [x, *b.parameters(X), w, *b.parameters(Quant(0.1)), "", *b.parameters(X)]
    b.output(b.node("QGemm", inputs, domain=MICROSOFT, alpha=2.0), "int8", [1])
    return b.model()


@case("slopes above one")
def steep_slopes() -> onnx.ModelProto:
    b = ModelBuilder()
    x = b.dequantize(b.input([1, 3, 4], "int8"), X)
    y = b.node("PRelu", [x, b.constant(np.array([[0.1], [2], [0.3]], np.float32))])
    b.output(b.quantize(y, X), "int8", [1])
    return b.model()


@case("accumulator can overflow")
def bias_beyond_32_bits() -> onnx.ModelProto:
    b = ModelBuilder()
    x = b.input([1, 4], "int8")
    w = b.constant(np.full((4, 2), 127, np.int8))
    bias = b.constant(np.full(2, 2**31 - 1, np.int32))
    inputs = [x, *b.parameters(X), w, *b.parameters(Quant(0.1)), bias, *b.parameters(X)]
    b.output(b.node("QGemm", inputs, domain=MICROSOFT), "int8", [1])
    return b.model()


@case("output that is not supported")
def indices_of_a_max_pool() -> onnx.ModelProto:
    b = ModelBuilder()
    x = b.input([1, 2, 4, 4], "int8")
    y = b.node("MaxPool", [x], outputs=2, kernel_shape=[2, 2])
    b.output(b.quantize(b.node("Cast", [f"t{int(y[1:]) + 1}"], to=1), X), "int8", [1])
    return b.model()


def _message(path: Path) -> str:
    with pytest.raises(TinymlirError) as caught:
        import_model(path, ir.Context())
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith(f"{path}: ")
    assert caught.value.hint
    return message


@pytest.mark.parametrize("name", sorted(CASES))
def test_model(name: str, tmp_path: Path) -> None:
    make, words = CASES[name]
    path = tmp_path / "model.onnx"
    path.write_bytes(make().SerializeToString())
    message = _message(path)
    for word in words:
        assert word in message


def test_missing_file(tmp_path: Path) -> None:
    assert "cannot be read" in _message(tmp_path / "none.onnx")


def test_folder(tmp_path: Path) -> None:
    assert "cannot be read" in _message(tmp_path)


def test_empty_file(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.touch()
    assert "empty" in _message(path)


def test_not_a_model(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_text("This is not a network.\n")
    assert "not an ONNX model" in _message(path)


def test_truncated_files(example: Path, tmp_path: Path) -> None:
    """Whatever is missing, the message is about the file."""
    data = (example / "surface_qdq.onnx").read_bytes()
    path = tmp_path / "model.onnx"
    for size in (1, 10, 1000, len(data) // 2, len(data) - 1):
        path.write_bytes(data[:size])
        _message(path)


def test_missing_external_data(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    model = _conv(_ones(), Quant(0.1))
    onnx.save(model, path, save_as_external_data=True, location="weights.bin", size_threshold=0)
    assert import_model(path, ir.Context()).operation.verify()
    (tmp_path / "weights.bin").unlink()
    message = _message(path)
    assert "external" in message and "weights.bin" in message


@pytest.mark.parametrize("location", ["../weights.bin", "a/../../weights.bin", "/etc/hostname"])
def test_external_data_stays_in_its_folder(location: str, tmp_path: Path) -> None:
    (tmp_path / "weights.bin").write_bytes(bytes(64))
    folder = tmp_path / "model"
    folder.mkdir()
    model = _layer()
    tensor = model.graph.initializer[0]
    onnx.external_data_helper.set_external_data(tensor, location)
    tensor.ClearField("raw_data")
    path = folder / "model.onnx"
    path.write_bytes(model.SerializeToString())
    assert "external weights cannot be loaded" in _message(path)


def test_functions_that_unfold_without_end(tmp_path: Path) -> None:
    """Forty functions, each of which calls the next one twice."""
    model = _layer()
    opsets = [onnx.helper.make_opsetid("", 13), onnx.helper.make_opsetid("bomb", 1)]
    for level in range(40):
        name, domain = (f"f{level + 1}", "bomb") if level < 39 else ("Identity", "")
        calls = [onnx.helper.make_node(name, [a], [b], domain=domain) for a, b in ("xy", "yz")]
        model.functions.append(
            onnx.helper.make_function("bomb", f"f{level}", ["x"], ["z"], calls, opsets)
        )
    model.opset_import.append(opsets[1])
    given = model.graph.input[0].name
    model.graph.node.append(onnx.helper.make_node("f0", [given], ["z"], domain="bomb"))
    path = tmp_path / "model.onnx"
    path.write_bytes(model.SerializeToString())
    assert "has more than 10000 nodes, functions inlined" in _message(path)
