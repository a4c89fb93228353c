"""The kernels there are, and which one a layer gets."""

from __future__ import annotations

from tinymlir.bindings import func, ir
from tinymlir.errors import PassFailure
from tinymlir.kernels.compact import Compact
from tinymlir.kernels.convolution import Convolution, find_convolution
from tinymlir.kernels.dense import Dense
from tinymlir.kernels.depthwise import Depthwise
from tinymlir.kernels.depthwise_bytes import DepthwiseBytes
from tinymlir.kernels.depthwise_pairs import DepthwisePairs
from tinymlir.kernels.depthwise_rows import DepthwiseRows
from tinymlir.kernels.depthwise_shared import DepthwiseShared
from tinymlir.kernels.depthwise_swar import DepthwiseSwar
from tinymlir.kernels.direct import Direct
from tinymlir.kernels.groups import Im2colGroups, SwarGroups, SwarSharedGroups
from tinymlir.kernels.helium_depthwise import HeliumDepthwise
from tinymlir.kernels.helium_depthwise_rows import HeliumDepthwiseRows
from tinymlir.kernels.helium_dot import HeliumDot
from tinymlir.kernels.im2col import Im2col
from tinymlir.kernels.im2col_bytes import Im2colBytes
from tinymlir.kernels.im2col_shared import Im2colShared
from tinymlir.kernels.im2col_wide import Im2colWide
from tinymlir.kernels.kernel import Kernel
from tinymlir.kernels.stationary import Stationary
from tinymlir.kernels.swar import Swar
from tinymlir.kernels.swar_shared import SwarShared
from tinymlir.kernels.unpacked import Unpacked
from tinymlir.kernels.unpacked_swar import UnpackedSwar
from tinymlir.kernels.vector_convolution import VectorConvolution
from tinymlir.kernels.vector_depthwise import VectorDepthwise
from tinymlir.targets import Target

#: In the order in which they are preferred. `Direct` takes any convolution, so those behind it
#: compute what a layer's ``tiny.kernel`` gives them.
KERNELS: tuple[type[Kernel], ...] = (
    VectorConvolution,
    VectorDepthwise,
    HeliumDot,
    HeliumDepthwise,
    HeliumDepthwiseRows,
    Im2col,
    Im2colWide,
    Im2colShared,
    Im2colGroups,
    Stationary,
    Im2colBytes,
    Swar,
    SwarShared,
    SwarGroups,
    SwarSharedGroups,
    DepthwisePairs,
    DepthwiseShared,
    DepthwiseBytes,
    Depthwise,
    DepthwiseSwar,
    DepthwiseRows,
    Dense,
    Direct,
    Unpacked,
    UnpackedSwar,
    Compact,
)


def candidates(conv: Convolution, core: Target) -> list[Kernel]:
    """The kernels that compute ``conv`` on ``core``, the preferred one first."""
    able = [kernel for kernel in KERNELS if kernel.takes(conv, core)]
    return [variant for kernel in able for variant in kernel.variants(conv, core)]


def find_kernel(able: list[Kernel], label: str, location: ir.Location) -> Kernel:
    """The kernel of that label, or the preferred one of that name.

    Raises:
        PassFailure: at ``location``, where none of those that are able has it.
    """
    for kernel in able:
        if label in (kernel.label, kernel.name):
            return kernel
    names = ", ".join(f"'{kernel.label}'" for kernel in able)
    raise PassFailure(location, f"cannot be computed by kernel '{label}', only by {names}")


def leanest(root: ir.Value, core: Target) -> Kernel | None:
    """The preferred one of the kernels that want the least scratch memory for a layer by itself;
    None for layers that are no convolution.
    """
    convolution = find_convolution(root)
    if convolution is None:
        return None
    return min(candidates(convolution, core), key=lambda kernel: kernel.scratch_bytes())


def choose(
    layer: func.FuncOp, root: ir.Value, core: Target, *, by_rows: bool = False, lean: bool = False
) -> Kernel | None:
    """The kernel that ``tiny.kernel`` names, or else the preferred one; None for other layers.

    ``by_rows``: for a layer that runs row by row. Where the named one cannot, the preferred
    one that can is taken. ``lean``: in its form that wants the least scratch memory.

    Raises:
        PassFailure: the named one does not compute the layer.
    """
    convolution = find_convolution(root, by_rows=by_rows)
    if convolution is None:
        return None
    able = candidates(convolution, core)
    if "tiny.kernel" in layer.operation.attributes:
        wanted = layer.operation.attributes["tiny.kernel"].value
        if not by_rows:
            return find_kernel(able, wanted, layer.location)
        able.sort(key=lambda kernel: wanted not in (kernel.label, kernel.name))
    found = next(kernel for kernel in able if kernel.by_rows or not by_rows)
    return found.lean() if lean else found
