"""ONNX's own node tests as quantised networks: what passes, and why the others are refused.

The tests are networks of one operator, mostly of floats. Such a case becomes a QDQ network:
its float inputs are quantised with scales of their own data, operands that are weights are
int8 constants, other operands are constants as they are. Integer cases stay what they
are, with all inputs but the first made constants. ONNX Runtime says what is right.

``python test/python/onnx_backend.py docs/operators.md`` writes the table into the page.
"""

from __future__ import annotations

import re
import sys
import warnings
from collections import Counter
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import onnx
from onnx import helper
from onnx_models import Array, ModelBuilder, Quant, compiled, reference

from tinymlir.errors import TinymlirError
from tinymlir.frontends.documentation import replaced
from tinymlir.frontends.onnx import importer
from tinymlir.frontends.onnx.registry import OPERATORS

assert importer.OPERATOR_MODULES

MIN_OPSET = 13
#: The newest opset that the released ONNX Runtime takes.
MAX_OPSET = 24
#: Operators whose second input is a matrix of weights or a kernel, and where its outputs lie.
WEIGHTS = {"Conv": 0, "ConvTranspose": 1, "Gemm": 1, "MatMul": 1}
#: Operators all of whose float inputs are activations.
VARIADIC = {"Add", "Sub", "Mul", "Max", "Min", "Concat"}
#: Samples for each case: the case's own, and random ones.
SAMPLES = 4

#: Results get a scale of their own, which makes movements layers too, and ties rare.
HEADROOM = 1.0837

#: What a refusal's message says, and how the table puts it.
REASONS = (
    (r"no reference", "ONNX Runtime does not run it"),
    (r"nothing to compute", "has nothing to compute"),
    (r"an input of 5 dimensions", "three spatial dimensions"),
    (r"batch", "several images at once"),
    (r"has the type|of type|raw integers|not a positive float32|not float32", "another type"),
    (r"fit int8", "weights of nine bits"),
    (r"single numbers|several dimensions|slopes", "constants of several dimensions"),
    (r"mode|policy", "another mode"),
)


@dataclass(frozen=True)
class Case:
    """One test: its network, and the values of its inputs."""

    name: str
    node: onnx.NodeProto
    opset: int
    inputs: dict[str, Array]


@dataclass(frozen=True)
class Outcome:
    """``passed``, ``refused`` (with the message) or ``failed``."""

    verdict: str
    message: str = ""


@cache
def cases() -> list[Case]:
    """The node tests of one operator that the frontend takes."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from onnx.backend.test.case.node import collect_testcases

        found = collect_testcases(None)
    result = []
    for test in found:
        model = test.model
        if model is None or len(nodes := model.graph.node) != 1:
            continue
        if "expanded" in test.name or not test.data_sets:
            continue
        if (nodes[0].domain, nodes[0].op_type) not in OPERATORS:
            continue
        names = [info.name for info in model.graph.input]
        values = [v if v is not None else np.zeros(0) for v in test.data_sets[0][0]]
        arrays = [np.asarray(v) if not isinstance(v, list) else np.zeros(0) for v in values]
        inputs = dict(zip(names, arrays, strict=False))
        opset = max(o.version for o in model.opset_import if not o.domain)
        opset = min(max(opset, MIN_OPSET), MAX_OPSET)
        result.append(Case(test.name.removeprefix("test_"), nodes[0], opset, inputs))
    return result


def run(case: Case) -> Outcome:
    """Compile a case for this machine and compare it with ONNX Runtime."""
    try:
        with np.errstate(all="ignore"):
            model, samples = quantised(case)
            expected = reference(model, samples, integer=True)
    except Exception as error:  # what ONNX Runtime does not take is no test of ours
        return Outcome("refused", f"no reference: {type(error).__name__}")
    try:
        got = compiled(model, samples)
    except TinymlirError as error:
        return Outcome("refused", str(error))
    differing = sum(
        int((a.reshape(-1) != b.reshape(-1)).sum()) for a, b in zip(got, expected, strict=True)
    )
    return Outcome("failed", f"{differing} results differ") if differing else Outcome("passed")


def quantised(case: Case) -> tuple[onnx.ModelProto, list[Array]]:
    """The case as a quantised network, and samples for it."""
    node, b = case.node, ModelBuilder()
    floats = [n for n in node.input if n and case.inputs[n].dtype == np.float32]
    plain = node.op_type in ("QuantizeLinear", "DequantizeLinear") or "QLinear" in node.op_type
    if plain or not floats or case.inputs[node.input[0]].dtype != np.float32:
        return _integer_network(case, b)
    activations = floats if node.op_type in VARIADIC else floats[:1]
    names: list[str] = []
    samples: list[Array] = []
    for index, name in enumerate(node.input):
        array = case.inputs.get(name)
        if array is None:
            names.append("")
        elif name in activations:
            names.append(_activation(b, array, samples))
        elif index == 1 and node.op_type in WEIGHTS:
            names.append(_weights(b, array, node))
        else:
            names.append(b.constant(array))
    outputs = _append(b, node, names)
    for output, real in zip(outputs, _float_results(case), strict=True):
        if real.dtype == np.float32:
            shape = b.constant([1, *real.shape], "int64")
            y = b.node("Reshape", [b.quantize(output, _quant(real, HEADROOM)), shape])
            b.output(y, "int8", [1, *real.shape])
    return b.model(case.opset), samples


def _quant(real: Array, headroom: float = 1.0) -> Quant:
    """An int8 quantisation that covers finite reals, and somewhat more."""
    finite = real[np.isfinite(real)]
    low, high = min(float(finite.min(initial=0)), 0.0), max(float(finite.max(initial=0)), 0.0)
    scale = float(np.float32(max(high - low, 1e-3) * headroom / 255))
    return Quant(scale, int(np.clip(round(-128 - low / scale), -128, 127)))


def _activation(b: ModelBuilder, array: Array, samples: list[Array]) -> str:
    """A quantised input with a batch of one around the case's own shape."""
    quant = _quant(array)
    x = b.input([1, *array.shape], "int8")
    rng = np.random.default_rng(len(samples))
    drawn = rng.integers(-128, 128, (SAMPLES - 1, 1, *array.shape)).astype(np.int8)
    samples.append(np.concatenate([quant.integers(array)[None, None], drawn]))
    flat = b.node("Reshape", [x, b.constant(array.shape, "int64")])
    return b.dequantize(flat, quant)


