"""Train the LeNet and the AlexNet-like network of the skipping benchmark on CIFAR-10.

Needs PyTorch and Pillow besides tinymlir::

    pip install 'tinymlir[reference]' torch pillow
    python train.py lenet --data cifar10/ -o lenet.onnx

``--data`` is the folder of ``cifar10_train_jpeg.npz`` (JPEG images to train on) and
``cifar10_exact.npz`` (images held out for calibration and for the test). Training images
that are in ``x_calibration`` are left out, so that what is chosen on those is not chosen
on images that the network has learnt.
"""

from __future__ import annotations

import argparse
import io
import itertools
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

SEED = 7
BATCH = 128
#: Pixels by which a training image is shifted at most.
SHIFT = 3


def conv(inputs: int, outputs: int, pad: int = 0) -> list[nn.Module]:
    """3×3 convolution, batch normalisation (which `fold` removes) and ReLU."""
    layer = nn.Conv2d(inputs, outputs, 3, padding=pad, bias=False)
    return [layer, nn.BatchNorm2d(outputs), nn.ReLU()]


def lenet() -> nn.Sequential:
    """Three valid convolutions to 32, 64, 64 channels, dense 64 and 10: 4,548,608 MACs."""
    return nn.Sequential(
        *conv(3, 32),
        nn.MaxPool2d(2),
        *conv(32, 64),
        nn.MaxPool2d(2),
        *conv(64, 64),
        nn.Flatten(),
        nn.Linear(1024, 64),
        nn.ReLU(),
        nn.Linear(64, 10),
    )


def alexnet() -> nn.Sequential:
    """Five convolutions, as AlexNet, to 32, 64, 96, 96, 64 channels: 18,055,808 MACs."""
    return nn.Sequential(
        *conv(3, 32, 1),
        nn.MaxPool2d(2),
        *conv(32, 64, 1),
        nn.MaxPool2d(2),
        *conv(64, 96, 1),
        *conv(96, 96, 1),
        *conv(96, 64, 1),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(1024, 64),
        nn.ReLU(),
        nn.Linear(64, 10),
    )


NETWORKS = {"lenet": lenet, "alexnet": alexnet}


def fold(network: nn.Sequential) -> nn.Sequential:
    """The same function without batch normalisation."""
    layers: list[nn.Module] = []
    for layer in network.eval():
        if isinstance(layer, nn.BatchNorm2d):
            layers[-1] = fuse_conv_bn_eval(layers[-1], layer)
        else:
            layers.append(layer)
    return nn.Sequential(*layers).eval()


def training_images(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Images (N, 32, 32, 3) uint8 and labels, without those of ``x_calibration``."""
    with np.load(folder / "cifar10_train_jpeg.npz") as data:
        jpeg, offsets, labels = data["jpeg"], data["offsets"], data["labels"]
    images = np.stack(
        [
            np.asarray(Image.open(io.BytesIO(jpeg[a:b].tobytes())).convert("RGB"))
            for a, b in itertools.pairwise(offsets)
        ]
    )
    with np.load(folder / "cifar10_exact.npz") as data:
        held_out = _thumbnails(data["x_calibration"])
    ours = _thumbnails(images)
    distance = (ours**2).sum(1) - 2 * held_out @ ours.T
    keep = np.ones(len(images), bool)
    keep[distance.argmin(1)] = False
    return images[keep], labels[keep].astype(np.int64)


def _thumbnails(images: np.ndarray) -> np.ndarray:
    """8×8 means, which recompression hardly changes, as rows."""
    blocks = images.reshape(len(images), 8, 4, 8, 4, 3).astype(np.float32)
    return blocks.mean((2, 4)).reshape(len(images), -1)


def as_input(images: np.ndarray) -> np.ndarray:
    """Pixels as the networks take them: float32 NCHW, pixel − 128."""
    return images.transpose(0, 3, 1, 2).astype(np.float32) - 128


def augment(batch: torch.Tensor, random: np.random.Generator) -> torch.Tensor:
    """Mirror half of the images and shift the batch."""
    flip = torch.from_numpy(random.random(len(batch)) < 0.5)
    batch = torch.where(flip[:, None, None, None], batch.flip(3), batch)
    down, right = (int(s) for s in random.integers(-SHIFT, SHIFT + 1, 2))
    padded = nn.functional.pad(batch, [SHIFT] * 4)
    return padded[:, :, SHIFT + down :, SHIFT + right :][:, :, :32, :32]


def train(network: nn.Sequential, images: np.ndarray, labels: np.ndarray, epochs: int) -> None:
    """Stochastic gradient descent with one cycle of the learning rate, in place."""
    random = np.random.default_rng(SEED)
    steps = len(images) // BATCH
    optimizer = torch.optim.SGD(
        network.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4, nesterov=True
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.1, epochs * steps)
    network.train()
    for epoch in range(epochs):
        total = 0.0
        order = random.permutation(len(images))
        for step in range(steps):
            picked = order[step * BATCH : (step + 1) * BATCH]
            x = augment(torch.from_numpy(as_input(images[picked]) / 64), random)
            loss = nn.functional.cross_entropy(
                network(x.contiguous(memory_format=torch.channels_last)),
                torch.from_numpy(labels[picked]),
                label_smoothing=0.05,
            )
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            total += loss.item()
        print(f"epoch {epoch + 1} of {epochs}: loss {total / steps:.3f}", flush=True)


def accuracy(network: nn.Sequential, images: np.ndarray, labels: np.ndarray) -> float:
    network.eval()
    with torch.no_grad():
        scores = network(torch.from_numpy(as_input(images) / 64))
    return float((scores.argmax(1).numpy() == labels).mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("network", choices=NETWORKS)
    parser.add_argument("--data", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("-o", "--output", type=Path, required=True, help="float32 ONNX file")
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.manual_seed(SEED)
    torch.set_num_threads(arguments.threads)
    images, labels = training_images(arguments.data)
    network = NETWORKS[arguments.network]().to(memory_format=torch.channels_last)
    train(network, images, labels, arguments.epochs)
    folded = fold(network)
    with torch.no_grad():
        folded[0].weight /= 64
    with np.load(arguments.data / "cifar10_exact.npz") as data:
        right = accuracy(network, data["x_calibration"], data["y_calibration"])
    print(f"held-out accuracy {right:.4f}")
    torch.onnx.export(
        folded,
        (torch.zeros(1, 3, 32, 32),),
        str(arguments.output),
        input_names=["image"],
        output_names=["scores"],
        dynamo=False,
    )


if __name__ == "__main__":
    main()
