// RUN: tinymlir-opt %s | FileCheck %s
// RUN: tinymlir-opt %s | tinymlir-opt | FileCheck %s
// RUN: tinymlir-opt %s --mlir-print-op-generic | tinymlir-opt | FileCheck %s

// CHECK-LABEL: func.func @scalar(
// CHECK: "tiny.requantize"(%{{.*}}, %{{.*}}, %{{.*}}) {max = 127 : i32, min = -128 : i32, rounding = "nearest_even", zero_point = 3 : i32} : (i32, i32, i32) -> i8
func.func @scalar(%acc: i32, %multiplier: i32, %shift: i32) -> i8 {
  %q = "tiny.requantize"(%acc, %multiplier, %shift) {zero_point = 3 : i32, min = -128 : i32,
         max = 127 : i32, rounding = "nearest_even"} : (i32, i32, i32) -> i8
  return %q : i8
}

// The ends of every range are inside it.
// CHECK-LABEL: func.func @least(
// CHECK: "tiny.requantize"{{.*}} {max = -128 : i32, min = -128 : i32, rounding = "nearest_up", zero_point = -128 : i32}
func.func @least(%acc: i32) -> i8 {
  %c0 = arith.constant 0 : i32
  %q = "tiny.requantize"(%acc, %c0, %c0) {zero_point = -128 : i32, min = -128 : i32,
         max = -128 : i32, rounding = "nearest_up"} : (i32, i32, i32) -> i8
  return %q : i8
}

// CHECK-LABEL: func.func @greatest(
// CHECK: "tiny.requantize"{{.*}} {max = 127 : i32, min = 127 : i32, rounding = "double", zero_point = 127 : i32}
func.func @greatest(%acc: i32) -> i8 {
  %multiplier = arith.constant 2147483647 : i32
  %shift = arith.constant 62 : i32
  %q = "tiny.requantize"(%acc, %multiplier, %shift) {zero_point = 127 : i32, min = 127 : i32,
         max = 127 : i32, rounding = "double"} : (i32, i32, i32) -> i8
  return %q : i8
}

// 24 significant bits, and more zeros below them.
// CHECK-LABEL: func.func @float32(
// CHECK: "tiny.requantize"{{.*}} rounding = "float32"
func.func @float32(%acc: i32) -> i8 {
  %multiplier = arith.constant 2147483520 : i32
  %shift = arith.constant 40 : i32
  %q = "tiny.requantize"(%acc, %multiplier, %shift) {zero_point = 0 : i32, min = 0 : i32,
         max = 127 : i32, rounding = "float32"} : (i32, i32, i32) -> i8
  return %q : i8
}

// CHECK-LABEL: func.func @per_channel(
// CHECK: linalg.generic
// CHECK: ^bb0(%[[ACC:.*]]: i32, %[[M:.*]]: i32, %[[S:.*]]: i32, %{{.*}}: i8):
// CHECK-NEXT: %[[Q:.*]] = "tiny.requantize"(%[[ACC]], %[[M]], %[[S]])
// CHECK-NEXT: linalg.yield %[[Q]] : i8
func.func @per_channel(%acc: tensor<1x4x4x8xi32>, %multiplier: tensor<8xi32>,
                       %shift: tensor<8xi32>) -> tensor<1x4x4x8xi8> {
  %init = tensor.empty() : tensor<1x4x4x8xi8>
  %q = linalg.generic {
      indexing_maps = [affine_map<(n, h, w, c) -> (n, h, w, c)>, affine_map<(n, h, w, c) -> (c)>,
                       affine_map<(n, h, w, c) -> (c)>, affine_map<(n, h, w, c) -> (n, h, w, c)>],
      iterator_types = ["parallel", "parallel", "parallel", "parallel"]}
      ins(%acc, %multiplier, %shift : tensor<1x4x4x8xi32>, tensor<8xi32>, tensor<8xi32>)
      outs(%init : tensor<1x4x4x8xi8>) {
    ^bb0(%a: i32, %m: i32, %s: i32, %out: i8):
      %r = "tiny.requantize"(%a, %m, %s) {zero_point = -5 : i32, min = -5 : i32, max = 127 : i32,
             rounding = "nearest_even"} : (i32, i32, i32) -> i8
      linalg.yield %r : i8
  } -> tensor<1x4x4x8xi8>
  return %q : tensor<1x4x4x8xi8>
}
