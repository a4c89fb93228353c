// RUN: tinymlir-opt %s '--tiny-skip-macs=threshold=0.125 compensate=sequence data=%S/inputs/related.npy' | FileCheck %s

// Samples (2, 4), (2, 0), (-2, 0), (-2, -4). The first channel of layer0 loses its second operand, for
// which the first makes up by a weight of 2 + 4. But then it gives 4, 4, 0, 0 in place of 12, 0, 0, 0,
// so that half as much again is the best that layer1 can make of it.
// CHECK: func.func private @layer0
// CHECK: dense<{{\[\[}}6, 0], [0, 1]]> : tensor<2x2xi8>
// CHECK: dense<-8> : tensor<2xi32>
// CHECK: func.func private @layer1
// CHECK: dense<{{\[\[}}96], [0]]> : tensor<2x1xi8>
// CHECK: dense<5> : tensor<1xi32>

#id = affine_map<(d0, d1) -> (d0, d1)>

func.func @main(%x: tensor<1x2xi8>) -> tensor<1x1xi8> {
  %h = call @layer0(%x) : (tensor<1x2xi8>) -> tensor<1x2xi8>
  %y = call @layer1(%h) : (tensor<1x2xi8>) -> tensor<1x1xi8>
  return %y : tensor<1x1xi8>
}
func.func private @layer0(%x: tensor<1x2xi8>) -> tensor<1x2xi8>
    attributes {tiny.granularity = "single", tiny.layer = "hidden", tiny.macs = 4 : i64, tiny.op = "fully_connected", tiny.significance = dense<[[0.9, 0.125], [0.9, 0.9]]> : tensor<2x2xf32>, tiny.statistics = {covariance = dense<1.0> : tensor<1x2x2xf32>, mean = dense<0.0> : tensor<1x2xf32>, shares = dense<0.5> : tensor<2x2xf32>, zero_point = 0 : i32}} {
  %b = arith.constant -8 : i32
  %w = arith.constant dense<[[2, 0], [4, 1]]> : tensor<2x2xi8>
  %m = arith.constant 1073741824 : i32
  %s = arith.constant 30 : i32
  %e = tensor.empty() : tensor<1x2xi32>
  %i = linalg.fill ins(%b : i32) outs(%e : tensor<1x2xi32>) -> tensor<1x2xi32>
  %a = linalg.matmul ins(%x, %w : tensor<1x2xi8>, tensor<2x2xi8>) outs(%i : tensor<1x2xi32>) -> tensor<1x2xi32>
  %f = tensor.empty() : tensor<1x2xi8>
  %y = linalg.generic {indexing_maps = [#id, #id], iterator_types = ["parallel", "parallel"]}
      ins(%a : tensor<1x2xi32>) outs(%f : tensor<1x2xi8>) {
  ^bb0(%acc: i32, %unused: i8):
    %r = "tiny.requantize"(%acc, %m, %s) {zero_point = 0 : i32, min = 0 : i32, max = 127 : i32, rounding = "double"} : (i32, i32, i32) -> i8
    linalg.yield %r : i8
  } -> tensor<1x2xi8>
  return %y : tensor<1x2xi8>
}
func.func private @layer1(%x: tensor<1x2xi8>) -> tensor<1x1xi8>
    attributes {tiny.granularity = "single", tiny.layer = "scores", tiny.macs = 2 : i64, tiny.op = "fully_connected", tiny.significance = dense<[[0.9, 0.125]]> : tensor<1x2xf32>, tiny.statistics = {covariance = dense<1.0> : tensor<1x2x2xf32>, mean = dense<0.0> : tensor<1x2xf32>, shares = dense<0.5> : tensor<1x2xf32>, zero_point = 0 : i32}} {
  %b = arith.constant 5 : i32
  %w = arith.constant dense<[[64], [1]]> : tensor<2x1xi8>
  %e = tensor.empty() : tensor<1x1xi32>
  %i = linalg.fill ins(%b : i32) outs(%e : tensor<1x1xi32>) -> tensor<1x1xi32>
  %a = linalg.matmul ins(%x, %w : tensor<1x2xi8>, tensor<2x1xi8>) outs(%i : tensor<1x1xi32>) -> tensor<1x1xi32>
  %f = tensor.empty() : tensor<1x1xi8>
  %y = linalg.generic {indexing_maps = [#id, #id], iterator_types = ["parallel", "parallel"]}
      ins(%a : tensor<1x1xi32>) outs(%f : tensor<1x1xi8>) {
  ^bb0(%acc: i32, %unused: i8):
    %r = arith.trunci %acc : i32 to i8
    linalg.yield %r : i8
  } -> tensor<1x1xi8>
  return %y : tensor<1x1xi8>
}
