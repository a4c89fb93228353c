// RUN: tinymlir-opt %s --split-input-file --tiny-canonicalize-linalg | FileCheck %s

// Channels go last; transposes around the convolution say how its tensors lay.
// CHECK-LABEL: func.func @channels_first
// CHECK-SAME: (%[[X:.*]]: tensor<1x2x4x4xi8>)
// CHECK: %[[T:.*]] = linalg.transpose ins(%[[X]] : {{.*}} permutation = [0, 2, 3, 1]
// CHECK: %[[W:.*]] = arith.constant dense<{{\[\[\[\[}}1, 2]]]]> : tensor<1x1x1x2xi8>
// CHECK: %[[A:.*]] = linalg.conv_2d_nhwc_fhwc {{.*}} ins(%[[T]], %[[W]]
// CHECK: %[[Y:.*]] = linalg.transpose ins(%[[A]] : {{.*}} permutation = [0, 3, 1, 2]
// CHECK: return %[[Y]]
func.func @channels_first(%x: tensor<1x2x4x4xi8>) -> tensor<1x1x4x4xi32> {
  %w = arith.constant dense<[[[[1]], [[2]]]]> : tensor<1x2x1x1xi8>
  %b = arith.constant dense<3> : tensor<1x1x4x4xi32>
  %y = linalg.conv_2d_nchw_fchw ins(%x, %w : tensor<1x2x4x4xi8>, tensor<1x2x1x1xi8>) outs(%b : tensor<1x1x4x4xi32>) -> tensor<1x1x4x4xi32>
  return %y : tensor<1x1x4x4xi32>
}

// -----

// A batch of one is none, and transposed weights are other weights.
// CHECK-LABEL: func.func @batch
// CHECK: tensor.collapse_shape
// CHECK: arith.constant dense<{{\[\[}}1, 3], [2, 4]]> : tensor<2x2xi8>
// CHECK: linalg.matmul
// CHECK: tensor.expand_shape
#lhs = affine_map<(d0, d1, d2, d3) -> (d0, d1, d3)>
#rhs = affine_map<(d0, d1, d2, d3) -> (d0, d2, d3)>
#out = affine_map<(d0, d1, d2, d3) -> (d0, d1, d2)>
func.func @batch(%x: tensor<1x3x2xi8>) -> tensor<1x3x2xi32> {
  %w = arith.constant dense<[[[1, 2], [3, 4]]]> : tensor<1x2x2xi8>
  %b = arith.constant dense<0> : tensor<1x3x2xi32>
  %y = linalg.batch_matmul indexing_maps = [#lhs, #rhs, #out] ins(%x, %w : tensor<1x3x2xi8>, tensor<1x2x2xi8>) outs(%b : tensor<1x3x2xi32>) -> tensor<1x3x2xi32>
  return %y : tensor<1x3x2xi32>
}

// -----

// A start that differs from pixel to pixel is added afterwards.
// CHECK-LABEL: func.func @start
// CHECK-SAME: (%[[X:.*]]: tensor<1x2xi8>, %[[B:.*]]: tensor<1x2xi32>)
// CHECK: %[[ZERO:.*]] = arith.constant dense<0> : tensor<2xi32>
// CHECK: linalg.broadcast ins(%[[ZERO]]
// CHECK: %[[A:.*]] = linalg.matmul
// CHECK: linalg.add ins(%[[A]], %[[B]]
func.func @start(%x: tensor<1x2xi8>, %b: tensor<1x2xi32>) -> tensor<1x2xi32> {
  %w = arith.constant dense<1> : tensor<2x2xi8>
  %y = linalg.matmul ins(%x, %w : tensor<1x2xi8>, tensor<2x2xi8>) outs(%b : tensor<1x2xi32>) -> tensor<1x2xi32>
  return %y : tensor<1x2xi32>
}

// -----

// CHECK-LABEL: func.func @pool
// CHECK: linalg.transpose {{.*}} permutation = [0, 2, 3, 1]
// CHECK: linalg.pooling_nhwc_max
// CHECK: linalg.transpose {{.*}} permutation = [0, 3, 1, 2]
func.func @pool(%x: tensor<1x2x4x4xi8>) -> tensor<1x2x2x2xi8> {
  %least = arith.constant -128 : i8
  %e = tensor.empty() : tensor<1x2x2x2xi8>
  %init = linalg.fill ins(%least : i8) outs(%e : tensor<1x2x2x2xi8>) -> tensor<1x2x2x2xi8>
  %k = tensor.empty() : tensor<2x2xi8>
  %y = linalg.pooling_nchw_max {strides = dense<2> : tensor<2xi64>} ins(%x, %k : tensor<1x2x4x4xi8>, tensor<2x2xi8>) outs(%init : tensor<1x2x2x2xi8>) -> tensor<1x2x2x2xi8>
  return %y : tensor<1x2x2x2xi8>
}

// -----

// What is canonical, not of signed bytes or not by constants stays.
// CHECK-LABEL: func.func @others
// CHECK-NOT: linalg.transpose
// CHECK: %[[INIT:.*]] = linalg.fill
// CHECK-NEXT: linalg.matmul ins(%{{.*}}, %{{.*}} : {{.*}} outs(%[[INIT]]
// CHECK-NEXT: linalg.matmul {cast = #linalg.type_fn<cast_unsigned>}
// CHECK-NEXT: linalg.matmul {{.*}} tensor<2x2xi32>, tensor<2x2xi32>)
// CHECK-NEXT: linalg.matmul ins(%{{.*}}, %[[W:.*]] : {{.*}} outs
// CHECK-NEXT: return
func.func @others(%x: tensor<2x2xi8>, %w: tensor<2x2xi8>, %z: tensor<2x2xi32>) -> (tensor<2x2xi32>, tensor<2x2xi32>, tensor<2x2xi32>, tensor<2x2xi32>) {
  %c = arith.constant dense<1> : tensor<2x2xi8>
  %zero = arith.constant 0 : i32
  %e = tensor.empty() : tensor<2x2xi32>
  %init = linalg.fill ins(%zero : i32) outs(%e : tensor<2x2xi32>) -> tensor<2x2xi32>
  %p = linalg.matmul ins(%x, %c : tensor<2x2xi8>, tensor<2x2xi8>) outs(%init : tensor<2x2xi32>) -> tensor<2x2xi32>
  %q = linalg.matmul {cast = #linalg.type_fn<cast_unsigned>} ins(%x, %c : tensor<2x2xi8>, tensor<2x2xi8>) outs(%z : tensor<2x2xi32>) -> tensor<2x2xi32>
  %r = linalg.matmul ins(%z, %z : tensor<2x2xi32>, tensor<2x2xi32>) outs(%z : tensor<2x2xi32>) -> tensor<2x2xi32>
  %s = linalg.matmul ins(%x, %w : tensor<2x2xi8>, tensor<2x2xi8>) outs(%z : tensor<2x2xi32>) -> tensor<2x2xi32>
  return %p, %q, %r, %s : tensor<2x2xi32>, tensor<2x2xi32>, tensor<2x2xi32>, tensor<2x2xi32>
}
