"""Fusion settings of a network: the best there are, one that is given, and which to take."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from math import inf

import numpy as np

from tinymlir.errors import TinymlirError
from tinymlir.fusion.edges import Edges, edges, unbeaten
from tinymlir.fusion.graph import Graph
from tinymlir.fusion.placement import place
from tinymlir.fusion.search import Preference, cheapest, front
from tinymlir.fusion.setting import DEFAULT_SCHEMES, Block, InputMode, Scheme, Setting
from tinymlir.fusion.stages import make_stage, require_whole_inputs
from tinymlir.progress import progress


@dataclass(frozen=True)
class Planner:
    """Plans for one network with its input in one place.

    ``schemes`` are what stages may be; those of rows always may.
    """

    graph: Graph
    mode: InputMode
    schemes: tuple[Scheme, ...] = DEFAULT_SCHEMES

    def __post_init__(self) -> None:
        if self.mode == "streamed" and len(self.graph.inputs) != 1:
            raise TinymlirError(
                f"a network with {len(self.graph.inputs)} inputs cannot be streamed",
                hint="leave its inputs external, or in the arena",
            )
        if "columns" in self.schemes and "strips" not in self.schemes:
            raise TinymlirError("only strips keep columns for one another", hint="add 'strips'")

    @property
    def io_bytes(self) -> int:
        """Inputs and outputs that the caller holds."""
        inputs = self.graph.input_bytes if self.mode == "external" else 0
        return inputs + self.graph.output_bytes

    def ram_bytes(self, setting: Setting) -> int:
        """All memory: the arena, and what the caller holds."""
        return setting.bytes + self.io_bytes

    def overhead(self, setting: Setting) -> float:
        """F: multiply-accumulates over those of the network layer by layer."""
        return setting.macs / self.graph.macs if self.graph.macs else 1.0

    @cached_property
    def _ways(self) -> list[list[Edges]]:
        """The fusion graph."""
        count = len(self.graph.layers)
        return list(progress(edges(self.graph, self.mode, self.schemes), count, "planning"))

    @cached_property
    def front(self) -> list[Setting]:
        """The settings that no other beats, the least memory first, placed in the arena.

        None has fewer bytes alive at once for its MACs (`search.front`). What placing adds to that,
        where one layer after another lies over a part of its input, is in ``bytes``.
        """
        ways = self._of(self.schemes)
        plain = self._of([scheme for scheme in self.schemes if scheme != "columns"])
        points = front(ways)
        found = [
            setting
            for size, _ in progress(points, len(points), "placing")
            for setting in self._settle(ways, plain, size)
        ]
        if not found:
            raise TinymlirError(
                "no stage of this network can take its input row by row",
                hint="leave its input external, or in the arena",
            )
        sizes, macs = np.array([(setting.bytes, setting.macs) for setting in found]).T
        return [found[place] for place in unbeaten(sizes, macs)]

    def _fastest(self, setting: Setting, limit: int) -> Setting:
        """A setting, or one of as few MACs that makes fewer elements in up to ``limit`` bytes."""
        blocks = cheapest(self._of(self.schemes), limit, "stages")
        if blocks is None or blocks == setting.blocks:
            return setting
        other = self.price(blocks)
        return other if other.bytes <= limit and other.macs <= setting.macs else setting

    def _of(self, schemes: Sequence[Scheme]) -> list[list[Edges]]:
        """The fusion graph with no other schemes."""
        return [[edge.of(schemes) for edge in node] for node in self._ways]

    def _settle(
        self, ways: Sequence[list[Edges]], plain: Sequence[list[Edges]], limit: int
    ) -> list[Setting]:
        """Settings with ``limit`` bytes alive: that with few stages if it can be placed as well,
        else others too, also one of the ``plain`` ways, which have no caches.
        """
        choices: list[tuple[Sequence[list[Edges]], Preference]] = [
            (ways, "stages"),
            (ways, "memory"),
            (plain, "stages"),
        ]
        settled: dict[tuple[Block, ...], Setting] = {}
        for graph, preference in choices:
            blocks = cheapest(graph, limit, preference)
            if blocks is not None and blocks not in settled:
                settled[blocks] = self.price(blocks)
            if any(setting.bytes <= limit for setting in settled.values()):
                break
        return list(settled.values())

    def vanilla(self) -> Setting:
        """Layer by layer; an input that is to be streamed is in the arena then."""
        mode: InputMode = "in-arena" if self.mode == "streamed" else self.mode
        blocks = [Block(position, position, 0) for position in range(len(self.graph.layers))]
        return Planner(self.graph, mode).price(blocks, "")

    def price(self, blocks: Sequence[Block], file: str = "") -> Setting:
        """The setting of blocks that the plan ``file`` asks for, placed in the arena.

        Raises:
            TinymlirError: a block cannot be; says why.
        """
        macs = 0
        for block in blocks:
            if block.strips:
                stage = make_stage(self.graph, self.mode, block, file)
                macs += int(stage.macs[0])
            else:
                require_whole_inputs(self.graph, self.mode, block.first, file)
                macs += self.graph.layers[block.first].macs
        placed = place(self.graph, self.mode, blocks)
        return Setting(placed.plan.size, macs, tuple(blocks))

    def best(self, max_ram: int | None, max_overhead: float | None) -> tuple[Planner, Setting]:
        """The setting to take (`choose`) and the planner that has it.

        Lean kernels are taken where nothing else fits ``max_ram``.

        Raises:
            TinymlirError: no setting is within both; says the least, and what gives it.
        """
        planner = self
        fits = max_ram is None or any(
            self.ram_bytes(s) <= max_ram and self.overhead(s) <= (max_overhead or inf)
            for s in self.front
        )
        if not fits and "lean" not in self.schemes:
            planner = replace(self, schemes=(*self.schemes, "lean"))
            vars(planner)["_ways"] = self._ways
        return planner, planner.choose(max_ram, max_overhead)

    def choose(self, max_ram: int | None, max_overhead: float | None) -> Setting:
        """The setting to take.

        With ``max_ram`` the least computation within it, and the fewest elements made; else the
        least memory with an overhead of ``max_overhead`` at most, or 1.

        Raises:
            TinymlirError: no setting is within both; says the least, and what gives it.
        """
        limit = 1.0 if max_ram is None and max_overhead is None else max_overhead
        cheap = [s for s in self.front if limit is None or self.overhead(s) <= limit]
        if not cheap:
            raise TinymlirError(
                f"the least overhead is {self.overhead(self.front[-1]):.4f}, more than {limit}"
            )
        if max_ram is None:
            return cheap[0]
        fitting = [s for s in cheap if self.ram_bytes(s) <= max_ram]
        if fitting:
            return self._fastest(fitting[-1], max_ram - self.io_bytes)
        least = cheap[0]
        within = "" if limit is None else f" with an overhead of {limit} at most"
        raise TinymlirError(
            f"the network needs {self.ram_bytes(least)} bytes of RAM at the least{within},"
            f" more than --max-ram {max_ram} allows",
            hint=f"{self.ram_bytes(least)} bytes give an overhead of {self.overhead(least):.4f} by"
            f" stages {least.stages() or 'of one layer'}",
        )
