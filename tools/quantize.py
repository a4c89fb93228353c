"""``tinymlir quantize``: a float ONNX network to one that compiles."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any, get_args

import numpy as np
import numpy.typing as npt

from tinymlir.errors import TinymlirError
from tinymlir.files import write_all
from tinymlir.quantizer import (
    FloatModel,
    Floats,
    Settings,
    float_outputs,
    quantize,
    quantized_outputs,
)
from tinymlir.quantizer.static import Activations, Method
from tinymlir.samples import Labels, read_samples, take
from tinymlir.tools.arguments import positive
from tinymlir.tools.table import render_table

DESCRIPTION = """\
Quantise a float ONNX network to 8 bits with ONNX Runtime's static quantiser, and say what that
changed: shapes become static with a batch of 1, batch norms are folded, weights and activations
get their scales from typical samples.
"""
EXAMPLES = """\
examples:
  tinymlir quantize float.onnx --calibration samples.npz -o int8.onnx
  tinymlir quantize float.onnx --calibration x.npy -o int8.onnx --method percentile
  tinymlir quantize float.onnx --calibration samples.npz -o int8.onnx --samples 200 --json

then: tinymlir compile int8.onnx -o build
"""


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    parser = subparsers.add_parser(
        "quantize",
        help="quantise a float ONNX network",
        description=DESCRIPTION,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("model", metavar="MODEL", help="a float network: an ONNX file")
    parser.add_argument(
        "--calibration",
        required=True,
        metavar="FILE",
        help="typical samples: .npy, or .npz with 'x' (or each input's name), perhaps labels 'y'",
    )
    parser.add_argument("-o", "--output", required=True, metavar="FILE", help="the quantised model")
    parser.add_argument(
        "--method",
        choices=get_args(Method),
        default="minmax",
        help="ranges of activations: the extremes, or 99.999%% of the values (default: minmax)",
    )
    parser.add_argument(
        "--activations",
        choices=get_args(Activations),
        default="uint8",
        help="type of activations (default: uint8, on which ONNX Runtime computes in integers)",
    )
    parser.add_argument(
        "--per-tensor", action="store_true", help="one scale for all weights of a layer"
    )
    parser.add_argument(
        "--reduce-range",
        action="store_true",
        help="weights of seven bits: ONNX Runtime is then exact on x86-64 without VNNI as well",
    )
    parser.add_argument("--samples", type=positive, metavar="N", help="take only the first N")
    parser.add_argument("--json", action="store_true", help="print the summary as JSON")
    parser.set_defaults(main=main)


def main(args: argparse.Namespace) -> int:
    output = Path(args.output)
    if output.resolve() == Path(args.model).resolve():
        raise TinymlirError("is the float model itself", file=args.output, hint="choose another -o")
    model = FloatModel(Path(args.model))
    samples, labels = _calibration(args, model)
    settings = Settings(args.method, args.activations, not args.per_tensor, args.reduce_range)
    done = quantize(model, samples, settings)
    before = float_outputs(done, model.inputs, samples)
    after = quantized_outputs(done, model.inputs, samples)
    summary = {
        "model": args.model,
        "output": args.output,
        "samples": len(samples[0]),
        "method": args.method,
        "activations": args.activations,
        "per_channel": not args.per_tensor,
        "reduce_range": args.reduce_range,
        "bytes_before": model.bytes,
        "bytes_after": len(done.model),
        "outputs": [_agreement(name, before[name], after[name]) for name in before],
        "accuracy_before": _accuracy(before, labels),
        "accuracy_after": _accuracy(after, labels),
    }
    write_all(output.parent, {output.name: done.model})
    if args.json:
        json.dump(summary, sys.stdout, indent=2)
        print()
    else:
        _print(summary)
    return 0


def _calibration(args: argparse.Namespace, model: FloatModel) -> tuple[list[Floats], Labels | None]:
    path = Path(args.calibration)
    arrays, labels = read_samples(path, model.inputs)
    count = take(path, len(arrays[0]), args.samples)
    try:
        fitted = model.fit(arrays)
    except TinymlirError as error:
        error.file = error.file or str(path)
        raise
    return [array[:count] for array in fitted], None if labels is None else labels[:count]


def _classes(output: Floats) -> npt.NDArray[np.intp] | None:
    """The greatest of each sample's numbers, where they are scores of classes: 1 x C."""
    flat = output.reshape(len(output), -1)
    if flat.shape[1] < 2 or output.shape[1:3] not in ((1, flat.shape[1]), (flat.shape[1],)):
        return None
    return flat.argmax(axis=1)


def _agreement(name: str, before: Floats, after: Floats) -> dict[str, Any]:
    """How the quantised output compares with the float one.

    ``snr_db`` is 10 log10 of the float output's energy over that of the difference; null where
    nothing differs.
    """
    noise = float(np.square(before.astype(np.float64) - after).sum())
    signal = float(np.square(before.astype(np.float64)).sum())
    was, now = _classes(before), _classes(after)
    return {
        "name": name,
        "snr_db": 10 * float(np.log10(signal / noise)) if noise and signal else None,
        "top1_agreement": None if was is None or now is None else float((was == now).mean()),
    }


def _accuracy(outputs: dict[str, Floats], labels: Labels | None) -> float | None:
    chosen = _classes(next(iter(outputs.values())))
    return None if labels is None or chosen is None else float((chosen == labels).mean())


def _print(summary: dict[str, Any]) -> None:
    rows: list[list[object]] = [
        ["samples", summary["samples"]],
        ["bytes before", summary["bytes_before"]],
        ["bytes after", summary["bytes_after"]],
    ]
    for output in summary["outputs"]:
        snr, top1 = output["snr_db"], output["top1_agreement"]
        rows.append([f"{output['name']}: SNR", "exact" if snr is None else f"{snr:.1f} dB"])
        if top1 is not None:
            rows.append([f"{output['name']}: same class", f"{top1:.2%}"])
    for when in ("before", "after"):
        if summary[f"accuracy_{when}"] is not None:
            rows.append([f"accuracy {when}", f"{summary[f'accuracy_{when}']:.2%}"])
    print(render_table(["measure", "value"], rows))
    print(f"\nwrote {summary['output']}; next: tinymlir compile {summary['output']} -o DIR")
