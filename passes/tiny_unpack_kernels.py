"""``tiny-unpack-kernels``: kernels that leave out zero weights, wherever there is one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from tinymlir.bindings import func, ir
from tinymlir.kernels.catalogue import candidates
from tinymlir.kernels.convolution import layer_convolution
from tinymlir.targets import get_target

from ._pass import Pass, PassFailure, register_pass

_KERNELS = ("unpacked", "compact")


@register_pass
@dataclass(frozen=True)
class UnpackKernels(Pass):
    """Ask for a kernel that leaves out zero weights, where it takes the layer

    Sets ``tiny.kernel`` on each convolution and dense layer that the kernel takes, unless the
    layer has one already; ``tiny-lower-layers`` obeys.

    Before::

        func.func private @layer0(%x: tensor<1x8xi8>) -> tensor<1x2xi8>
            attributes {tiny.layer = "dense", tiny.macs = 16 : i64, tiny.op = "fully_connected"} {
          %w = arith.constant dense<1> : tensor<8x2xi8>
          %c0 = arith.constant 0 : i32
          %e = tensor.empty() : tensor<1x2xi32>
          %init = linalg.fill ins(%c0 : i32) outs(%e : tensor<1x2xi32>) -> tensor<1x2xi32>
          %acc = linalg.matmul ins(%x, %w : tensor<1x8xi8>, tensor<8x2xi8>)
                               outs(%init : tensor<1x2xi32>) -> tensor<1x2xi32>
          %e8 = tensor.empty() : tensor<1x2xi8>
          %y = linalg.generic {indexing_maps = [affine_map<(d0, d1) -> (d0, d1)>,
                 affine_map<(d0, d1) -> (d0, d1)>], iterator_types = ["parallel", "parallel"]}
                 ins(%acc : tensor<1x2xi32>) outs(%e8 : tensor<1x2xi8>) {
          ^bb0(%a: i32, %o: i8):
            %q = arith.trunci %a : i32 to i8
            linalg.yield %q : i8
          } -> tensor<1x2xi8>
          return %y : tensor<1x2xi8>
        }

    After::

        func.func private @layer0(%x: tensor<1x8xi8>) -> tensor<1x2xi8>
            attributes {tiny.kernel = "unpacked", tiny.layer = "dense", tiny.macs = 16 : i64,
                        tiny.op = "fully_connected"} {
          ...
        }
    """

    name: ClassVar[str] = "tiny-unpack-kernels"
    #: the core that kernels are made for
    target: str = "cortex-m4"
    #: straight-line code (unpacked), or loops over the weights that are left (compact)
    kernel: str = "unpacked"

    def run(self, op: ir.Operation) -> None:
        core = get_target(self.target)
        if self.kernel not in _KERNELS:
            raise PassFailure(op.location, f"knows the kernels {', '.join(_KERNELS)}")
        for child in list(op.regions[0].blocks[0].operations):
            if not isinstance(child, func.FuncOp) or len(child.body.blocks) != 1:
                continue
            attributes = child.operation.attributes
            if "tiny.layer" not in attributes or "tiny.kernel" in attributes:
                continue
            convolution = layer_convolution(child)
            able = [] if convolution is None else candidates(convolution, core)
            if self.kernel in (kernel.name for kernel in able):
                attributes["tiny.kernel"] = ir.StringAttr.get(self.kernel)
