"""Calibration and quantisation."""

from __future__ import annotations

import contextlib
import io
import logging
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx
from onnx import helper, numpy_helper

from tinymlir.arrays import from_object, sample_shape, to_object
from tinymlir.bindings import ir
from tinymlir.errors import TinymlirError
from tinymlir.frontends.onnx import import_onnx
from tinymlir.frontends.onnx.operands import HOW_TO_QUANTIZE
from tinymlir.host import HostModel, compile_for_host
from tinymlir.progress import progress
from tinymlir.references import INSTALL_HINT, first_line

from .float_model import FloatModel, Floats

Method = Literal["minmax", "percentile"]
Activations = Literal["uint8", "int8"]

#: Samples of which calibration by histograms holds all tensors at a time.
_CHUNK = 16
#: Operators on several tensors or elements that the quantiser leaves in float of itself.
_QUANTIZED_TOO = (
    *("DepthToSpace", "GlobalMaxPool", "Max", "Min", "ReduceMax", "ReduceMean", "ReduceSum"),
    *("SpaceToDepth", "Sub", "Tile"),
)
#: ONNX Runtime's severities; the latter is its default.
_FATAL, _WARNING = 4, 2


@dataclass(frozen=True)
class Settings:
    """How to quantise.

    Attributes:
        method: how the range of a tensor follows from calibration: the extremes, or 99.999% of
            the values.
        activations: with ``uint8`` ONNX Runtime's default session computes the very integers that
            compiled code does; on x86-64 it computes some operators on ``int8`` in float32.
        per_channel: a scale for each output channel of weights.
        reduce_range: weights of seven bits, on which ONNX Runtime's kernels do not saturate on
            x86-64 without VNNI; compiled code never does.
    """

    method: Method = "minmax"
    activations: Activations = "uint8"
    per_channel: bool = True
    reduce_range: bool = False


@dataclass(frozen=True)
class Quantized:
    """A network before and after: ``prepared`` and ``model`` are files, the former still float.

    ``network`` is the quantised one compiled for this machine.
    """

    prepared: bytes
    model: bytes
    network: HostModel


def quantize(model: FloatModel, samples: Sequence[Floats], settings: Settings) -> Quantized:
    """Calibrate with samples that `FloatModel.fit` has fitted, and quantise to QDQ form.

    Raises:
        TinymlirError: ONNX Runtime is not installed or refuses the model, or what comes out does
            not compile.
    """
    quantization = _quantization()
    with tempfile.TemporaryDirectory() as folder, _quietly():
        given, prepared, result = (Path(folder, f"{n}.onnx") for n in ("given", "float", "int8"))
        try:
            onnx.save(model.model, given)
            quantization.quant_pre_process(given, prepared, skip_symbolic_shape=True)
            float_model = onnx.load(prepared)
            _norms_to_convolutions(float_model.graph)
            onnx.save(float_model, prepared)
            quantization.quantize_static(
                prepared,
                result,
                _reader(quantization, model.inputs, samples),
                op_types_to_quantize=_operators(quantization, float_model.graph),
                **_arguments(quantization, settings, len(samples[0])),
            )
        except Exception as error:  # its exceptions have no common base
            raise TinymlirError(
                f"ONNX Runtime cannot quantise the model: {first_line(error)}", file=model.file
            ) from error
        before, after = prepared.read_bytes(), result.read_bytes()
    return Quantized(before, after, _compiled(after, model.file))


def _quantization() -> Any:
    try:
        import onnxruntime
        import onnxruntime.quantization.registry
    except ImportError:
        raise TinymlirError(
            "networks are quantised with the package 'onnxruntime'", hint=INSTALL_HINT
        ) from None
    return onnxruntime.quantization


def _arguments(quantization: Any, settings: Settings, count: int) -> dict[str, Any]:
    """The settings in the quantiser's terms."""
    types, methods = quantization.QuantType, quantization.CalibrationMethod
    by_extremes = settings.method == "minmax"
    # Else operators that only move or select elements stay in float behind float functions.
    extra: dict[str, Any] = {"ForceQuantizeNoInputCheck": True}
    if not by_extremes:
        extra["CalibStridedMinMax"] = _chunk(count)
    return {
        "quant_format": quantization.QuantFormat.QDQ,
        "per_channel": settings.per_channel,
        "reduce_range": settings.reduce_range,
        "activation_type": types.QUInt8 if settings.activations == "uint8" else types.QInt8,
        "weight_type": types.QInt8,
        "calibrate_method": methods.MinMax if by_extremes else methods.Percentile,
        "extra_options": extra,
    }


