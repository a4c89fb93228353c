// RUN: tinymlir-opt %s --split-input-file --verify-diagnostics --tiny-select-kernels -o /dev/null
// RUN: not tinymlir-opt %S/inputs/empty.mlir --tiny-select-kernels=flash-timing=fast 2>&1 | FileCheck %s

// CHECK: 'fast' is not WAIT_STATES

// A kernel computes convolutions.
// expected-error@+1 {{is no convolution for kernel 'direct' to compute}}
func.func private @layer0(%x: tensor<4xi8>) -> tensor<4xi8> attributes {tiny.kernel = "direct", tiny.layer = "a", tiny.macs = 0 : i64, tiny.op = "max"} {
  %e = tensor.empty() : tensor<4xi8>
  %y = linalg.max ins(%x, %x : tensor<4xi8>, tensor<4xi8>) outs(%e : tensor<4xi8>) -> tensor<4xi8>
  return %y : tensor<4xi8>
}

// -----

// And those alone that it can.
#all = affine_map<(d0, d1) -> (d0, d1)>
// expected-error@+1 {{cannot be computed by kernel 'depthwise', only by 'dense', 'direct'}}
func.func private @layer0(%x: tensor<1x2xi8>) -> tensor<1x2xi8> attributes {tiny.kernel = "depthwise", tiny.layer = "a", tiny.macs = 4 : i64, tiny.op = "matmul"} {
  %w = arith.constant dense<1> : tensor<2x2xi8>
  %zero = arith.constant 0 : i32
  %e = tensor.empty() : tensor<1x2xi32>
  %init = linalg.fill ins(%zero : i32) outs(%e : tensor<1x2xi32>) -> tensor<1x2xi32>
  %acc = linalg.matmul ins(%x, %w : tensor<1x2xi8>, tensor<2x2xi8>) outs(%init : tensor<1x2xi32>) -> tensor<1x2xi32>
  %e8 = tensor.empty() : tensor<1x2xi8>
  %y = linalg.generic {indexing_maps = [#all, #all], iterator_types = ["parallel", "parallel"]} ins(%acc : tensor<1x2xi32>) outs(%e8 : tensor<1x2xi8>) {
  ^bb0(%a: i32, %o: i8):
    %q = arith.trunci %a : i32 to i8
    linalg.yield %q : i8
  } -> tensor<1x2xi8>
  return %y : tensor<1x2xi8>
}
