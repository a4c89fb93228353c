// A file that is not there, and samples of another shape than the input's.
// RUN: not tinymlir-opt %s --tiny-calibrate=data=%S/inputs/no_such.npy 2>&1 | FileCheck %s --check-prefix=MISSING
// RUN: not tinymlir-opt %s --tiny-calibrate=data=%S/inputs/wrong_shape.npy 2>&1 | FileCheck %s --check-prefix=SHAPE
// RUN: not tinymlir-opt %s '--tiny-calibrate=data=%S/inputs/samples.npy samples=3' 2>&1 | FileCheck %s --check-prefix=FEW

// MISSING: error: {{.*}}no_such.npy: there is no such file
// SHAPE: error: {{.*}}wrong_shape.npy: node 'input': is of shape (2, 3); the model takes (N, 2), samples first
// FEW: error: {{.*}}samples.npy: has 2 samples, fewer than --samples 3
func.func @main(%x: tensor<1x2xi8>) -> tensor<1x2xi8> {
  %y = call @layer0(%x) : (tensor<1x2xi8>) -> tensor<1x2xi8>
  return %y : tensor<1x2xi8>
}
func.func private @layer0(%x: tensor<1x2xi8>) -> tensor<1x2xi8>
    attributes {tiny.layer = "peak", tiny.macs = 0 : i64, tiny.op = "max"} {
  %e = tensor.empty() : tensor<1x2xi8>
  %y = linalg.max ins(%x, %x : tensor<1x2xi8>, tensor<1x2xi8>) outs(%e : tensor<1x2xi8>) -> tensor<1x2xi8>
  return %y : tensor<1x2xi8>
}
