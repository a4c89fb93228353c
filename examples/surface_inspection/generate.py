"""Synthetic grey images of machined surfaces, one defect class per image.

Needs numpy alone. The same count and seed give the same images::

    python generate.py --count 300 --seed 7 -o samples.npz
"""

from __future__ import annotations

import argparse
import struct
import zlib
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt

CLASSES = ("good", "scratch", "crack", "dent", "stain", "pits")
SIZE = 64

Image = npt.NDArray[np.float64]
Pixels = npt.NDArray[np.uint8]

_ROWS, _COLUMNS = np.meshgrid(np.arange(SIZE), np.arange(SIZE), indexing="ij")
_FY, _FX = np.meshgrid(np.fft.fftfreq(SIZE), np.fft.fftfreq(SIZE), indexing="ij")


def generate(count: int, seed: int) -> tuple[Pixels, npt.NDArray[np.int64]]:
    """``count`` images (count × 64 × 64, grey values) and their labels (index into `CLASSES`).

    Classes alternate, so that every prefix is balanced.
    """
    labels = np.arange(count, dtype=np.int64) % len(CLASSES)
    images = [_image(np.random.default_rng([seed, i]), CLASSES[c]) for i, c in enumerate(labels)]
    return np.stack(images), labels


def as_model_input(images: Pixels) -> npt.NDArray[np.float32]:
    """Images as the network takes them: count × 1 × 64 × 64, grey values 0 to 255 as floats."""
    return images[:, None].astype(np.float32)


def _image(rng: np.random.Generator, label: str) -> Pixels:
    surface = _texture(rng) + _defect(rng, label)
    angle = rng.uniform(0, 2 * np.pi)
    slope = (np.cos(angle) * _COLUMNS + np.sin(angle) * _ROWS) / SIZE
    lighting = rng.uniform(90, 165) * (1 + rng.uniform(0, 0.45) * (slope - slope.mean()))
    grey = lighting * (1 + surface) + rng.normal(0, rng.uniform(2, 6), surface.shape)
    # A dead and a hot pixel, as cheap sensors have: the grey values always span 0 to 255,
    # so calibration finds scale 1 and the firmware's input is simply `pixel - 128`.
    grey.flat[rng.choice(grey.size, 2, replace=False)] = 0, 255
    return np.clip(np.rint(grey), 0, 255).astype(np.uint8)


def _smooth_noise(rng: np.random.Generator, along: float, across: float, angle: float) -> Image:
    """Gaussian noise of unit variance, smooth over ``along`` × ``across`` pixels at ``angle``."""
    u = np.cos(angle) * _FX + np.sin(angle) * _FY
    v = np.cos(angle) * _FY - np.sin(angle) * _FX
    response = np.exp(-2 * np.pi**2 * ((u * along) ** 2 + (v * across) ** 2))
    noise = np.fft.ifft2(np.fft.fft2(rng.normal(size=(SIZE, SIZE))) * response).real
    return (noise - noise.mean()) / noise.std()


def _texture(rng: np.random.Generator) -> Image:
    """Relative brightness of a surface without defects: brushed, cast or milled."""
    kind = rng.integers(3)
    angle = rng.uniform(0, np.pi)
    strength = rng.uniform(0.03, 0.08)
    mottle = rng.uniform(0, 0.03) * _smooth_noise(rng, 8, 8, 0)
    if kind == 0:  # brushed: long grain in one direction
        return mottle + strength * _smooth_noise(rng, 12, 0.5, angle)
    if kind == 1:  # cast: grain without direction
        return mottle + strength * _smooth_noise(rng, 1.2, 1.2, 0)
    distance = np.cos(angle) * _COLUMNS + np.sin(angle) * _ROWS  # milled: regular arcs
    bend = rng.uniform(-0.01, 0.01) * (_COLUMNS - SIZE / 2) * (_ROWS - SIZE / 2) / 4
    period = rng.uniform(4, 9)
    grooves = np.sin(2 * np.pi * (distance + bend) / period + rng.uniform(0, 2 * np.pi))
    return mottle + strength * (grooves + 0.4 * _smooth_noise(rng, 0.7, 0.7, 0))


def _defect(rng: np.random.Generator, label: str) -> Image:
    """Relative change of brightness that the defect makes."""
    sign = rng.choice((-1.0, 1.0))
    if label == "scratch":
        return _scratch(rng, sign)
    if label == "crack":
        return _crack(rng)
    if label == "dent":
        return _dent(rng)
    if label == "stain":
        return _stain(rng, sign)
    if label == "pits":
        return _pits(rng, int(rng.integers(5, 16)), spread=rng.uniform(6, 14))
    # Good surfaces carry dust: too little of it to be a cluster of pits.
    return _pits(rng, int(rng.integers(0, 3)), spread=40)


def _polyline(points: npt.NDArray[np.float64]) -> Image:
    """Distance in pixels of every pixel from the line through ``points`` (n × 2: row, column)."""
    nearest = np.full((SIZE, SIZE), np.inf)
    for (r0, c0), (r1, c1) in pairwise(points):
        dr, dc = r1 - r0, c1 - c0
        along = ((_ROWS - r0) * dr + (_COLUMNS - c0) * dc) / max(dr * dr + dc * dc, 1e-9)
        along = np.clip(along, 0, 1)
        distance = np.hypot(_ROWS - r0 - along * dr, _COLUMNS - c0 - along * dc)
        nearest = np.minimum(nearest, distance)
    return nearest


