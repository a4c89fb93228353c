"""MLIR files as input: round trips, what is taken as the network, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from linalg_models import FORMS, contraction, fill, function, requantize
from mlir_inputs import agrees, compiled
from upstream import Upstream

from tinymlir.bindings import ir
from tinymlir.codegen import generate
from tinymlir.compiler import compile_model
from tinymlir.dialects import register
from tinymlir.targets import get_target
from tinymlir.tools.main import main


def compiled_forms(model: Path, target: str = "cortex-m4") -> tuple[str, bytes]:
    """The canonical form of a model, and its object."""
    machine = get_target(target)
    compilation = compile_model(model, machine, "net")
    return compilation.stages["linalg"], generate(compilation.module, machine).object


def object_code(model: Path, target: str = "cortex-m4") -> bytes:
    return compiled_forms(model, target)[1]


def models() -> list[Path]:
    root = Path(__file__).resolve().parents[2]
    found = [root / "examples/surface_inspection/surface_qdq.onnx"]
    shared = root.parent / "shared" / "models"
    return found + sorted([*shared.glob("resnet8*.tflite"), *shared.glob("dscnn*.onnx")])


@pytest.mark.parametrize("model", models(), ids=lambda path: path.name)
def test_the_canonical_form_compiles_to_the_same_object(model: Path, tmp_path: Path) -> None:
    """`--emit mlir` writes it; nothing that the importer does changes it."""
    forms = compiled_forms(model)
    file = tmp_path / "net.linalg.mlir"
    file.write_text(forms[0])
    assert compiled_forms(file) == forms


def small_network(name: str = "main") -> str:
    form = FORMS["conv_2d_nhwc_fhwc"]
    return contraction("conv_2d_nhwc_fhwc", form, "fill", np.random.default_rng(1), name=name)


def test_every_command_takes_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, samples, result = (tmp_path / name for name in ("net.mlir", "x.npy", "y.npy"))
    file.write_text(small_network())
    (array,) = Upstream(small_network()).random(1)
    np.save(samples, array)
    outputs = []
    for target in ("host", "cortex-m0"):
        options = ["--target", target, "--input", str(samples), "--output", str(result)]
        assert main(["run", str(file), *options]) == 0
        outputs.append(np.load(result))
    np.testing.assert_array_equal(*outputs)
    np.testing.assert_array_equal(outputs[0], Upstream(small_network())(array)[0])
    assert main(["profile", str(file)]) == 0
    assert "conv2d" in capsys.readouterr().out


def test_bytecode_is_taken_whatever_it_is_called(tmp_path: Path) -> None:
    file = tmp_path / "net.mlir"
    file.write_text(small_network())
    context = ir.Context()
    register(context)
    for name in ("net.mlirbc", "network"):
        with (tmp_path / name).open("wb") as stream:
            ir.Module.parse(small_network(), context).operation.write_bytecode(stream)
        assert object_code(tmp_path / name) == object_code(file)


@pytest.mark.parametrize(
    "text",
    [
        small_network("forward"),
        small_network("forward").replace("func.func @", "func.func private @"),
        small_network() + "func.func @other() { return }",
        small_network("net") + "func.func private @unused(%x: tensor<4xi8>) { return }",
        "module attributes {tf.versions = {producer = 1 : i32}} {"
        + small_network().replace("%x: tensor<1x6x5x3xi8>", '%x: tensor<1x6x5x3xi8> {tf.n = "x"}')
        + "}",
    ],
    ids=["renamed", "private", "main", "public", "foreign attributes"],
)
def test_the_function_that_is_the_network(text: str, tmp_path: Path) -> None:
    file, plain = tmp_path / "net.mlir", tmp_path / "plain.mlir"
    file.write_text(text)
    plain.write_text(small_network())
    assert object_code(file) == object_code(plain)


def test_functions_that_it_calls_are_inlined(tmp_path: Path) -> None:
    kind, result = "tensor<1x6x5x3xi8>", "tensor<1x6x5x4xi8>"
    text = small_network("block").replace("func.func @", "func.func private @") + (
        f"func.func @predict(%x: {kind}) -> {result} {{\n"
        f"  %y = call @block(%x) : ({kind}) -> {result}\n  return %y : {result}\n}}\n"
    )
    model = compiled(text, tmp_path)
    assert [layer.op for layer in model.compilation.layers] == ["conv2d"]


def test_constants_may_be_resources(tmp_path: Path) -> None:
    weights = np.arange(-14, 14, dtype=np.int8).reshape(7, 4)
    lines = [
        "%w = arith.constant dense_resource<weights> : tensor<7x4xi8>",
        '%b = arith.constant dense_resource<"the bias"> : tensor<4xi32>',
        fill("start", 0, (3, 4)),
        """%acc = linalg.matmul ins(%x, %w : tensor<3x7xi8>, tensor<7x4xi8>)
               outs(%start : tensor<3x4xi32>) -> tensor<3x4xi32>
           %e = tensor.empty() : tensor<3x4xi32>
           %s = linalg.broadcast ins(%b : tensor<4xi32>) outs(%e : tensor<3x4xi32>) dimensions = [0]
           %sum = linalg.add ins(%acc, %s : tensor<3x4xi32>, tensor<3x4xi32>)
               outs(%e : tensor<3x4xi32>) -> tensor<3x4xi32>""",
        requantize("y", "%sum", (3, 4), 2),
    ]
    bias = np.array([1, -200, 300, -40_000], np.int32)
    blobs = [
        f'{name}: "0x04000000{data.tobytes().hex()}"'
        for name, data in (("weights", weights), ('"the bias"', bias))
    ]
    section = "{-# dialect_resources: { builtin: { " + ", ".join(blobs) + " } } #-}"
    text = function(lines, (3, 7), (3, 4)) + section
    plain = text.replace("dense_resource<weights>", f"dense<{weights.tolist()}>")
    plain = plain.replace('dense_resource<"the bias">', f"dense<{bias.tolist()}>")
    assert agrees(plain, tmp_path) == ["fully_connected"]
    expected = object_code(tmp_path / "model.mlir")
    (tmp_path / "model.mlir").write_text(text)
    assert object_code(tmp_path / "model.mlir") == expected


def test_quantised_types_say_what_numbers_stand_for(tmp_path: Path) -> None:
    text = """
    !x = !quant.uniform<u8:f32, 0.5:130>
    !y = !quant.uniform<i8:f32, 0.25:7>
    func.func @main(%x: tensor<1x4x!x>) -> (tensor<1x4x!y> {tiny.name = "scores"}) {
      %m = "tosa.const"() {values = dense<1073741824> : tensor<1xi32>} : () -> tensor<1xi32>
      %s = "tosa.const"() {values = dense<29> : tensor<1xi8>} : () -> tensor<1xi8>
      %a = "tosa.const"() {values = dense<130> : tensor<1xui8>} : () -> tensor<1xui8>
      %b = "tosa.const"() {values = dense<7> : tensor<1xi8>} : () -> tensor<1xi8>
      %y = tosa.rescale %x, %m, %s, %a, %b {scale32 = true, rounding_mode = SINGLE_ROUND,
        per_channel = false, input_unsigned = true, output_unsigned = false}
        : (tensor<1x4x!x>, tensor<1xi32>, tensor<1xi8>, tensor<1xui8>, tensor<1xi8>)
        -> tensor<1x4x!y>
      return %y : tensor<1x4x!y>
    }"""
    model = compiled(text, tmp_path)
    (x,), (y,) = model.inputs, model.outputs
    assert (x.model_type, x.scale, x.zero_point) == ("uint8", 0.5, 2)
    assert (y.name, y.model_type, y.scale, y.zero_point) == ("scores", "int8", 0.25, 7)
    given = np.array([[2, 3, -128, 127]], np.int8)
    np.testing.assert_array_equal(model(given)[0][0], [[7, 9, -128, 127]])


I8 = "tensor<1x4xi8>"


def network(body: str, arguments: str = f"%x: {I8}", results: str = I8) -> str:
    return f"func.func @main({arguments}) -> ({results}) {{\n{body}\n}}\n"


GENERIC_FLOAT = """  %e = tensor.empty() : tensor<1x4xi8>
  %y = linalg.generic {
      indexing_maps = [affine_map<(a, b) -> (a, b)>, affine_map<(a, b) -> (a, b)>],
      iterator_types = ["parallel", "parallel"]}
      ins(%x : tensor<1x4xi8>) outs(%e : tensor<1x4xi8>) {
  ^bb0(%v: i8, %out: i8):
    %f = arith.sitofp %v : i8 to f32
    %g = arith.mulf %f, %f : f32
    %h = arith.fptosi %g : f32 to i8
    linalg.yield %h : i8
  } -> tensor<1x4xi8>
  return %y : tensor<1x4xi8>"""

#: What is wrong, where (line and column, nothing for the whole file), and what is said.
REFUSED = {
    "not a function": ("func.func @main(%x: tensor<1x4xi8>", "1:34", "expected"),
    "unknown operation": (
        network(f"  %y = tosa.frobnicate %x : ({I8}) -> {I8}\n  return %y : {I8}"),
        "2:8",
        "custom op 'tosa.frobnicate' is unknown",
    ),
    "unknown value": (network(f"  return %y : {I8}"), "2:10", "use of undeclared SSA value"),
    "does not verify": (
        network(
            f"  %y = tosa.abs %x : ({I8}) -> tensor<1x5xi8>\n  return %y : tensor<1x5xi8>",
            results="tensor<1x5xi8>",
        ),
        "2:8",
        "'tosa.abs' op",
    ),
    "result of another type": (
        network("  return %x : tensor<1x4xi8>", results="tensor<1x5xi8>"),
        "2:3",
        "doesn't match function result type",
    ),
    "empty": ("  \n", "", "the file is empty"),
    "binary": ("\udcff\udcfe\udc80", "", "is neither MLIR text nor MLIR bytecode"),
    "truncated bytecode": ("ML\udcefR\x0d\x01", "", ""),
    "no UTF-8": (
        network(f"  return %x : {I8}").replace("%x: " + I8, f'%x: {I8} {{tiny.name = "a\\FFb"}}'),
        "",
        "has names or strings that are not UTF-8; export it again",
    ),
    "ends the parser": (
        network(
            f"  %y = linalg.broadcast ins(%x : {I8}) outs(%x : {I8}) dimensions = [!tosa.shape<4>]"
            f"\n  return %y : {I8}"
        ),
        "",
        "makes MLIR itself fail; see what mlir-opt says of it",
    ),
    "too deep": ("module { " * 600 + "}" * 600, "", "is nested more than 500 levels deep"),
    "too many signs": (
        f"module attributes {{tiny.a = affine_map<(d) -> ({'- ' * 600}d)>}} {{}}",
        "",
        "is nested more than 500 levels deep",
    ),
    "no function": (
        "module {}",
        "1:1",
        "'builtin.module' op has no function with a body; lower the network",
    ),
    "only a declaration": (
        f"func.func private @main({I8}) -> {I8}",
        "",
        "has no function with a body",
    ),
    "several functions": (
        network(f"  return %x : {I8}").replace("@main", "@a")
        + network(f"  return %x : {I8}").replace("@main", "@b"),
        "",
        "'builtin.module' op has several functions (@a, @b); call the network's function @main",
    ),
    "something beside it": (
        "memref.global constant @weights : memref<4xi8> = dense<1>\n"
        + network(f"  return %x : {I8}"),
        "1:1",
        "'memref.global' op stands beside the network's function",
    ),
    "unknown dialect": (
        network(f'  %y = "stablehlo.add"(%x, %x) : ({I8}, {I8}) -> {I8}\n  return %y : {I8}'),
        "2:8",
        "'stablehlo.add' op is of an unknown dialect; lower the network to linalg on tensors, or",
    ),
    "unknown dialect in its own syntax": (
        network(f"  %y = torch.aten.relu %x : {I8}\n  return %y : {I8}"),
        "2:8",
        "Dialect `torch' not found for custom op 'torch.aten.relu'; lower the network to linalg",
    ),
    "another dialect": (
        network(f"  %v = vector.broadcast %c : i8 to vector<4xi8>\n  return %x : {I8}").replace(
            "{\n", "{\n  %c = arith.constant 1 : i8\n"
        ),
        "3:8",
        "'vector.broadcast' op has no place in a network; lower the network to linalg",
    ),
    "buffers": (
        "func.func @main(%x: memref<1x4xi8>) {\n  return\n}",
        "1:1",
        "'func.func' op has the argument 0 of type memref<1x4xi8>, a buffer",
    ),
    "several blocks": (
        network(f"  cf.br ^bb1\n^bb1:\n  return %x : {I8}"),
        "1:1",
        "'func.func' op has 2 blocks; remove the control flow",
    ),
    "a call that stays": (
        f"func.func private @outside({I8}) -> {I8}\n"
        + network(f"  %y = call @outside(%x) : ({I8}) -> {I8}\n  return %y : {I8}"),
        "1:1",
        "'func.func' op stands beside the network's function",
    ),
    "a loop": (
        network(
            "  %c0 = arith.constant 0 : index\n  %c4 = arith.constant 4 : index\n"
            f"  %y = scf.for %i = %c0 to %c4 step %c4 iter_args(%a = %x) -> ({I8}) {{\n"
            f"    scf.yield %a : {I8}\n  }}\n  return %y : {I8}"
        ),
        "4:8",
        "'scf.for' op has no place in a network",
    ),
    "float argument": (
        network(f"  return %x : {I8}", f"%x: {I8}, %f: tensor<1x4xf32>"),
        "1:1",
        "has the argument 1 of type tensor<1x4xf32>, which is not quantised",
    ),
    "float result": (
        network(
            "  %y = arith.constant dense<1.0> : tensor<2xf32>\n  return %y : tensor<2xf32>",
            results="tensor<2xf32>",
        ),
        "1:1",
        "has the result 0 of type tensor<2xf32>, which is not quantised; quantise the network",
    ),
    "float inside": (
        network(
            f"  %f = tosa.cast %x : ({I8}) -> tensor<1x4xf32>\n"
            f"  %y = tosa.cast %f : (tensor<1x4xf32>) -> {I8}\n  return %y : {I8}"
        ),
        "2:8",
        "'tosa.cast' op computes in floating point; quantise the network to int8",
    ),
    "float in a body": (
        network(GENERIC_FLOAT),
        "3:8",
        "'linalg.generic' op computes in floating point, with 'arith.sitofp'",
    ),
    "an argument of words": (
        network("  return %x : tensor<4xi32>", "%x: tensor<4xi32>", "tensor<4xi32>"),
        "1:1",
        "has the argument 0 of type tensor<4xi32>, not an i8 tensor",
    ),
    "a result of words": (
        network(
            f"  %y = tosa.argmax %x {{axis = 1 : i32}} : ({I8}) -> tensor<1xi32>\n"
            "  return %y : tensor<1xi32>",
            results="tensor<1xi32>",
        ),
        "1:1",
        "has the result 0 of type tensor<1xi32>, not an i8 tensor; requantise it to i8",
    ),
    "no result": ("func.func @main(%x: tensor<4xi8>) {\n  return\n}", "1:1", "returns nothing"),
    "the input itself, of any batch": (
        network("  return %x : tensor<?x4xi8>", "%x: tensor<?x4xi8>", "tensor<?x4xi8>"),
        "1:1",
        "output 0 of @main is not",
    ),
    "the input itself": (network(f"  return %x : {I8}"), "1:1", "output 0 of @main is not"),
    "dynamic argument": (
        network("  return %x : tensor<1x?xi8>", "%x: tensor<1x?xi8>", "tensor<1x?xi8>"),
        "1:1",
        "has the argument 0 of type tensor<1x?xi8>, whose shape is dynamic; give each dimension",
    ),
    "unranked argument": (
        network("  return %x : tensor<*xi8>", "%x: tensor<*xi8>", "tensor<*xi8>"),
        "1:1",
        "whose shape is dynamic",
    ),
    "dynamic inside": (
        network(
            "  %c = arith.constant 1 : index\n"
            f"  %y = tensor.cast %x : {I8} to tensor<?x4xi8>\n"
            f"  %z = tensor.cast %y : tensor<?x4xi8> to {I8}\n  return %z : {I8}"
        ),
        "3:8",
        "'tensor.cast' op has the result 0 of type tensor<?x4xi8>, whose shape is dynamic",
    ),
    "absurd": (
        network(
            "  return %x : tensor<9999999x9999999xi8>",
            "%x: tensor<9999999x9999999xi8>",
            "tensor<9999999x9999999xi8>",
        ),
        "1:1",
        "of the absurd type tensor<9999999x9999999xi8>; tensors must have elements, and stay under",
    ),
    "absurd padding": (
        network(
            "  %c = arith.constant 0 : i8\n"
            # The sum of the sizes wraps around, so it verifies.
            "  %y = tensor.pad %x low[9223372036854775807, 0] high[9223372036854775807, 0] {\n"
            "  ^bb0(%i: index, %j: index):\n    tensor.yield %c : i8\n"
            f"  }} : tensor<3x4xi8> to {I8}\n  return %y : {I8}",
            "%x: tensor<3x4xi8>",
        ),
        "3:8",
        "'tensor.pad' op has the absurd static_low [9223372036854775807, 0]",
    ),
    "no elements": (
        network("  return %x : tensor<0x4xi8>", "%x: tensor<0x4xi8>", "tensor<0x4xi8>"),
        "1:1",
        "of the absurd type tensor<0x4xi8>",
    ),
    "missing resource": (
        network(f"  %y = arith.constant dense_resource<w> : {I8}\n  return %y : {I8}"),
        "2:8",
        "has no data for the resource 'w'; export the module again",
    ),
    "short resource": (
        network(f"  %y = arith.constant dense_resource<w> : {I8}\n  return %y : {I8}")
        + '{-# dialect_resources: { builtin: { w: "0x040000000102" } } #-}',
        "2:8",
        "has 2 bytes of data for tensor<1x4xi8>",
    ),
    "float resource": (
        network("  %y = arith.constant dense_resource<w> : tensor<1xf32>\n  return %x : " + I8)
        + '{-# dialect_resources: { builtin: { w: "0x0400000000000000" } } #-}',
        "2:8",
        "has a resource of the type tensor<1xf32>; quantise the network first",
    ),
    "weights as an argument": (
        network(
            '  %z = "tosa.const"() {values = dense<0> : tensor<1xi8>} : () -> tensor<1xi8>\n'
            "  %c = tosa.transpose_conv2d %x, %w, %b, %z, %z {acc_type = i32,"
            " out_pad = array<i64: 0, 0, 0, 0>, stride = array<i64: 1, 1>} : (tensor<1x2x2x1xi8>,"
            " tensor<1x1x1x1xi8>, tensor<1xi32>, tensor<1xi8>, tensor<1xi8>)"
            " -> tensor<1x2x2x1xi32>\n  %y = tosa.cast %c : (tensor<1x2x2x1xi32>)"
            " -> tensor<1x2x2x1xi8>\n  return %y : tensor<1x2x2x1xi8>",
            "%x: tensor<1x2x2x1xi8>, %w: tensor<1x1x1x1xi8>, %b: tensor<1xi32>",
            "tensor<1x2x2x1xi8>",
        ),
        "1:1",
        "has the argument 2 of type tensor<1xi32>, not an i8 tensor",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_taken_is_one_line(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text, place, message = REFUSED[name]
    file, folder = tmp_path / "net.mlir", tmp_path / "out"
    file.write_bytes(text.encode(errors="surrogateescape"))
    assert main(["compile", str(file), "-o", str(folder)]) == 1
    error = capsys.readouterr().err
    where = f"{file}:{place}" if place else str(file)
    assert error.startswith(f"tinymlir: error: {where}"), error
    assert message in error
    assert error.count("\n") == 1
    assert not folder.exists()


def test_a_file_that_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compile", str(tmp_path / "net.mlir"), "-o", str(tmp_path)]) == 1
    assert "net.mlir: cannot be read: No such file" in capsys.readouterr().err