def _weights(b: ModelBuilder, array: Array, node: onnx.NodeProto) -> str:
    """int8 weights with one scale, of seven bits as older processors need them."""
    scale = max(float(np.abs(array).max(initial=0)) / 63, 1e-3)
    quant = Quant(scale)
    return b.dequantize(b.constant(quant.integers(array)), quant)


def _append(b: ModelBuilder, node: onnx.NodeProto, names: list[str]) -> list[str]:
    attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    first = b.node(node.op_type, names, node.domain, outputs=len(node.output), **attributes)
    number = int(first.removeprefix("t"))
    return [f"t{number + i}" for i in range(len(node.output))]


def _float_results(case: Case) -> list[Array]:
    """What the operator makes of the case's own inputs."""
    import onnxruntime

    node = case.node
    graph = helper.make_graph(
        [node],
        "case",
        [
            helper.make_tensor_value_info(
                name, helper.np_dtype_to_tensor_dtype(array.dtype), array.shape
            )
            for name, array in case.inputs.items()
            if name in node.input
        ],
        [helper.make_empty_tensor_value_info(name) for name in node.output if name],
    )
    opsets = [helper.make_opsetid("", case.opset)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=10)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    feeds = {name: array for name, array in case.inputs.items() if name in node.input}
    return [np.asarray(result) for result in session.run(None, feeds)]


def _integer_network(case: Case, b: ModelBuilder) -> tuple[onnx.ModelProto, list[Array]]:
    """The case as it is; parameters are constants."""
    node = case.node
    names: list[str] = []
    samples: list[Array] = []
    for name in node.input:
        array = case.inputs.get(name)
        if array is None:
            names.append("")
        elif not samples:
            x = b.input([1, *array.shape], str(array.dtype))
            samples.append(np.stack([array[None]] * 2))
            names.append(b.node("Reshape", [x, b.constant(array.shape, "int64")]))
        else:
            names.append(b.constant(array))
    results = _float_results(case)
    for output, real in zip(_append(b, node, names), results, strict=True):
        dtype = str(real.dtype)
        if node.op_type == "QuantizeLinear":
            # By itself it would be the border of the network.
            output = b.node("DequantizeLinear", [output, *names[1:]])
        if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            real, dtype = real.astype(np.float32), "int8"
            output = b.quantize(output, _quant(real, HEADROOM))
        y = b.node("Reshape", [output, b.constant([1, *real.shape], "int64")])
        b.output(y, dtype, [1, *real.shape])
    return b.model(case.opset), samples


def reason(message: str) -> str:
    """A refusal in the words of the table."""
    for pattern, words in REASONS:
        if re.search(pattern, message):
            return words
    return "another form"


def table(found: dict[str, list[tuple[str, Outcome]]]) -> str:
    """Operators, how many of their cases pass, and why others are refused."""
    rows = ["| Operator | Cases | Equal | Not supported |", "| --- | --- | --- | --- |"]
    totals = Counter[str]()
    for op in sorted(found):
        verdicts = Counter(outcome.verdict for _, outcome in found[op])
        totals += verdicts
        refused = Counter(reason(o.message) for _, o in found[op] if o.verdict == "refused")
        words = "; ".join(f"{n}: {why}" for why, n in sorted(refused.items()))
        rows.append(f"| `{op}` | {len(found[op])} | {verdicts['passed']} | {words} |")
    count = sum(totals.values())
    rows.append(f"| all | {count} | {totals['passed']} | {totals['refused']} |")
    return "\n".join(rows) + "\n"


def by_operator() -> dict[str, list[tuple[str, Outcome]]]:
    """The outcome of every case, by name of the operator."""
    found: dict[str, list[tuple[str, Outcome]]] = {}
    for case in cases():
        found.setdefault(case.node.op_type, []).append((case.name, run(case)))
    return found


def main() -> None:
    found = by_operator()
    page = Path(sys.argv[1])
    page.write_text(replaced(page.read_text(), "backend: onnx", table(found)))


if __name__ == "__main__":
    main()
