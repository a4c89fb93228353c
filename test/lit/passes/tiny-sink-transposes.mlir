// RUN: tinymlir-opt %s --split-input-file --tiny-sink-transposes | FileCheck %s

// Transposes that undo each other go, wherever elementwise ops, padding and
// concatenation lie between.
// CHECK-LABEL: func.func @cancel
// CHECK-SAME: (%[[X:.*]]: tensor<1x3x4xi8>)
// CHECK-NEXT: %[[M:.*]] = tensor.concat dim(0) %[[X]], %[[X]]
// CHECK-NEXT: arith.constant
// CHECK-NEXT: tensor.pad %[[M]] low[0, 1, 2] high[0, 0, 0]
// CHECK: tensor.concat dim(2)
// CHECK-NOT: linalg.transpose
// CHECK: return
func.func @cancel(%x: tensor<1x3x4xi8>) -> tensor<2x4x12xi8> {
  %zero = arith.constant 0 : i8
  %m = tensor.concat dim(0) %x, %x : (tensor<1x3x4xi8>, tensor<1x3x4xi8>) -> tensor<2x3x4xi8>
  %f = tensor.empty() : tensor<2x4x3xi8>
  %t = linalg.transpose ins(%m : tensor<2x3x4xi8>) outs(%f : tensor<2x4x3xi8>) permutation = [0, 2, 1]
  %p = tensor.pad %t low[0, 2, 1] high[0, 0, 0] {
  ^bb0(%i: index, %j: index, %k: index):
    tensor.yield %zero : i8
  } : tensor<2x4x3xi8> to tensor<2x6x4xi8>
  %c = tensor.concat dim(1) %p, %p : (tensor<2x6x4xi8>, tensor<2x6x4xi8>) -> tensor<2x12x4xi8>
  %g = tensor.empty() : tensor<2x4x12xi8>
  %u = linalg.transpose ins(%c : tensor<2x12x4xi8>) outs(%g : tensor<2x4x12xi8>) permutation = [0, 2, 1]
  return %u : tensor<2x4x12xi8>
}

// -----

// One of a constant is another constant, one that moves dimensions of one is a
// reshape, one before a flattened product goes into the weights.
// CHECK-LABEL: func.func @absorbed
// CHECK-NOT: linalg.transpose
// CHECK: arith.constant dense<{{\[\[}}1, 3], [2, 4]]> : tensor<2x2xi8>
// CHECK: tensor.collapse_shape
// CHECK: arith.constant dense<{{\[\[}}1], [3], [5], [2], [4], [6]]> : tensor<6x1xi8>
// CHECK: linalg.matmul
// CHECK-NOT: linalg.transpose
func.func @absorbed(%x: tensor<1x1x3xi8>, %acc: tensor<1x1xi32>) -> (tensor<2x2xi8>, tensor<1x1xi32>, tensor<4x3x1xi8>) {
  %m = tensor.concat dim(1) %x, %x : (tensor<1x1x3xi8>, tensor<1x1x3xi8>) -> tensor<1x2x3xi8>
  %c = arith.constant dense<[[1, 2], [3, 4]]> : tensor<2x2xi8>
  %d = tensor.empty() : tensor<2x2xi8>
  %k = linalg.transpose ins(%c : tensor<2x2xi8>) outs(%d : tensor<2x2xi8>) permutation = [1, 0]
  %n = linalg.max ins(%k, %k : tensor<2x2xi8>, tensor<2x2xi8>) outs(%d : tensor<2x2xi8>) -> tensor<2x2xi8>
  %f = tensor.empty() : tensor<1x3x2xi8>
  %t = linalg.transpose ins(%m : tensor<1x2x3xi8>) outs(%f : tensor<1x3x2xi8>) permutation = [0, 2, 1]
  %flat = tensor.collapse_shape %t [[0], [1, 2]] : tensor<1x3x2xi8> into tensor<1x6xi8>
  %w = arith.constant dense<[[1], [2], [3], [4], [5], [6]]> : tensor<6x1xi8>
  %y = linalg.matmul ins(%flat, %w : tensor<1x6xi8>, tensor<6x1xi8>) outs(%acc : tensor<1x1xi32>) -> tensor<1x1xi32>
  %g = tensor.empty() : tensor<2x3x1xi8>
  %u = linalg.transpose ins(%m : tensor<1x2x3xi8>) outs(%g : tensor<2x3x1xi8>) permutation = [1, 2, 0]
  %v = tensor.concat dim(0) %u, %u : (tensor<2x3x1xi8>, tensor<2x3x1xi8>) -> tensor<4x3x1xi8>
  return %n, %y, %v : tensor<2x2xi8>, tensor<1x1xi32>, tensor<4x3x1xi8>
}

// -----

// A permutation that the caller knows of already is permuted further.
// CHECK-LABEL: func.func @known
// CHECK-SAME: tensor<4x3x2xi8> {tiny.model_shape = array<i64: 2, 3, 4>, tiny.permutation = array<i64: 2, 1, 0>}
// CHECK-NOT: linalg.transpose
// CHECK: arith.maxsi
func.func @known(%x: tensor<3x4x2xi8> {tiny.model_shape = array<i64: 2, 3, 4>, tiny.permutation = array<i64: 1, 2, 0>}) -> tensor<4x3x2xi8> {
  %e = tensor.empty() : tensor<4x3x2xi8>
  %t = linalg.transpose ins(%x : tensor<3x4x2xi8>) outs(%e : tensor<4x3x2xi8>) permutation = [1, 0, 2]
  %y = linalg.max ins(%t, %t : tensor<4x3x2xi8>, tensor<4x3x2xi8>) outs(%e : tensor<4x3x2xi8>) -> tensor<4x3x2xi8>
  return %y : tensor<4x3x2xi8>
}

// -----

// Functions of several blocks are left alone.
// CHECK-LABEL: func.func @branches
// CHECK: cf.br
// CHECK: linalg.transpose
func.func @branches(%x: tensor<2x3xi8>) -> tensor<3x2xi8> {
  cf.br ^bb1
^bb1:
  %e = tensor.empty() : tensor<3x2xi8>
  %t = linalg.transpose ins(%x : tensor<2x3xi8>) outs(%e : tensor<3x2xi8>) permutation = [1, 0]
  return %t : tensor<3x2xi8>
}