def _operators(quantization: Any, graph: onnx.GraphProto) -> list[str]:
    """The kinds of operators to quantise.

    A function of one number is left in float: with its neighbours quantised it, or a chain of
    them, compiles to one table. But what computes an output has no such neighbour.
    """
    known = quantization.registry
    kinds = {*known.QDQRegistry, *known.QLinearOpsRegistry, *_QUANTIZED_TOO}
    producers = {name: node for node in graph.node for name in node.output}
    kinds.update(producers[o.name].op_type for o in graph.output if o.name in producers)
    return sorted(kinds)


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """The quantiser logs and warns of what does not apply or is raised as well, and prints."""
    import onnxruntime

    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    onnxruntime.set_default_logger_severity(_FATAL)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
        onnxruntime.set_default_logger_severity(_WARNING)


def _chunk(count: int) -> int:
    """The greatest divisor of ``count`` that is no greater than `_CHUNK`."""
    return max(n for n in range(1, _CHUNK + 1) if count % n == 0)


def _reader(quantization: Any, inputs: Sequence[str], samples: Sequence[Floats]) -> Any:
    """The samples as the quantiser wants them: one at a time, or chunks of them."""
    count = len(samples[0])
    shown = iter(progress(range(count), count, "calibrating"))

    class Reader(quantization.CalibrationDataReader):
        position, end = 0, count

        def __len__(self) -> int:
            return count

        def set_range(self, start_index: int, end_index: int) -> None:
            self.end = end_index

        def get_next(self) -> dict[str, Floats] | None:
            if self.position == self.end:
                if self.end == count:
                    next(shown, None)  # Lets the progress bar go.
                return None
            at = next(shown)
            self.position = at + 1
            return {name: array[at] for name, array in zip(inputs, samples, strict=True)}

    return Reader()


def _norms_to_convolutions(graph: onnx.GraphProto) -> None:
    """Batch norms that no convolution precedes, as depthwise 1x1 convolutions, which quantise."""
    constants = {tensor.name: tensor for tensor in graph.initializer}
    ranks = {
        info.name: len(info.type.tensor_type.shape.dim)
        for info in (*graph.value_info, *graph.input)
    }
    for index, node in enumerate(graph.node):
        rank = ranks.get(node.input[0], 0) if node.input else 0
        known = node.op_type == "BatchNormalization" and all(n in constants for n in node.input[1:])
        if not known or rank < 3 or any(node.output[1:]):
            continue
        epsilon = next((a.f for a in node.attribute if a.name == "epsilon"), 1e-5)
        scale, bias, mean, variance = (
            numpy_helper.to_array(constants[name]).astype(np.float64) for name in node.input[1:5]
        )
        factor = scale / np.sqrt(variance + epsilon)
        prefix = node.name or node.output[0]
        folded = {
            f"{prefix}_weights": factor.reshape(-1, *[1] * (rank - 1)),
            f"{prefix}_bias": bias - mean * factor,
        }
        for name, array in folded.items():
            graph.initializer.append(numpy_helper.from_array(array.astype(np.float32), name))
        graph.node[index].CopyFrom(
            helper.make_node(
                "Conv", [node.input[0], *folded], node.output[:1], node.name, group=len(factor)
            )
        )
    used = {name for node in graph.node for name in node.input}
    unused = [tensor for tensor in graph.initializer if tensor.name not in used]
    for tensor in unused:
        graph.initializer.remove(tensor)


def _compiled(model: bytes, file: str) -> HostModel:
    try:
        module = import_onnx(onnx.load_from_string(model), file=file, context=ir.Context())
    except TinymlirError as error:
        error.message = f"quantised, it does not compile: {error.message}"
        if error.hint == HOW_TO_QUANTIZE:
            error.hint = "replace the operator before export; docs/operators.md lists what is taken"
        raise
    return compile_for_host(module)


def float_outputs(
    done: Quantized, inputs: Sequence[str], samples: Sequence[Floats]
) -> dict[str, Floats]:
    """What the float network gives in ONNX Runtime, samples first, by output."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = _FATAL
    session = onnxruntime.InferenceSession(
        done.prepared, options, providers=["CPUExecutionProvider"]
    )
    names = [output.name for output in session.get_outputs()]
    count = len(samples[0])
    rows = [
        session.run(None, {name: array[i] for name, array in zip(inputs, samples, strict=True)})
        for i in progress(range(count), count, "evaluating")
    ]
    columns = zip(*rows, strict=True)
    return {name: np.stack(column) for name, column in zip(names, columns, strict=True)}


def quantized_outputs(
    done: Quantized, inputs: Sequence[str], samples: Sequence[Floats]
) -> dict[str, Floats]:
    """What the compiled code gives, likewise."""
    network, by_name = done.network, dict(zip(inputs, samples, strict=True))
    given = [
        to_object(by_name[info.name].reshape(-1, *sample_shape(info)), info)
        for info in network.inputs
    ]
    return {
        info.name: from_object(array, info).reshape(-1, *info.model_shape).astype(np.float32)
        for array, info in zip(network(*given), network.outputs, strict=True)
    }
