// RUN: tinymlir-opt %s '--tiny-significance=score=expected-share granularity=pair' | FileCheck %s --check-prefix=SHARE
// RUN: tinymlir-opt %s '--tiny-significance=granularity=word score=rms-over-std' | FileCheck %s --check-prefix=RMS
// RUN: tinymlir-opt %s '--tiny-significance=score=residual' | FileCheck %s --check-prefix=RESIDUAL

// Operands 0 and 2, 1 and 3, then the fifth, alone in its word.
// SHARE: tiny.granularity = "pair"
// SHARE-SAME: tiny.significance = dense<{{\[\[}}5.000000e-01, 2.500000e-01, 2.500000e-01], [2.500000e-01, 3.750000e-01, 3.750000e-01]]> : tensor<2x3xf32>
// Variances of the outputs: 64 + 16 + 4 and 1 + 4 + 36 + 16 + 25. Squares of the first unit: 64 + 16 + 4², of the last: 4 * (1 + 4²) and 25 * (1 + 4²).
// RMS: tiny.significance = dense<{{\[\[}}1.069{{[0-9]+}}, 0.899{{[0-9]+}}], [{{.*}}, 2.276{{[0-9]+}}]]> : tensor<2x2xf32>
// Operands are independent, so each removal costs what it is and those before it: 2, then 2 and 4, then all of the first channel.
// RESIDUAL: tiny.granularity = "single"
// RESIDUAL-SAME: tiny.significance = dense<{{\[\[}}1.0{{[0-9]+}}, 0.48{{[0-9]+}}, 0.000000e+00, 0.000000e+00, 0.218{{[0-9]+}}], {{.*}}]> : tensor<2x5xf32>
#id = affine_map<(d0, d1) -> (d0, d1)>

func.func private @layer0(%x: tensor<1x5xi8>) -> tensor<1x2xi8>
    attributes {tiny.layer = "dense", tiny.macs = 10 : i64, tiny.op = "fully_connected", tiny.statistics = {covariance = dense<[[[1.0, 0.0, 0.0, 0.0, 0.0], [0.0, 1.0, 0.0, 0.0, 0.0], [0.0, 0.0, 4.0, 0.0, 0.0], [0.0, 0.0, 0.0, 1.0, 0.0], [0.0, 0.0, 0.0, 0.0, 1.0]]]> : tensor<1x5x5xf32>, mean = dense<[[1.0, 2.0, 3.0, 4.0, 5.0]]> : tensor<1x5xf32>, shares = dense<[[0.5, 0.25, 0.0, 0.0, 0.25], [0.0625, 0.125, 0.1875, 0.25, 0.375]]> : tensor<2x5xf32>, zero_point = 1 : i32}} {
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

// Without statistics there is nothing to say.
// SHARE: func.func private @layer1
// SHARE-NOT: tiny.significance
func.func private @layer1(%x: tensor<1x5xi8>) -> tensor<1x2xi8>
    attributes {tiny.layer = "other", tiny.macs = 10 : i64, tiny.op = "fully_connected"} {
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
