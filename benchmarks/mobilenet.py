"""MobileNetV2 of any width and resolution, quantised, random weights: a network to plan RAM for.

    python benchmarks/mobilenet.py -o mobilenet_v2.onnx                     0.35 wide, 144 x 144
    python benchmarks/mobilenet.py -o big.onnx --width 1 --resolution 224

Layers are those of table 2 of Sandler et al., "MobileNetV2: Inverted Residuals and Linear
Bottlenecks" (CVPR 2018), channels rounded to multiples of 8 as its authors' code does. Weights
are drawn so that activations keep their size (He et al., 2015) and calibrated on noise: outputs
mean nothing, shapes, costs and arithmetic are those of the trained network.
"""

from __future__ import annotations

import sys

import numpy as np
import onnx
import random_network

#: Expansion, channels, repeats and stride of the first: table 2 of the paper.
BOTTLENECKS = (
    *((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2)),
    *((6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1)),
)
FIRST, LAST, CLASSES = 32, 1280, 1000


def rounded(channels: float) -> int:
    """The multiple of 8 nearest to ``channels``, at least 8 and 90 % of them."""
    nearest = max(8, int(channels + 4) // 8 * 8)
    return nearest if nearest >= 0.9 * channels else nearest + 8


class Builder(random_network.Builder):
    """A float ONNX graph that grows layer by layer."""

    def filter(
        self, name: str, channels: int, kernel: int, stride: int, *, depthwise: bool, relu: bool
    ) -> None:
        """A convolution that keeps rows and columns, but for the stride."""
        self.conv(name, channels, kernel, stride, [kernel // 2] * 2, depthwise=depthwise)
        if relu:
            limits = [
                self.constant(f"{name}_{k}", np.array(v)) for k, v in (("min", 0), ("max", 6))
            ]
            self.node("Clip", f"{name}_relu6", [name, *limits])

    def bottleneck(self, name: str, expansion: int, channels: int, stride: int) -> None:
        """An inverted residual: expand, filter each channel, project; added where shapes agree."""
        source, inside = self.last, self.channels
        if expansion != 1:
            self.filter(f"{name}_expand", inside * expansion, 1, 1, depthwise=False, relu=True)
        self.filter(f"{name}_depthwise", self.channels, 3, stride, depthwise=True, relu=True)
        self.filter(f"{name}_project", channels, 1, 1, depthwise=False, relu=False)
        if stride == 1 and inside == channels:
            self.node("Add", f"{name}_add", [source, self.last])

    def classifier(self, classes: int) -> None:
        self.node("GlobalAveragePool", "pool", [self.last])
        self.node("Flatten", "features", ["pool"])
        self.dense("scores", self.channels, classes)


def mobilenet_v2(width: float, resolution: int) -> onnx.ModelProto:
    """The float network: input ``1 x 3 x resolution x resolution``, output ``1 x 1000``."""
    builder = Builder(3, resolution, resolution)
    builder.filter("first", rounded(FIRST * width), 3, 2, depthwise=False, relu=True)
    index = 0
    for expansion, channels, repeats, stride in BOTTLENECKS:
        for repeat in range(repeats):
            step = stride if repeat == 0 else 1
            builder.bottleneck(f"block{index}", expansion, rounded(channels * width), step)
            index += 1
    # The last convolution does not shrink below that of the full width (section 4 of the paper)
    # in the authors' ImageNet models; microcontroller variants let it.
    builder.filter("last", rounded(LAST * width), 1, 1, depthwise=False, relu=True)
    builder.classifier(CLASSES)
    return builder.model("mobilenet_v2")


def main() -> int:
    parser = random_network.parser(__doc__)
    parser.add_argument("--width", type=float, default=0.35, help="multiplier of all channels")
    parser.add_argument("--resolution", type=int, default=144, help="rows and columns of the input")
    args = parser.parse_args()
    return random_network.write(mobilenet_v2(args.width, args.resolution), args.output)


if __name__ == "__main__":
    sys.exit(main())
