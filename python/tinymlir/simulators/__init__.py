"""Running a compiled network on a simulated microcontroller."""

from __future__ import annotations

import os
import queue
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tinymlir.errors import TinymlirError
from tinymlir.progress import progress
from tinymlir.simulators.emulator import Emulator
from tinymlir.simulators.flash import Flash
from tinymlir.simulators.image import EXACT, Entry, Image, build_image
from tinymlir.simulators.qemu import Qemu
from tinymlir.simulators.trace import BlockTrace, Counts

Int8Array = npt.NDArray[np.int8]

SIMULATORS = ("unicorn", "qemu")


@dataclass(frozen=True)
class Simulation:
    """What a run gave.

    ``outputs`` are (N, *shape) each, in the object's layout and type. ``counts`` are of the first
    sample; ``stack_bytes`` is the most that any sample used. ``levels`` are those that outputs are
    of, (N,), where a gated entry point says them.
    """

    simulator: str
    outputs: list[npt.NDArray[Any]]
    counts: Counts
    stack_bytes: int
    levels: Int8Array | None = None


def simulate(
    report: dict[str, Any],
    object_code: bytes,
    inputs: Sequence[npt.NDArray[Any]],
    simulator: str | None = None,
    flash: Flash | None = None,
    entry: Entry = EXACT,
) -> Simulation:
    """Run a compiled network on N samples, and count what the first one takes.

    Args:
        report: the contents of ``NAME.json``.
        object_code: the contents of ``NAME.o``.
        inputs: one array per input, (N, *shape), in the object's layout and type.
        simulator: ``unicorn`` or ``qemu``; where not given, the first that has the core.
        flash: adds to the cycles what a flash with wait states takes; on ``unicorn`` only.
        entry: what is called of an object of several levels.

    Raises:
        TinymlirError: the simulator is missing or cannot do this, or the network fails on it.
    """
    image = build_image(report, object_code, entry)
    # The simulators carry bytes.
    flat = [np.ascontiguousarray(a).reshape(len(a), -1).view(np.int8) for a in inputs]
    if image.state:
        flat.insert(0, np.tile(np.frombuffer(image.state, np.int8), (len(inputs[0]), 1)))
    if simulator is None:
        simulator = "unicorn" if image.target.unicorn else "qemu"
    if flash is not None and simulator != "unicorn":
        raise TinymlirError(f"{simulator} does not show reads of flash", node="--flash-timing")
    trace = BlockTrace(image, flash)
    run = _run_on_unicorn if simulator == "unicorn" else _run_on_qemu
    outputs, stack_bytes = run(image, flat, trace)
    levels = outputs.pop().reshape(-1) if image.returns_level else None
    shaped = [
        output.view(tensor["type"]).reshape(len(output), *tensor["shape"])
        for output, tensor in zip(outputs, report["outputs"], strict=True)
    ]
    return Simulation(simulator, shaped, trace.counts(), stack_bytes, levels)


def _run_on_unicorn(
    image: Image, inputs: list[Int8Array], trace: BlockTrace
) -> tuple[list[Int8Array], int]:
    """The first sample is traced, the others run in parallel: Unicorn holds no Python lock."""
    samples = list(zip(*inputs, strict=True))
    workers = min(os.cpu_count() or 1, max(1, len(samples) - 1))
    tracer, others = Emulator(image, trace), [Emulator(image) for _ in range(workers)]
    idle: queue.SimpleQueue[Emulator] = queue.SimpleQueue()
    for emulator in others:
        idle.put(emulator)

    def run(sample: tuple[Int8Array, ...]) -> list[Int8Array]:
        emulator = idle.get()
        try:
            return emulator.run(sample)
        finally:
            idle.put(emulator)

    def results() -> Iterator[list[Int8Array]]:
        yield tracer.run(samples[0])
        with ThreadPoolExecutor(workers) as pool:
            try:
                yield from pool.map(run, samples[1:])
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise

    outputs = list(progress(results(), len(samples), "simulating"))
    for emulator in (tracer, *others):
        emulator.check_gaps()
    stack_bytes = max(emulator.stack_bytes() for emulator in (tracer, *others))
    return [np.stack(output) for output in zip(*outputs, strict=True)], stack_bytes


def _run_on_qemu(
    image: Image, inputs: list[Int8Array], trace: BlockTrace
) -> tuple[list[Int8Array], int]:
    qemu = Qemu(image)
    outputs = qemu.run(inputs)

    def traced() -> Iterator[None]:
        qemu.trace([array[:1] for array in inputs], trace)
        yield

    for _ in progress(traced(), 1, "counting instructions"):
        pass
    return outputs, qemu.stack_bytes()
