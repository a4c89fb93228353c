// RUN: tinymlir-opt %s '--tiny-significance=score=residual' | FileCheck %s --check-prefix=RESIDUAL
// RUN: tinymlir-opt %s '--tiny-significance=score=impact data=%S/inputs/related.npy' | FileCheck %s --check-prefix=IMPACT

// Samples (2, 4), (2, 0), (-2, 0), (-2, -4) give both channels of layer0 8, 4, -4, -8, of which the scores
// are four times the first and once the second. Without its mean the score of a class is ±12 or ±6; without the
// first channel 16 or 8 less, without the second 4 or 2: of the mean square, 1.78 and 0.11, and a tenth of
// their mean besides. The roots are 1.37 and 0.45.
// RESIDUAL: tiny.significance = dense<{{\[\[}}1.00{{[0-9]+}}, 0.578{{[0-9]+}}], [1.00{{[0-9]+}}, 0.578{{[0-9]+}}]]> : tensor<2x2xf32>
// IMPACT: tiny.significance = dense<{{\[\[}}1.37{{[0-9]+}}, 0.790{{[0-9]+}}], [0.454{{[0-9]+}}, 0.262{{[0-9]+}}]]> : tensor<2x2xf32>
#id = affine_map<(d0, d1) -> (d0, d1)>

func.func @main(%x: tensor<1x2xi8>) -> tensor<1x2xi8> {
  %h = call @layer0(%x) : (tensor<1x2xi8>) -> tensor<1x2xi8>
  %y = call @layer1(%h) : (tensor<1x2xi8>) -> tensor<1x2xi8>
  return %y : tensor<1x2xi8>
}
func.func private @layer0(%x: tensor<1x2xi8>) -> tensor<1x2xi8>
    attributes {tiny.layer = "hidden", tiny.macs = 4 : i64, tiny.op = "fully_connected", tiny.statistics = {covariance = dense<[[[4.0, 0.0], [0.0, 8.0]]]> : tensor<1x2x2xf32>, mean = dense<0.0> : tensor<1x2xf32>, shares = dense<0.5> : tensor<2x2xf32>, zero_point = 0 : i32}} {
  %b = arith.constant 0 : i32
  %w = arith.constant dense<[[2, 2], [1, 1]]> : tensor<2x2xi8>
  %e = tensor.empty() : tensor<1x2xi32>
  %i = linalg.fill ins(%b : i32) outs(%e : tensor<1x2xi32>) -> tensor<1x2xi32>
  %a = linalg.matmul ins(%x, %w : tensor<1x2xi8>, tensor<2x2xi8>) outs(%i : tensor<1x2xi32>) -> tensor<1x2xi32>
  %f = tensor.empty() : tensor<1x2xi8>
  %y = linalg.generic {indexing_maps = [#id, #id], iterator_types = ["parallel", "parallel"]}
      ins(%a : tensor<1x2xi32>) outs(%f : tensor<1x2xi8>) {
  ^bb0(%acc: i32, %unused: i8):
    %r = arith.trunci %acc : i32 to i8
    linalg.yield %r : i8
  } -> tensor<1x2xi8>
  return %y : tensor<1x2xi8>
}
func.func private @layer1(%x: tensor<1x2xi8>) -> tensor<1x2xi8>
    attributes {tiny.layer = "scores", tiny.macs = 4 : i64, tiny.op = "fully_connected"} {
  %b = arith.constant 0 : i32
  %w = arith.constant dense<[[4, 0], [0, 1]]> : tensor<2x2xi8>
  %e = tensor.empty() : tensor<1x2xi32>
  %i = linalg.fill ins(%b : i32) outs(%e : tensor<1x2xi32>) -> tensor<1x2xi32>
  %a = linalg.matmul ins(%x, %w : tensor<1x2xi8>, tensor<2x2xi8>) outs(%i : tensor<1x2xi32>) -> tensor<1x2xi32>
  %f = tensor.empty() : tensor<1x2xi8>
  %y = linalg.generic {indexing_maps = [#id, #id], iterator_types = ["parallel", "parallel"]}
      ins(%a : tensor<1x2xi32>) outs(%f : tensor<1x2xi8>) {
  ^bb0(%acc: i32, %unused: i8):
    %r = arith.trunci %acc : i32 to i8
    linalg.yield %r : i8
  } -> tensor<1x2xi8>
  return %y : tensor<1x2xi8>
}
