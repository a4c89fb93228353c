"""MobileNetV2 of any width and resolution, quantised, random weights: a network to plan RAM for.

    python benchmarks/mobilenet.py -o mobilenet_v2.onnx                     0.35 wide, 144 x 144
    python benchmarks/mobilenet.py -o big.onnx --width 1 --resolution 224

Layers are those of table 2 of Sandler et al., "MobileNetV2: Inverted Residuals and Linear
Bottlenecks" (CVPR 2018), channels rounded to multiples of 8 as its authors' code does. Weights
are drawn so that activations keep their size (He et al., 2015) and calibrated on noise: outputs
mean nothing, shapes, costs and arithmetic are those of the trained network.
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

#: Expansion, channels, repeats and stride of the first: table 2 of the paper.
BOTTLENECKS = (
    *((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2)),
    *((6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1)),
)
FIRST, LAST, CLASSES = 32, 1280, 1000
CALIBRATION_SAMPLES = 4


def rounded(channels: float) -> int:
    """The multiple of 8 nearest to ``channels``, at least 8 and 90 % of them."""
    nearest = max(8, int(channels + 4) // 8 * 8)
    return nearest if nearest >= 0.9 * channels else nearest + 8


class Builder:
    """A float ONNX graph that grows layer by layer."""

    def __init__(self, resolution: int) -> None:
        self._random = np.random.default_rng(0)
        self._nodes: list[onnx.NodeProto] = []
        self._weights: list[onnx.TensorProto] = []
        self._input = helper.make_tensor_value_info(
            "image", TensorProto.FLOAT, [1, 3, resolution, resolution]
        )
        self.last, self.channels = "image", 3

    def constant(self, name: str, array: np.ndarray) -> str:
        self._weights.append(numpy_helper.from_array(array.astype(np.float32), name))
        return name

    def node(self, op: str, name: str, inputs: list[str], **attributes: object) -> None:
        self._nodes.append(helper.make_node(op, inputs, [name], name=name, **attributes))
        self.last = name

    def conv(
        self, name: str, channels: int, kernel: int, stride: int, *, depthwise: bool, relu: bool
    ) -> None:
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
            pads=[kernel // 2] * 4,
            group=channels if depthwise else 1,
        )
        self.channels = channels
        if relu:
            limits = [
                self.constant(f"{name}_{k}", np.array(v)) for k, v in (("min", 0), ("max", 6))
            ]
            self.node("Clip", f"{name}_relu6", [name, *limits])

    def bottleneck(self, name: str, expansion: int, channels: int, stride: int) -> None:
        """An inverted residual: expand, filter each channel, project; added where shapes agree."""
        source, inside = self.last, self.channels
        if expansion != 1:
            self.conv(f"{name}_expand", inside * expansion, 1, 1, depthwise=False, relu=True)
        self.conv(f"{name}_depthwise", self.channels, 3, stride, depthwise=True, relu=True)
        self.conv(f"{name}_project", channels, 1, 1, depthwise=False, relu=False)
        if stride == 1 and inside == channels:
            self.node("Add", f"{name}_add", [source, self.last])

    def classifier(self, classes: int) -> None:
        weights = self._random.standard_normal((self.channels, classes)) * self.channels**-0.5
        self.node("GlobalAveragePool", "pool", [self.last])
        self.node("Flatten", "features", ["pool"])
        bias = self.constant("classifier_bias", np.zeros(classes))
        matrix = self.constant("classifier_weights", weights)
        self.node("Gemm", "scores", ["features", matrix, bias])

    def model(self) -> onnx.ModelProto:
        output = helper.make_tensor_value_info(self.last, TensorProto.FLOAT, [1, CLASSES])
        graph = helper.make_graph(
            self._nodes, "mobilenet_v2", [self._input], [output], self._weights
        )
        opset = [helper.make_opsetid("", 17)]
        return helper.make_model(graph, opset_imports=opset, ir_version=8)


def mobilenet_v2(width: float, resolution: int) -> onnx.ModelProto:
    """The float network: input ``1 x 3 x resolution x resolution``, output ``1 x 1000``."""
    builder = Builder(resolution)
    builder.conv("first", rounded(FIRST * width), 3, 2, depthwise=False, relu=True)
    index = 0
    for expansion, channels, repeats, stride in BOTTLENECKS:
        for repeat in range(repeats):
            step = stride if repeat == 0 else 1
            builder.bottleneck(f"block{index}", expansion, rounded(channels * width), step)
            index += 1
    # The last convolution does not shrink below that of the full width (section 4 of the paper)
    # in the authors' ImageNet models; microcontroller variants let it.
    builder.conv("last", rounded(LAST * width), 1, 1, depthwise=False, relu=True)
    builder.classifier(CLASSES)
    return builder.model()


def quantised(model: onnx.ModelProto) -> bytes:
    """``model`` in QDQ form, calibrated on noise."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "mobilenet_v2.onnx")
        onnx.save(model, path)
        network = FloatModel(path)
        shape = [d.dim_value for d in model.graph.input[0].type.tensor_type.shape.dim]
        noise = np.random.default_rng(1).uniform(-1, 1, (CALIBRATION_SAMPLES, *shape[1:]))
        samples = network.fit([noise.astype(np.float32)])
        return quantize(network, samples, Settings()).model


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FILE")
    parser.add_argument("--width", type=float, default=0.35, help="multiplier of all channels")
    parser.add_argument("--resolution", type=int, default=144, help="rows and columns of the input")
    args = parser.parse_args()
    try:
        data = quantised(mobilenet_v2(args.width, args.resolution))
        write_all(args.output.parent, {args.output.name: data})
    except TinymlirError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
