"""Write the samples that the networks of `train.py` are calibrated, chosen and reported on.

``python samples.py --data cifar10/ -o samples/`` makes ``choosing.npz`` (``x_calibration`` of
``cifar10_exact.npz``: training images that `train.py` leaves out) and ``test.npz`` (``x_test``).
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FOLDER")
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)
    with np.load(arguments.data / "cifar10_exact.npz") as data:
        for name, part in (("choosing", "calibration"), ("test", "test")):
            # As `train.py` has them: NCHW, pixel - 128.
            images = data[f"x_{part}"].transpose(0, 3, 1, 2).astype(np.float32) - 128
            labels = data[f"y_{part}"].astype(np.int64)
            np.savez_compressed(arguments.output / f"{name}.npz", x=images, y=labels)


if __name__ == "__main__":
    main()
