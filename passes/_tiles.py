"""What a ``tiny.patch_tile`` says."""

from __future__ import annotations

from dataclasses import dataclass

from tinymlir.bindings import ir

TILE = "tiny.patch_tile"


@dataclass(frozen=True)
class Tile:
    """What a stage keeps of a tensor: rows and columns, or those of another, and a cache."""

    rows: int
    columns: int
    in_place: bool
    cached: int

    @staticmethod
    def of(op: ir.Operation) -> Tile:
        attributes, cached = op.attributes, "tiny.cached_columns"
        return Tile(
            attributes["rows"].value,
            attributes["columns"].value,
            "tiny.in_place" in attributes,
            attributes[cached].value if cached in attributes else 0,
        )
