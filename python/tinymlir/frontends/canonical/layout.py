"""Logical shapes over physical row-major buffers.

A model's tensor has a logical shape (for ONNX, NCHW); the buffer that holds it
has a physical order (for the compiled code, NHWC). A `Layout` factors every
logical dimension into *atoms* and says in which order the buffer nests them.
Transposing or reshaping the logical tensor then only regroups atoms: no data
moves. Dimensions of size one have no atoms.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, eq=False)
class Atom:
    """A factor of a dimension; compared by identity."""

    size: int


Atoms = tuple[Atom, ...]


def _size(atoms: Iterable[Atom]) -> int:
    return math.prod(atom.size for atom in atoms)


@dataclass(frozen=True)
class Layout:
    """How a logical tensor lies in its buffer.

    Attributes:
        dims: the atoms of each logical dimension, most significant first.
        order: all atoms as the buffer nests them, outermost first.
    """

    dims: tuple[Atoms, ...]
    order: Atoms

    @staticmethod
    def of(shape: Sequence[int], permutation: Sequence[int] | None = None) -> Layout:
        """A tensor whose buffer nests its dimensions in the order ``permutation``."""
        dims = tuple((Atom(size),) if size != 1 else () for size in shape)
        if permutation is None:
            permutation = range(len(dims))
        return Layout(dims, tuple(atom for d in permutation for atom in dims[d]))

    @property
    def shape(self) -> tuple[int, ...]:
        """The logical shape."""
        return tuple(_size(atoms) for atoms in self.dims)

    @property
    def rank(self) -> int:
        return len(self.dims)

    @property
    def atom_shape(self) -> tuple[int, ...]:
        """Sizes of the atoms in buffer order."""
        return tuple(atom.size for atom in self.order)

    def transposed(self, permutation: Sequence[int]) -> Layout:
        """The logical transposition; the buffer stays."""
        return Layout(tuple(self.dims[p] for p in permutation), self.order)

    def reshaped(self, shape: Sequence[int]) -> Layout | None:
        """The logical reshape of the same buffer, or None if data would have to move."""
        merged = self._merged()
        pending = [atom for atoms in merged.dims for atom in atoms]
        split: dict[Atom, Atoms] = {}
        dims = []
        for size in shape:
            dim: list[Atom] = []
            while size > 1:
                atom = pending.pop(0)
                if size % atom.size == 0:
                    dim.append(atom)
                    size //= atom.size
                elif atom.size % size == 0:
                    inner, outer = Atom(atom.size // size), Atom(size)
                    split[atom] = (outer, inner)
                    dim.append(outer)
                    pending.insert(0, inner)
                    size = 1
                else:
                    return None
            dims.append(tuple(dim))
        return Layout(tuple(dims), _substitute(merged.order, split))

    def _merged(self) -> Layout:
        """Neighbours in both the logical and the physical order become one atom.

        The dimensions lose their boundaries: the result has one of them.
        """
        logical = [atom for atoms in self.dims for atom in atoms]
        position = {atom: i for i, atom in enumerate(self.order)}
        runs: list[list[Atom]] = []
        for atom in logical:
            if runs and position[atom] == position[runs[-1][-1]] + 1:
                runs[-1].append(atom)
            else:
                runs.append([atom])
        merged = {run[0]: Atom(_size(run)) for run in runs}
        order = tuple(merged[atom] for atom in self.order if atom in merged)
        return Layout((tuple(merged[run[0]] for run in runs),), order)

    def dim_order(self) -> tuple[int, ...] | None:
        """A permutation of the logical dimensions that is the physical order, if there is one.

        Dimensions of size one may stand anywhere; channels-last is preferred
        for rank four, then the logical order.
        """
        candidates: list[tuple[int, ...]] = [(0, 2, 3, 1)] if self.rank == 4 else []
        candidates.append(tuple(range(self.rank)))
        position = {atom: i for i, atom in enumerate(self.order)}
        key, last = {}, -1
        for d, atoms in enumerate(self.dims):
            last = position[atoms[0]] if atoms else last
            key[d] = (last, d)
        candidates.append(tuple(sorted(range(self.rank), key=key.__getitem__)))
        for candidate in candidates:
            if self.order == tuple(atom for d in candidate for atom in self.dims[d]):
                return candidate
        return None

    def within(self, dims: Iterable[int]) -> Atoms:
        """The atoms of some logical dimensions, in buffer order."""
        chosen = {atom for d in dims for atom in self.dims[d]}
        return tuple(atom for atom in self.order if atom in chosen)

    def logical_index(self, dim: int) -> npt.NDArray[np.intp]:
        """For each place along ``dim`` in buffer order, its logical index.

        ``weights[index]`` arranges constants that run along ``dim`` as the buffer does.
        """
        atoms = self.dims[dim]
        index = np.arange(_size(atoms)).reshape([atom.size for atom in atoms])
        return index.transpose([atoms.index(a) for a in self.within([dim])]).reshape(-1)

    def with_dim(self, dim: int, atoms: Atoms) -> Layout:
        """Dimension ``dim``, whose atoms are neighbours in the buffer, replaced."""
        old = set(self.dims[dim])
        dims = (*self.dims[:dim], atoms, *self.dims[dim + 1 :])
        order: list[Atom] = []
        placed = False
        for atom in self.order:
            if atom not in old:
                order.append(atom)
            elif not placed:
                order.extend(atoms)
                placed = True
        if not placed:
            at = self.insertion_point(dim)
            order[at:at] = atoms
        return Layout(dims, tuple(order))

    def insertion_point(self, dim: int) -> int:
        """Where in the order a dimension of size one would lie.

        Channels (dimension one of rank three and above) lie innermost, others
        before the first that follows them logically.
        """
        if dim == 1 and self.rank >= 3:
            return len(self.order)
        later = {a for d, atoms in enumerate(self.dims) if d > dim for a in atoms}
        if self.rank >= 3 and dim != 1:
            later -= set(self.dims[1])
        return next((i for i, atom in enumerate(self.order) if atom in later), len(self.order))


def _substitute(order: Atoms, split: dict[Atom, Atoms]) -> Atoms:
    """``order`` with every atom in ``split`` replaced, again and again."""
    result: list[Atom] = []
    for atom in order:
        if atom in split:
            result.extend(_substitute(split[atom], split))
        else:
            result.append(atom)
    return tuple(result)


def refine(first: Layout, second: Layout) -> tuple[Layout, Layout] | None:
    """Both layouts over the same atoms, dimension by dimension.

    A dimension of size one in ``second`` (a broadcast) stays without atoms.
    None if the factorisations of a dimension do not fit into each other.
    """
    split_first: dict[Atom, Atoms] = {}
    split_second: dict[Atom, Atoms] = {}
    dims_first, dims_second = [], []
    for left, right in zip(first.dims, second.dims, strict=True):
        if not right:
            dims_first.append(left)
            dims_second.append(right)
            continue
        a, b, common = list(left), list(right), []
        while a and b:
            size = min(a[0].size, b[0].size)
            if a[0].size % size or b[0].size % size:
                return None
            shared = Atom(size)
            common.append(shared)
            for queue, split in ((a, split_first), (b, split_second)):
                head = queue.pop(0)
                if head.size == size:
                    split[head] = (shared,)
                else:
                    rest = Atom(head.size // size)
                    split[head] = (shared, rest)
                    queue.insert(0, rest)
        dims_first.append(tuple(common))
        dims_second.append(tuple(common))
    return (
        Layout(tuple(dims_first), _substitute(first.order, split_first)),
        Layout(tuple(dims_second), _substitute(second.order, split_second)),
    )
