// RUN: tinymlir-opt %s '--tiny-skip-macs=threshold=0.25 compensate=bias' | FileCheck %s --check-prefix=THRESHOLD
// RUN: tinymlir-opt %s '--tiny-skip-macs=per-layer=layer0:0.5 compensate=weights' | FileCheck %s --check-prefix=LAYER
// RUN: tinymlir-opt %s '--tiny-skip-macs=compensate=bias fraction=0' | FileCheck %s --check-prefix=NONE

// At the threshold counts as below it: units (1, 3) and (4) of the first channel, (0, 2) of the
// second. Their means go to the bias: 100 + 2 * 4 + 5 * 2 and 200 + 1 + 3 * 3.
// THRESHOLD: tiny.skipped_macs = 5 : i64
// THRESHOLD-SAME: tiny.skipping = {compensate = "bias", granularity = "pair", threshold = 2.500000e-01 : f32}
// THRESHOLD-DAG: dense<[118, 210]> : tensor<2xi32>
// THRESHOLD-DAG: dense<{{\[\[}}8, 0], [0, 2], [0, 0], [0, 4], [0, 5]]> : tensor<5x2xi8>
// THRESHOLD-NOT: dense<[100, 200]>
// Half of the units, the first of equals. Operand 0 makes up for 1, with which it varies, by half of its 4.

// LAYER: tiny.skipped_macs = 5 : i64
// LAYER: dense<{{\[\[}}10, 0], [0, 2], [0, 0], [0, 4], [0, 5]]> : tensor<5x2xi8>
// Zeros that were there count: none of them makes a whole unit.
// NONE: tiny.skipped_macs = 0 : i64
// NONE: dense<{{\[\[}}8, 1], [4, 2], [0, 3], [0, 4], [2, 5]]> : tensor<5x2xi8>

#id = affine_map<(d0, d1) -> (d0, d1)>

func.func private @layer0(%x: tensor<1x5xi8>) -> tensor<1x2xi8>
    attributes {tiny.granularity = "pair", tiny.layer = "dense", tiny.macs = 10 : i64, tiny.op = "fully_connected", tiny.significance = dense<[[0.5, 0.25, 0.25], [0.25, 0.375, 0.625]]> : tensor<2x3xf32>, tiny.statistics = {covariance = dense<[[[1.0, 0.5, 0.0, 0.0, 0.0], [0.5, 1.0, 0.0, 0.0, 0.0], [0.0, 0.0, 4.0, 0.0, 0.0], [0.0, 0.0, 0.0, 1.0, 0.0], [0.0, 0.0, 0.0, 0.0, 1.0]]]> : tensor<1x5x5xf32>, mean = dense<[[1.0, 2.0, 3.0, 4.0, 5.0]]> : tensor<1x5xf32>, shares = dense<[[0.5, 0.25, 0.0, 0.0, 0.25], [0.0625, 0.125, 0.1875, 0.25, 0.375]]> : tensor<2x5xf32>, zero_point = 1 : i32}} {
  %b = arith.constant dense<[100, 200]> : tensor<2xi32>
  %w = arith.constant dense<[[8, 1], [4, 2], [0, 3], [0, 4], [2, 5]]> : tensor<5x2xi8>
  %e = tensor.empty() : tensor<1x2xi32>
  %i = linalg.broadcast ins(%b : tensor<2xi32>) outs(%e : tensor<1x2xi32>) dimensions = [0]
  %a = linalg.matmul ins(%x, %w : tensor<1x5xi8>, tensor<5x2xi8>) outs(%i : tensor<1x2xi32>) -> tensor<1x2xi32>
  %f = tensor.empty() : tensor<1x2xi8>
  %y = linalg.generic {indexing_maps = [#id, #id], iterator_types = ["parallel", "parallel"]}
      ins(%a : tensor<1x2xi32>) outs(%f : tensor<1x2xi8>) {
  ^bb0(%acc: i32, %unused: i8):
    %r = arith.trunci %acc : i32 to i8
    linalg.yield %r : i8
  } -> tensor<1x2xi8>
  return %y : tensor<1x2xi8>
}
