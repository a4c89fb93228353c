"""A small convolutional network in the style of LeNet-5, quantised, random weights.

    python benchmarks/lenet.py -o lenet.onnx
    python benchmarks/networks.py lenet.onnx --targets cortex-m4

32 x 32 x 3; 3 x 3 convolutions without padding to 32, 64 and 64 channels, the first two followed by
2 x 2 max-pooling; dense layers of 64 and 10: 4,548,608 MACs. The shape of the CIFAR-10 networks
that others publish figures of.
"""

from __future__ import annotations

import sys

import onnx
import random_network
from random_network import Builder

RESOLUTION = 32
CONVOLUTIONS = (32, 64, 64)
DENSE = (64, 10)


def lenet() -> onnx.ModelProto:
    """The float network: input ``1 x 3 x 32 x 32``, output ``1 x 10``."""
    builder, size = Builder(3, RESOLUTION, RESOLUTION), RESOLUTION
    for index, channels in enumerate(CONVOLUTIONS):
        builder.conv(f"conv{index}", channels, 3, 1, [0, 0], depthwise=False)
        builder.relu()
        size -= 2
        if index < len(CONVOLUTIONS) - 1:
            pool = {"kernel_shape": [2, 2], "strides": [2, 2]}
            builder.node("MaxPool", f"pool{index}", [builder.last], **pool)
            size //= 2
    builder.node("Flatten", "features", [builder.last])
    builder.dense("dense0", size * size * builder.channels, DENSE[0])
    builder.relu()
    builder.dense("dense1", *DENSE)
    return builder.model("lenet")


def main() -> int:
    args = random_network.parser(__doc__).parse_args()
    return random_network.write(lenet(), args.output)


if __name__ == "__main__":
    sys.exit(main())
