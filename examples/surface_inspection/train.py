"""Train the surface inspection network, quantise it to int8 and write both ONNX forms.

Needs PyTorch besides tinymlir's own extras::

    pip install 'tinymlir[reference]' torch
    python train.py            # a few minutes on one core
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import torch
from onnxruntime.quantization import (
    CalibrationDataReader,
    QuantFormat,
    QuantType,
    quant_pre_process,
    quantize_static,
)
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from generate import CLASSES, SIZE, as_model_input, generate

HERE = Path(__file__).parent
TRAINING_SEED, VALIDATION_SEED, CALIBRATION_SEED = 100, 200, 300


def conv(inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Sequential:
    """Convolution and batch normalisation; the latter disappears in `fold`."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(outputs),
    )


class Separable(nn.Module):
    """Depthwise 3×3, pointwise, and the input added back where the shapes allow it."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__()
        self.depthwise = conv(inputs, inputs, 3, stride, groups=inputs)
        self.pointwise = conv(inputs, outputs, 1)
        self.residual = inputs == outputs and stride == 1

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.pointwise(torch.relu(self.depthwise(x)))
        return torch.relu(x + y if self.residual else y)


class SurfaceNet(nn.Module):
    """Grey values (n × 1 × 64 × 64, 0 to 255) to one logit per class."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = conv(1, 16, 3, stride=2)
        self.body = nn.Sequential(
            Separable(16, 24),
            Separable(24, 40, stride=2),
            Separable(40, 40),
            Separable(40, 64, stride=2),
            Separable(64, 64),
            Separable(64, 64),
        )
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.head = nn.Linear(64, len(CLASSES))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.body(torch.relu(self.stem(x)))
        return self.head(self.pool(x).flatten(1))


def fold(module: nn.Module) -> nn.Module:
    """Replace every convolution with batch normalisation by one convolution with a bias."""
    for name, child in module.named_children():
        if isinstance(child, nn.Sequential) and isinstance(child[-1], nn.BatchNorm2d):
            setattr(module, name, fuse_conv_bn_eval(child[0], child[1]))
        else:
            fold(child)
    return module


def train(images: torch.Tensor, labels: torch.Tensor, epochs: int) -> nn.Module:
    """Adam with one learning-rate cycle; flips and quarter turns as augmentation."""
    torch.manual_seed(0)
    network = SurfaceNet()
    batch = 64
    steps = epochs * (len(images) // batch)
    optimiser = torch.optim.AdamW(network.parameters(), weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 6e-3, total_steps=steps)
    for epoch in range(epochs):
        total = 0.0
        for chosen in torch.randperm(len(images)).split(batch)[: len(images) // batch]:
            x = torch.rot90(images[chosen], int(torch.randint(4, ())), (2, 3))
            if torch.rand(()) < 0.5:
                x = x.flip(3)
            loss = nn.functional.cross_entropy(network(x), labels[chosen], label_smoothing=0.05)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
            total += loss.item() * batch / len(images)
        print(f"epoch {epoch + 1:2}/{epochs}: loss {total:.3f}", flush=True)
    return network.eval()


class Calibration(CalibrationDataReader):
    """Feeds images to ONNX Runtime's static quantisation, one at a time."""

    def __init__(self, images: np.ndarray) -> None:
        self.images = iter(images)

    def get_next(self) -> dict[str, np.ndarray] | None:
        image = next(self.images, None)
        return None if image is None else {"image": image[None]}


def quantise(float_model: Path, output: Path, form: QuantFormat, images: np.ndarray) -> None:
    """Static int8 quantisation, per channel, int8 activations."""
    quantize_static(
        float_model,
        output,
        Calibration(images),
        quant_format=form,
        per_channel=True,
        activation_type=QuantType.QInt8,
        weight_type=QuantType.QInt8,
    )


def accuracy(model: Path, images: np.ndarray, labels: np.ndarray) -> float:
    session = ort.InferenceSession(str(model), providers=["CPUExecutionProvider"])
    logits = [session.run(None, {"image": image[None]})[0][0] for image in images]
    return float(np.mean(np.argmax(logits, axis=1) == labels))


def main() -> None:
    parser = argparse.ArgumentParser(description="Train and quantise the surface network.")
    parser.add_argument("--epochs", type=int, default=24)
    parser.add_argument("--images", type=int, default=12000, help="number of training images")
    parser.add_argument("-o", "--output", type=Path, default=HERE, help="folder for the models")
    arguments = parser.parse_args()
    torch.set_num_threads(1)

    images, labels = generate(arguments.images, TRAINING_SEED)
    network = train(
        torch.from_numpy(as_model_input(images)), torch.from_numpy(labels), arguments.epochs
    )

    calibration = as_model_input(generate(240, CALIBRATION_SEED)[0])
    images, labels = generate(1200, VALIDATION_SEED)
    validation = as_model_input(images)
    with tempfile.TemporaryDirectory() as scratch:
        exported, prepared = Path(scratch, "float.onnx"), Path(scratch, "prepared.onnx")
        torch.onnx.export(
            fold(network),
            (torch.zeros(1, 1, SIZE, SIZE),),
            exported,
            input_names=["image"],
            output_names=["logits"],
            opset_version=17,
            dynamo=False,  # this exporter keeps GlobalAveragePool in one node
        )
        quant_pre_process(exported, prepared, skip_symbolic_shape=True)
        print(f"float: {accuracy(prepared, validation, labels):.2%}")
        for name, form in (
            ("surface_qdq.onnx", QuantFormat.QDQ),
            ("surface_qoperator.onnx", QuantFormat.QOperator),
        ):
            model = arguments.output / name
            quantise(prepared, model, form, calibration)
            onnx.checker.check_model(model)
            size = model.stat().st_size
            print(f"{name}: {accuracy(model, validation, labels):.2%}, {size} bytes")


if __name__ == "__main__":
    main()
