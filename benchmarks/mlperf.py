"""Two networks of MLPerf Tiny, quantised, random weights: shapes that vendors publish figures of.

    python benchmarks/mlperf.py visual-wake-words -o vww.onnx     MobileNetV1, 0.25 wide, 96 x 96
    python benchmarks/mlperf.py anomaly-detection -o ad.onnx      an autoencoder of dense layers
    python benchmarks/networks.py vww.onnx ad.onnx --targets cortex-m4

Layers are those of the reference models of Banbury et al., "MLPerf Tiny Benchmark" (NeurIPS 2021,
table 1): 7,489,664 and 264,192 MACs. Its two other networks are ResNet-8 and DS-CNN.
"""

from __future__ import annotations

import sys

import onnx
import random_network
from random_network import Builder

#: Channels and stride of the depthwise separable blocks: Howard et al., "MobileNets" (2017),
#: table 1, a quarter of the channels.
BLOCKS = (
    *((16, 1), (32, 2), (32, 1), (64, 2), (64, 1), (128, 2)),
    *(((128, 1),) * 5),
    *((256, 2), (256, 1)),
)
RESOLUTION, CLASSES = 96, 2
#: Outputs of the autoencoder's dense layers; it gets five frames of 128 mel bands.
CODES = (128, 128, 128, 128, 8, 128, 128, 128, 128, 640)


def visual_wake_words() -> onnx.ModelProto:
    """Input ``1 x 3 x 96 x 96``, output ``1 x 2``."""
    builder = Builder(3, RESOLUTION, RESOLUTION)

    def filter(name: str, channels: int, kernel: int, stride: int, *, depthwise: bool) -> None:
        # as TensorFlow's "same" padding: of what stride 2 wants, all is below and right
        pads = [kernel // 2 if stride == 1 else 0, kernel // 2]
        builder.conv(name, channels, kernel, stride, pads, depthwise=depthwise)
        builder.relu()

    filter("first", 8, 3, 2, depthwise=False)
    for index, (channels, stride) in enumerate(BLOCKS):
        filter(f"depthwise{index}", builder.channels, 3, stride, depthwise=True)
        filter(f"pointwise{index}", channels, 1, 1, depthwise=False)
    builder.node("GlobalAveragePool", "pool", [builder.last])
    builder.node("Flatten", "features", ["pool"])
    builder.dense("scores", builder.channels, CLASSES)
    builder.node("Softmax", "probabilities", [builder.last], axis=1)
    return builder.model("visual_wake_words")


def anomaly_detection() -> onnx.ModelProto:
    """Input and output ``1 x 640``."""
    builder = Builder(5 * 128)
    for index, outputs in enumerate(CODES):
        if index:
            builder.relu()
        builder.dense(f"dense{index}", builder.channels, outputs)
    return builder.model("anomaly_detection")


NETWORKS = {"visual-wake-words": visual_wake_words, "anomaly-detection": anomaly_detection}


def main() -> int:
    parser = random_network.parser(__doc__)
    parser.add_argument("network", choices=NETWORKS)
    args = parser.parse_args()
    return random_network.write(NETWORKS[args.network](), args.output)


if __name__ == "__main__":
    sys.exit(main())
