// RUN: tinymlir-opt %s '--tiny-calibrate=samples=1 data=%S/inputs/samples.npy' | FileCheck %s
// RUN: tinymlir-opt %s '--tiny-calibrate=data=%S/inputs/samples.npy' -o %t.mlir 2>&1 | FileCheck %s --allow-empty --check-prefix=QUIET

// LLVM, to which networks that run are translated, has nothing to say of names of arguments.
// QUIET-NOT: warning
//
// Layers without products have no statistics; one sample has no variance, and a sum of zero
// no shares.
// CHECK: func.func private @layer0
// CHECK-NOT: tiny.statistics
// CHECK: func.func private @layer1
// CHECK-SAME: covariance = dense<0.000000e+00> : tensor<1x2x2xf32>, mean = dense<2.000000e+00> : tensor<1x2xf32>, shares = dense<0.000000e+00> : tensor<1x2xf32>, zero_point = 2 : i32
func.func @main(%x: tensor<1x2xi8> {tiny.name = "x"}) -> tensor<1x1xi8> {
  %p = call @layer0(%x) : (tensor<1x2xi8>) -> tensor<1x2xi8>
  %y = call @layer1(%p) : (tensor<1x2xi8>) -> tensor<1x1xi8>
  return %y : tensor<1x1xi8>
}
func.func private @layer0(%x: tensor<1x2xi8>) -> tensor<1x2xi8>
    attributes {tiny.layer = "peak", tiny.macs = 0 : i64, tiny.op = "max", tiny.tensor = {tiny.zero_point = 2 : i32}} {
  %e = tensor.empty() : tensor<1x2xi8>
  %y = linalg.max ins(%x, %x : tensor<1x2xi8>, tensor<1x2xi8>) outs(%e : tensor<1x2xi8>) -> tensor<1x2xi8>
  return %y : tensor<1x2xi8>
}
func.func private @layer1(%x: tensor<1x2xi8>) -> tensor<1x1xi8>
    attributes {tiny.layer = "dense", tiny.macs = 2 : i64, tiny.op = "fully_connected"} {
  %w = arith.constant dense<[[3], [1]]> : tensor<2x1xi8>
  %b = arith.constant 0 : i32
  %m = arith.constant 1073741824 : i32
  %s = arith.constant 30 : i32
  %e = tensor.empty() : tensor<1x1xi32>
  %i = linalg.fill ins(%b : i32) outs(%e : tensor<1x1xi32>) -> tensor<1x1xi32>
  %a = linalg.matmul ins(%x, %w : tensor<1x2xi8>, tensor<2x1xi8>) outs(%i : tensor<1x1xi32>) -> tensor<1x1xi32>
  %f = tensor.empty() : tensor<1x1xi8>
  %y = linalg.generic {indexing_maps = [affine_map<(d0, d1) -> (d0, d1)>, affine_map<(d0, d1) -> (d0, d1)>], iterator_types = ["parallel", "parallel"]}
      ins(%a : tensor<1x1xi32>) outs(%f : tensor<1x1xi8>) {
  ^bb0(%acc: i32, %unused: i8):
    %r = "tiny.requantize"(%acc, %m, %s) {zero_point = 0 : i32, min = -128 : i32, max = 127 : i32, rounding = "double"} : (i32, i32, i32) -> i8
    linalg.yield %r : i8
  } -> tensor<1x1xi8>
  return %y : tensor<1x1xi8>
}
