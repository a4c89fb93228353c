// RUN: tinymlir-opt %s --split-input-file --tiny-narrow-requantize | FileCheck %s

#id = affine_map<(d0) -> (d0)>

// Weights that hold the scale already: a shift is left of it.
// CHECK-LABEL: func.func private @sum
// CHECK: %[[SUM:.*]] = arith.addi %{{.*}}, %{{.*}} : i32
// CHECK-NEXT: %[[HALF:.*]] = arith.constant 4096 : i32
// CHECK-NEXT: %[[LINE:.*]] = arith.addi %[[SUM]], %[[HALF]] : i32
// CHECK-NEXT: %[[DOWN:.*]] = arith.constant 13 : i32
// CHECK-NEXT: arith.shrsi %[[LINE]], %[[DOWN]] : i32
// CHECK-NOT: tiny.requantize
func.func private @sum(%x: tensor<4xi8>, %y: tensor<4xi8>) -> tensor<4xi8> attributes {tiny.layer = "q"} {
  %m = arith.constant 1 : i32
  %s = arith.constant 13 : i32
  %w = arith.constant 4099 : i32
  %e = tensor.empty() : tensor<4xi8>
  %q = linalg.generic {indexing_maps = [#id, #id, #id], iterator_types = ["parallel"]}
      ins(%x, %y : tensor<4xi8>, tensor<4xi8>) outs(%e : tensor<4xi8>) {
  ^bb0(%a: i8, %b: i8, %unused: i8):
    %aw = arith.extsi %a : i8 to i32
    %bw = arith.extsi %b : i8 to i32
    %t = arith.muli %aw, %w : i32
    %u = arith.addi %t, %bw : i32
    %r = "tiny.requantize"(%u, %m, %s) {zero_point = 0 : i32, min = -128 : i32, max = 127 : i32, rounding = "nearest_up"} : (i32, i32, i32) -> i8
    linalg.yield %r : i8
  } -> tensor<4xi8>
  return %q : tensor<4xi8>
}

// -----

#id = affine_map<(d0, d1, d2, d3) -> (d0, d1, d2, d3)>

// The sum of a window of four, padding of zeros among them, and what it starts from.
// CHECK-LABEL: func.func private @pooled
// CHECK: linalg.pooling_nhwc_sum
// CHECK: arith.muli
// CHECK: arith.shrsi
// CHECK-NOT: tiny.requantize
func.func private @pooled(%x: tensor<1x4x3x2xi8>) -> tensor<1x2x2x2xi8> attributes {tiny.layer = "q"} {
  %c0 = arith.constant 0 : i8
  %p = tensor.pad %x low[0, 0, 1, 0] high[0, 0, 0, 0] {
  ^bb0(%i: index, %j: index, %k: index, %l: index):
    tensor.yield %c0 : i8
  } : tensor<1x4x3x2xi8> to tensor<1x4x4x2xi8>
  %z = arith.constant 12 : i32
  %b = tensor.empty() : tensor<1x2x2x2xi32>
  %f = linalg.fill ins(%z : i32) outs(%b : tensor<1x2x2x2xi32>) -> tensor<1x2x2x2xi32>
  %k = tensor.empty() : tensor<2x2xi8>
  %acc = linalg.pooling_nhwc_sum {dilations = dense<1> : tensor<2xi64>, strides = dense<2> : tensor<2xi64>}
      ins(%p, %k : tensor<1x4x4x2xi8>, tensor<2x2xi8>) outs(%f : tensor<1x2x2x2xi32>) -> tensor<1x2x2x2xi32>
  %m = arith.constant 1717986918 : i32
  %s = arith.constant 33 : i32
  %e = tensor.empty() : tensor<1x2x2x2xi8>
  %q = linalg.generic {indexing_maps = [#id, #id], iterator_types = ["parallel", "parallel", "parallel", "parallel"]}
      ins(%acc : tensor<1x2x2x2xi32>) outs(%e : tensor<1x2x2x2xi8>) {
  ^bb0(%a: i32, %unused: i8):
    %r = "tiny.requantize"(%a, %m, %s) {zero_point = -3 : i32, min = -128 : i32, max = 127 : i32, rounding = "nearest_up"} : (i32, i32, i32) -> i8
    linalg.yield %r : i8
  } -> tensor<1x2x2x2xi8>
  return %q : tensor<1x2x2x2xi8>
}

// -----

#id = affine_map<(d0) -> (d0)>

// Nothing is known of an input of 32 bits.
// CHECK-LABEL: func.func private @wide
// CHECK: tiny.requantize
func.func private @wide(%x: tensor<4xi32>) -> tensor<4xi8> attributes {tiny.layer = "q"} {
  %m = arith.constant 1717986918 : i32
  %s = arith.constant 39 : i32
  %e = tensor.empty() : tensor<4xi8>
  %q = linalg.generic {indexing_maps = [#id, #id], iterator_types = ["parallel"]}
      ins(%x : tensor<4xi32>) outs(%e : tensor<4xi8>) {
  ^bb0(%a: i32, %unused: i8):
    %r = "tiny.requantize"(%a, %m, %s) {zero_point = 0 : i32, min = -128 : i32, max = 127 : i32, rounding = "nearest_up"} : (i32, i32, i32) -> i8
    linalg.yield %r : i8
  } -> tensor<4xi8>
  return %q : tensor<4xi8>
}
// No line rounds ties to even.
// CHECK-LABEL: func.func private @ties
// CHECK: tiny.requantize
func.func private @ties(%x: tensor<4xi8>) -> tensor<4xi8> attributes {tiny.layer = "q"} {
  %m = arith.constant 1 : i32
  %s = arith.constant 1 : i32
  %e = tensor.empty() : tensor<4xi8>
  %q = linalg.generic {indexing_maps = [#id, #id], iterator_types = ["parallel"]}
      ins(%x : tensor<4xi8>) outs(%e : tensor<4xi8>) {
  ^bb0(%a: i8, %unused: i8):
    %w = arith.extsi %a : i8 to i32
    %r = "tiny.requantize"(%w, %m, %s) {zero_point = 0 : i32, min = -128 : i32, max = 127 : i32, rounding = "nearest_even"} : (i32, i32, i32) -> i8
    linalg.yield %r : i8
  } -> tensor<4xi8>
  return %q : tensor<4xi8>
}
// Multiplier and shift of each element: one line does not do.
// CHECK-LABEL: func.func private @several
// CHECK: tiny.requantize
func.func private @several(%x: tensor<2xi8>) -> tensor<2xi8> attributes {tiny.layer = "q"} {
  %m = arith.constant dense<[1717986918, 1288490189]> : tensor<2xi32>
  %s = arith.constant 32 : i32
  %e = tensor.empty() : tensor<2xi8>
  %q = linalg.generic {indexing_maps = [#id, #id, #id], iterator_types = ["parallel"]}
      ins(%x, %m : tensor<2xi8>, tensor<2xi32>) outs(%e : tensor<2xi8>) {
  ^bb0(%a: i8, %n: i32, %unused: i8):
    %w = arith.extsi %a : i8 to i32
    %r = "tiny.requantize"(%w, %n, %s) {zero_point = 0 : i32, min = -128 : i32, max = 127 : i32, rounding = "nearest_up"} : (i32, i32, i32) -> i8
    linalg.yield %r : i8
  } -> tensor<2xi8>
  return %q : tensor<2xi8>
}
