// RUN: not tinymlir-opt %s --tiny-skip-macs=fraction=0.5 2>&1 | FileCheck %s --check-prefix=BARE
// RUN: not tinymlir-opt %s --tiny-skip-macs=per-layer=layer7:0.5 2>&1 | FileCheck %s --check-prefix=WHICH
// RUN: not tinymlir-opt %s --tiny-skip-macs=per-layer=layer0 2>&1 | FileCheck %s --check-prefix=FORM
// RUN: not tinymlir-opt %s --tiny-skip-macs=fraction=1.5 2>&1 | FileCheck %s --check-prefix=RANGE
// RUN: not tinymlir-opt %s --tiny-skip-macs 2>&1 | FileCheck %s --check-prefix=NEITHER
// RUN: not tinymlir-opt %s '--tiny-skip-macs=fraction=0.5 threshold=0.1' 2>&1 | FileCheck %s --check-prefix=NEITHER
// RUN: not tinymlir-opt %s '--tiny-skip-macs=fraction=0.5 compensate=sequence' 2>&1 | FileCheck %s --check-prefix=DATA
// RUN: not tinymlir-opt %s '--tiny-skip-macs=fraction=0.5 data=samples.npz' 2>&1 | FileCheck %s --check-prefix=DATA
// RUN: not tinymlir-opt %s --tiny-skip-macs=per-layer=layer1:0.5 2>&1 | FileCheck %s --check-prefix=OTHER

// BARE: error: expects a layer with statistics and significance
// WHICH: error: cannot skip in 'layer7', only in: layer0, layer1
// FORM: takes per-layer=SYMBOL:FRACTION
// RANGE: takes fractions from 0 to 1
// NEITHER: takes either a threshold or fractions
// DATA: takes data=FILE with compensate=sequence, and only then
// OTHER: error: has the significance of another layer

#id = affine_map<(d0, d1) -> (d0, d1)>

func.func private @layer0(%x: tensor<1x5xi8>) -> tensor<1x2xi8>
    attributes {tiny.layer = "dense", tiny.macs = 10 : i64, tiny.op = "fully_connected"} {
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

func.func private @layer1(%x: tensor<1x5xi8>) -> tensor<1x2xi8>
    attributes {tiny.granularity = "pair", tiny.layer = "dense", tiny.macs = 10 : i64, tiny.op = "fully_connected", tiny.significance = dense<[[0.5, 0.25, 0.25, 0.1], [0.25, 0.375, 0.625, 0.1]]> : tensor<2x4xf32>, tiny.statistics = {covariance = dense<[[[1.0, 0.5, 0.0, 0.0, 0.0], [0.5, 1.0, 0.0, 0.0, 0.0], [0.0, 0.0, 4.0, 0.0, 0.0], [0.0, 0.0, 0.0, 1.0, 0.0], [0.0, 0.0, 0.0, 0.0, 1.0]]]> : tensor<1x5x5xf32>, mean = dense<[[1.0, 2.0, 3.0, 4.0, 5.0]]> : tensor<1x5xf32>, shares = dense<[[0.5, 0.25, 0.0, 0.0, 0.25], [0.0625, 0.125, 0.1875, 0.25, 0.375]]> : tensor<2x5xf32>, zero_point = 1 : i32}} {
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
