"""Float networks with random weights, layer by layer, and their quantised form.

Weights are drawn so that activations keep their size (He et al., 2015) and calibrated on noise:
outputs mean nothing, shapes, costs and arithmetic are those of a trained network.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from tinymlir.errors import TinymlirError
from tinymlir.files import write_all
from tinymlir.quantizer import FloatModel, Settings, quantize

CALIBRATION_SAMPLES = 4


class Builder:
    """A float ONNX graph of one input of ``shape``, that grows layer by layer."""

    def __init__(self, *shape: int) -> None:
        self._random = np.random.default_rng(0)
        self._nodes: list[onnx.NodeProto] = []
        self._weights: list[onnx.TensorProto] = []
        self._input = helper.make_tensor_value_info("input", TensorProto.FLOAT, [1, *shape])
        self.last, self.channels = "input", shape[0]

    def constant(self, name: str, array: np.ndarray) -> str:
        self._weights.append(numpy_helper.from_array(array.astype(np.float32), name))
        return name

    def node(self, op: str, name: str, inputs: list[str], **attributes: object) -> None:
        self._nodes.append(helper.make_node(op, inputs, [name], name=name, **attributes))
        self.last = name

    def conv(
        self,
        name: str,
        channels: int,
        kernel: int,
        stride: int,
        pads: list[int],
        *,
        depthwise: bool,
    ) -> None:
        """``pads``: above and left, below and right of the input."""
        inside = 1 if depthwise else self.channels
        fan_in = inside * kernel * kernel
        shape = (channels, inside, kernel, kernel)
        weights = self._random.standard_normal(shape) * (2 / fan_in) ** 0.5
        bias = self._random.standard_normal(channels) * 0.1
        self.node(
            "Conv",
            name,
            [
                self.last,
                self.constant(f"{name}_weights", weights),
                self.constant(f"{name}_bias", bias),
            ],
            kernel_shape=[kernel, kernel],
            strides=[stride, stride],
            pads=[pads[0]] * 2 + [pads[1]] * 2,
            group=channels if depthwise else 1,
        )
        self.channels = channels

    def relu(self) -> None:
        self.node("Relu", f"{self.last}_relu", [self.last])

    def dense(self, name: str, inputs: int, outputs: int) -> None:
        weights = self._random.standard_normal((inputs, outputs)) * inputs**-0.5
        bias = self.constant(f"{name}_bias", np.zeros(outputs))
        self.node("Gemm", name, [self.last, self.constant(f"{name}_weights", weights), bias])
        self.channels = outputs

    def model(self, name: str) -> onnx.ModelProto:
        """The network up to the last layer, a vector of ``channels``."""
        output = helper.make_tensor_value_info(self.last, TensorProto.FLOAT, [1, self.channels])
        graph = helper.make_graph(self._nodes, name, [self._input], [output], self._weights)
        opset = [helper.make_opsetid("", 17)]
        return helper.make_model(graph, opset_imports=opset, ir_version=8)


def quantised(model: onnx.ModelProto) -> bytes:
    """``model`` in QDQ form, calibrated on noise."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "float.onnx")
        onnx.save(model, path)
        network = FloatModel(path)
        shape = [d.dim_value for d in model.graph.input[0].type.tensor_type.shape.dim]
        noise = np.random.default_rng(1).uniform(-1, 1, (CALIBRATION_SAMPLES, *shape[1:]))
        samples = network.fit([noise.astype(np.float32)])
        return quantize(network, samples, Settings()).model


def parser(description: str | None) -> argparse.ArgumentParser:
    """The command line that these networks have in common: where to write them."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FILE")
    return parser


def write(model: onnx.ModelProto, output: Path) -> int:
    """Writes ``model`` quantised; the exit status."""
    try:
        write_all(output.parent, {output.name: quantised(model)})
    except TinymlirError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0