def _scratch(rng: np.random.Generator, sign: float) -> Image:
    """A long, gently curved line of even width that fades in and out."""
    centre, angle = rng.uniform(14, SIZE - 14, 2), rng.uniform(0, np.pi)
    length, bow = rng.uniform(28, 60), rng.uniform(-4, 4)
    t = np.linspace(-0.5, 0.5, 9)[:, None]
    direction = np.array([np.sin(angle), np.cos(angle)])
    normal = np.array([direction[1], -direction[0]])
    points = centre + t * length * direction + (0.25 - t**2) * 4 * bow * normal
    profile = np.exp(-((_polyline(points) / rng.uniform(0.6, 1.0)) ** 2))
    fade = 1 + 0.35 * _smooth_noise(rng, 5, 5, 0)
    return sign * rng.uniform(0.22, 0.5) * profile * np.clip(fade, 0, 1.5)


def _crack(rng: np.random.Generator) -> Image:
    """A dark, jagged path with branches."""
    heading = rng.uniform(0, 2 * np.pi)
    start = SIZE / 2 + rng.uniform(-16, 16, 2) - 14 * np.array([np.sin(heading), np.cos(heading)])
    trunk = _walk(rng, start, heading, int(rng.integers(7, 13)))
    distance = _polyline(trunk)
    for _ in range(rng.integers(1, 4)):
        fork = trunk[rng.integers(1, len(trunk) - 1)]
        turn = heading + rng.choice((-1, 1)) * rng.uniform(0.6, 1.2)
        distance = np.minimum(distance, _polyline(_walk(rng, fork, turn, int(rng.integers(2, 6)))))
    width = rng.uniform(0.5, 0.9) * (1 + 0.3 * _smooth_noise(rng, 3, 3, 0))
    return -rng.uniform(0.25, 0.5) * np.exp(-((distance / np.clip(width, 0.35, 2)) ** 2))


def _walk(
    rng: np.random.Generator, start: npt.NDArray[np.float64], heading: float, steps: int
) -> npt.NDArray[np.float64]:
    headings = heading + rng.normal(0, 0.65, steps)
    lengths = rng.uniform(2, 5, steps)
    moves = lengths[:, None] * np.stack([np.sin(headings), np.cos(headings)], axis=1)
    return np.concatenate([start[None], start + np.cumsum(moves, axis=0)])


def _dent(rng: np.random.Generator) -> Image:
    """A shallow bowl: one flank faces the light, the other lies in shade."""
    row, column = rng.uniform(14, SIZE - 14, 2)
    angle, radius = rng.uniform(0, 2 * np.pi), rng.uniform(4, 10)
    y, x = (_ROWS - row) / radius, (_COLUMNS - column) / (radius * rng.uniform(0.8, 1.25))
    return rng.uniform(0.35, 0.7) * (np.cos(angle) * x + np.sin(angle) * y) * np.exp(-x * x - y * y)


def _stain(rng: np.random.Generator, sign: float) -> Image:
    """An irregular patch with a soft edge and some structure inside."""
    row, column = rng.uniform(16, SIZE - 16, 2)
    radius = rng.uniform(7, 15)
    reach = 1 - np.hypot(_ROWS - row, _COLUMNS - column) / radius
    edge = reach + rng.uniform(0.15, 0.35) * _smooth_noise(rng, 3.5, 3.5, 0)
    patch = 1 / (1 + np.exp(-edge / rng.uniform(0.06, 0.16)))
    return sign * rng.uniform(0.18, 0.4) * patch * (1 + 0.2 * _smooth_noise(rng, 2, 2, 0))


def _pits(rng: np.random.Generator, count: int, spread: float) -> Image:
    """Small dark holes scattered around one point."""
    centre = rng.uniform(14, SIZE - 14, 2)
    pits = np.zeros((SIZE, SIZE))
    for _ in range(count):
        row, column = centre + rng.normal(0, spread / 2, 2)
        radius = rng.uniform(0.8, 1.5)
        hole = np.exp(-((_ROWS - row) ** 2 + (_COLUMNS - column) ** 2) / radius**2)
        pits = np.maximum(pits, rng.uniform(0.25, 0.5) * hole)
    return -pits


def contact_sheet(columns: int, seed: int) -> bytes:
    """A PNG file with ``columns`` examples of each class, one class per row."""
    images, _ = generate(columns * len(CLASSES), seed)
    grid = images.reshape(columns, len(CLASSES), SIZE, SIZE).transpose(1, 2, 0, 3)
    rows = grid.reshape(len(CLASSES) * SIZE, columns * SIZE)

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", rows.shape[1], rows.shape[0], 8, 0, 0, 0, 0)
    lines = b"".join(b"\0" + row.tobytes() for row in rows)
    return b"".join(
        (
            b"\x89PNG\r\n\x1a\n",
            chunk(b"IHDR", header),
            chunk(b"IDAT", zlib.compress(lines, 9)),
            chunk(b"IEND", b""),
        )
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="Make synthetic surface images.")
    parser.add_argument("--count", type=int, default=300, help="number of images (default 300)")
    parser.add_argument("--seed", type=int, default=1, help="another seed, other images")
    parser.add_argument("-o", "--output", type=Path, help="write arrays 'x' and 'y' to this .npz")
    parser.add_argument("--sheet", type=Path, help="write a picture of all classes to this .png")
    arguments = parser.parse_args()
    if arguments.sheet:
        arguments.sheet.write_bytes(contact_sheet(6, arguments.seed))
    if arguments.output:
        images, labels = generate(arguments.count, arguments.seed)
        np.savez_compressed(arguments.output, x=as_model_input(images), y=labels)


if __name__ == "__main__":
    main()
