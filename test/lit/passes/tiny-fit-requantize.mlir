// RUN: tinymlir-opt %s --split-input-file --tiny-fit-requantize | FileCheck %s
// RUN: tinymlir-opt %s --split-input-file --tiny-fit-requantize=lanes=true | FileCheck %s --check-prefix=LANES
// RUN: tinymlir-opt %s --split-input-file --tiny-fit-requantize=late=true | FileCheck %s --check-prefix=LATE

#id = affine_map<(d0, d1) -> (d0, d1)>
#channel = affine_map<(d0, d1) -> (d1)>

// TFLite's two roundings of results that are not negative: a multiplier and an offset for
// each channel, one shift for both.
// CHECK-LABEL: func.func private @twice
// CHECK: ins(%{{.*}}, %{{.*}}, %{{.*}} : tensor<3x2xi32>, tensor<2xi32>, tensor<2xi64>)
// CHECK: "tiny.rescale"(%{{.*}}) {max = 127 : i32, min = -128 : i32, shift = 39 : i32}
// CHECK-NOT: tiny.requantize
// Lanes of 32 bits cannot add such offsets.
// LANES-LABEL: func.func private @twice
// LANES: tiny.requantize
func.func private @twice(%acc: tensor<3x2xi32>) -> tensor<3x2xi8> attributes {tiny.layer = "q"} {
  %m = arith.constant dense<[1717986918, 1288490189]> : tensor<2xi32>
  %s = arith.constant dense<[39, 40]> : tensor<2xi32>
  %e = tensor.empty() : tensor<3x2xi8>
  %q = linalg.generic {indexing_maps = [#id, #channel, #channel, #id], iterator_types = ["parallel", "parallel"]}
      ins(%acc, %m, %s : tensor<3x2xi32>, tensor<2xi32>, tensor<2xi32>) outs(%e : tensor<3x2xi8>) {
  ^bb0(%a: i32, %mc: i32, %sc: i32, %unused: i8):
    %r = "tiny.requantize"(%a, %mc, %sc) {zero_point = -128 : i32, min = -128 : i32, max = 127 : i32, rounding = "double"} : (i32, i32, i32) -> i8
    linalg.yield %r : i8
  } -> tensor<3x2xi8>
  return %q : tensor<3x2xi8>
}

// -----

#id = affine_map<(d0, d1) -> (d0, d1)>
#channel = affine_map<(d0, d1) -> (d1)>

// Where there are biases, they take what an offset has beside whole words.
// CHECK-LABEL: func.func private @dense
// CHECK: %[[BIAS:.*]] = arith.constant dense<[8, 10]>
// CHECK-NEXT: %[[START:.*]] = linalg.broadcast ins(%[[BIAS]] : tensor<2xi32>)
// CHECK: linalg.matmul {{.*}} outs(%[[START]] : tensor<3x2xi32>)
// CHECK: arith.constant -16320 : i32
// CHECK: "tiny.rescale"(%{{.*}}) {max = 127 : i32, min = -128 : i32, shift = 39 : i32} : (i32, i32, i32) -> i8
// LANES-LABEL: func.func private @dense
// LANES: "tiny.rescale"(%{{.*}}) {{.*}} : (i32, i32, i32) -> i8
func.func private @dense(%x: tensor<3x4xi8>) -> tensor<3x2xi8> attributes {tiny.layer = "q"} {
  %w = arith.constant dense<[[1, -2], [3, 4], [-5, 6], [7, 100]]> : tensor<4x2xi8>
  %b = arith.constant dense<[7, 9]> : tensor<2xi32>
  %m = arith.constant dense<[1717986918, 1288490189]> : tensor<2xi32>
  %s = arith.constant dense<[39, 40]> : tensor<2xi32>
  %e32 = tensor.empty() : tensor<3x2xi32>
  %start = linalg.broadcast ins(%b : tensor<2xi32>) outs(%e32 : tensor<3x2xi32>) dimensions = [0]
  %acc = linalg.matmul ins(%x, %w : tensor<3x4xi8>, tensor<4x2xi8>) outs(%start : tensor<3x2xi32>) -> tensor<3x2xi32>
  %e = tensor.empty() : tensor<3x2xi8>
  %q = linalg.generic {indexing_maps = [#id, #channel, #channel, #id], iterator_types = ["parallel", "parallel"]}
      ins(%acc, %m, %s : tensor<3x2xi32>, tensor<2xi32>, tensor<2xi32>) outs(%e : tensor<3x2xi8>) {
  ^bb0(%a: i32, %mc: i32, %sc: i32, %unused: i8):
    %r = "tiny.requantize"(%a, %mc, %sc) {zero_point = -128 : i32, min = -128 : i32, max = 127 : i32, rounding = "double"} : (i32, i32, i32) -> i8
    linalg.yield %r : i8
  } -> tensor<3x2xi8>
  return %q : tensor<3x2xi8>
}

// -----

#id = affine_map<(d0) -> (d0)>

// Both signs round away from zero, which no line does.
// CHECK-LABEL: func.func private @both_signs
// CHECK: tiny.requantize{{.*}}tiny.shrinks
func.func private @both_signs(%acc: tensor<4xi32>) -> tensor<4xi8> attributes {tiny.layer = "q"} {
  %m = arith.constant 1073741824 : i32
  %s = arith.constant 32 : i32
  %e = tensor.empty() : tensor<4xi8>
  %q = linalg.generic {indexing_maps = [#id, #id], iterator_types = ["parallel"]}
      ins(%acc : tensor<4xi32>) outs(%e : tensor<4xi8>) {
  ^bb0(%a: i32, %unused: i8):
    %r = "tiny.requantize"(%a, %m, %s) {zero_point = 0 : i32, min = -128 : i32, max = 127 : i32, rounding = "double"} : (i32, i32, i32) -> i8
    linalg.yield %r : i8
  } -> tensor<4xi8>
  return %q : tensor<4xi8>
}

// -----

#id = affine_map<(d0) -> (d0)>

// One scale that rounds to nearest is as cheap as a line.
// CHECK-LABEL: func.func private @nearest
// CHECK: tiny.requantize
// What does more than requantise is left alone.
// CHECK-LABEL: func.func private @more
// CHECK: tiny.requantize
func.func private @nearest(%acc: tensor<4xi32>) -> tensor<4xi8> attributes {tiny.layer = "q"} {
  %m = arith.constant 1717986918 : i32
  %s = arith.constant 39 : i32
  %e = tensor.empty() : tensor<4xi8>
  %q = linalg.generic {indexing_maps = [#id, #id], iterator_types = ["parallel"]}
      ins(%acc : tensor<4xi32>) outs(%e : tensor<4xi8>) {
  ^bb0(%a: i32, %unused: i8):
    %r = "tiny.requantize"(%a, %m, %s) {zero_point = 0 : i32, min = 0 : i32, max = 127 : i32, rounding = "nearest_up"} : (i32, i32, i32) -> i8
    linalg.yield %r : i8
  } -> tensor<4xi8>
  return %q : tensor<4xi8>
}
func.func private @more(%acc: tensor<4xi32>) -> tensor<4xi8> attributes {tiny.layer = "p"} {
  %m = arith.constant 1717986918 : i32
  %s = arith.constant 39 : i32
  %e = tensor.empty() : tensor<4xi8>
  %q = linalg.generic {indexing_maps = [#id, #id], iterator_types = ["parallel"]}
      ins(%acc : tensor<4xi32>) outs(%e : tensor<4xi8>) {
  ^bb0(%a: i32, %unused: i8):
    %b = arith.addi %a, %m : i32
    %r = "tiny.requantize"(%b, %m, %s) {zero_point = 0 : i32, min = 0 : i32, max = 127 : i32, rounding = "double"} : (i32, i32, i32) -> i8
    linalg.yield %r : i8
  } -> tensor<4xi8>
  return %q : tensor<4xi8>
}

// -----

#id = affine_map<(d0, d1, d2, d3) -> (d0, d1, d2, d3)>

// Ties go to the even number, which no line does. Sums of a depthwise convolution may be scaled up
// first, so that few results seem near one.
// CHECK-LABEL: func.func private @depthwise
// CHECK: "tiny.requantize"{{.*}}tiny.headroom = 5 : i32
func.func private @depthwise(%x: tensor<1x4x4x2xi8>) -> tensor<1x2x2x2xi8> attributes {tiny.layer = "q"} {
  %w = arith.constant dense<[[[7, -9], [5, 3], [2, 8]], [[7, 9], [5, 3], [2, 8]], [[7, 9], [5, 3], [2, -8]]]> : tensor<3x3x2xi8>
  %b = arith.constant dense<[7, 9]> : tensor<2xi32>
  %m = arith.constant 1073741824 : i32
  %s = arith.constant 36 : i32
  %e32 = tensor.empty() : tensor<1x2x2x2xi32>
  %start = linalg.broadcast ins(%b : tensor<2xi32>) outs(%e32 : tensor<1x2x2x2xi32>) dimensions = [0, 1, 2]
  %acc = linalg.depthwise_conv_2d_nhwc_hwc {dilations = dense<1> : vector<2xi64>, strides = dense<1> : vector<2xi64>}
      ins(%x, %w : tensor<1x4x4x2xi8>, tensor<3x3x2xi8>) outs(%start : tensor<1x2x2x2xi32>) -> tensor<1x2x2x2xi32>
  %e = tensor.empty() : tensor<1x2x2x2xi8>
  %q = linalg.generic {indexing_maps = [#id, #id], iterator_types = ["parallel", "parallel", "parallel", "parallel"]}
      ins(%acc : tensor<1x2x2x2xi32>) outs(%e : tensor<1x2x2x2xi8>) {
  ^bb0(%a: i32, %unused: i8):
    %r = "tiny.requantize"(%a, %m, %s) {zero_point = 0 : i32, min = -128 : i32, max = 127 : i32, rounding = "float32"} : (i32, i32, i32) -> i8
    linalg.yield %r : i8
  } -> tensor<1x2x2x2xi8>
  return %q : tensor<1x2x2x2xi8>
}

// -----

#id = affine_map<(d0, d1, d2, d3) -> (d0, d1, d2, d3)>
#channel = affine_map<(d0, d1, d2, d3) -> (d3)>

// 3x3 depthwise layers of any size may be one function, so they have one shift.
// CHECK-LABEL: func.func private @small
// CHECK: "tiny.rescale"(%{{.*}}) {{.*}}shift = 38 : i32
// CHECK-LABEL: func.func private @large
// CHECK: "tiny.rescale"(%{{.*}}) {{.*}}shift = 38 : i32
func.func private @small(%x: tensor<1x4x4x2xi8>) -> tensor<1x2x2x2xi8> attributes {tiny.layer = "small"} {
  %w = arith.constant dense<1> : tensor<3x3x2xi8>
  %b = arith.constant dense<[7, 9]> : tensor<2xi32>
  %m = arith.constant dense<[1717986918, 1288490189]> : tensor<2xi32>
  %s = arith.constant dense<[39, 40]> : tensor<2xi32>
  %e32 = tensor.empty() : tensor<1x2x2x2xi32>
  %start = linalg.broadcast ins(%b : tensor<2xi32>) outs(%e32 : tensor<1x2x2x2xi32>) dimensions = [0, 1, 2]
  %acc = linalg.depthwise_conv_2d_nhwc_hwc {dilations = dense<1> : vector<2xi64>, strides = dense<1> : vector<2xi64>}
      ins(%x, %w : tensor<1x4x4x2xi8>, tensor<3x3x2xi8>) outs(%start : tensor<1x2x2x2xi32>) -> tensor<1x2x2x2xi32>
  %e = tensor.empty() : tensor<1x2x2x2xi8>
  %q = linalg.generic {indexing_maps = [#id, #channel, #channel, #id], iterator_types = ["parallel", "parallel", "parallel", "parallel"]}
      ins(%acc, %m, %s : tensor<1x2x2x2xi32>, tensor<2xi32>, tensor<2xi32>) outs(%e : tensor<1x2x2x2xi8>) {
  ^bb0(%a: i32, %mc: i32, %sc: i32, %unused: i8):
    %r = "tiny.requantize"(%a, %mc, %sc) {zero_point = -128 : i32, min = -128 : i32, max = 127 : i32, rounding = "double"} : (i32, i32, i32) -> i8
    linalg.yield %r : i8
  } -> tensor<1x2x2x2xi8>
  return %q : tensor<1x2x2x2xi8>
}
func.func private @large(%x: tensor<1x5x4x2xi8>) -> tensor<1x3x2x2xi8> attributes {tiny.layer = "large"} {
  %w = arith.constant dense<1> : tensor<3x3x2xi8>
  %b = arith.constant dense<[7, 9]> : tensor<2xi32>
  %m = arith.constant dense<[1717986918, 1288490189]> : tensor<2xi32>
  %s = arith.constant dense<[38, 39]> : tensor<2xi32>
  %e32 = tensor.empty() : tensor<1x3x2x2xi32>
  %start = linalg.broadcast ins(%b : tensor<2xi32>) outs(%e32 : tensor<1x3x2x2xi32>) dimensions = [0, 1, 2]
  %acc = linalg.depthwise_conv_2d_nhwc_hwc {dilations = dense<1> : vector<2xi64>, strides = dense<1> : vector<2xi64>}
      ins(%x, %w : tensor<1x5x4x2xi8>, tensor<3x3x2xi8>) outs(%start : tensor<1x3x2x2xi32>) -> tensor<1x3x2x2xi32>
  %e = tensor.empty() : tensor<1x3x2x2xi8>
  %q = linalg.generic {indexing_maps = [#id, #channel, #channel, #id], iterator_types = ["parallel", "parallel", "parallel", "parallel"]}
      ins(%acc, %m, %s : tensor<1x3x2x2xi32>, tensor<2xi32>, tensor<2xi32>) outs(%e : tensor<1x3x2x2xi8>) {
  ^bb0(%a: i32, %mc: i32, %sc: i32, %unused: i8):
    %r = "tiny.requantize"(%a, %mc, %sc) {zero_point = -128 : i32, min = -128 : i32, max = 127 : i32, rounding = "double"} : (i32, i32, i32) -> i8
    linalg.yield %r : i8
  } -> tensor<1x3x2x2xi8>
  return %q : tensor<1x3x2x2xi8>
}

// -----

#id = affine_map<(d0, d1) -> (d0, d1)>
#channel = affine_map<(d0, d1) -> (d1)>

// Ties of one scale of few bits go either way: its line is late at 384, where it rises too little,
// and the bias moves that by 91.
// CHECK-LABEL: func.func private @late
// CHECK: tiny.requantize
// LATE-LABEL: func.func private @late
// LATE: arith.constant dense<[62, 62, 62, 91, 62, 62]> : tensor<6xi32>
// LATE: %[[ACC:.*]] = linalg.matmul
// LATE: %[[AT:.*]] = arith.constant dense<[-2147483648, -2147483648, -2147483648, 475, -2147483648, -2147483648]>
// LATE: %[[NEXT:.*]] = linalg.generic {{.*}} ins(%[[ACC]], %[[AT]] : tensor<3x6xi32>, tensor<6xi32>)
// LATE: "tiny.step_over"
// LATE: linalg.generic {{.*}} ins(%[[NEXT]],
// LATE-NOT: tiny.steps
// LATE: "tiny.rescale"
func.func private @late(%x: tensor<3x4xi8>) -> tensor<3x6xi8> attributes {tiny.layer = "q"} {
  %w = arith.constant dense<[[2, 1, 2, 1, 2, 1], [1, 2, 1, 2, 1, 2], [1, 1, 1, 1, 1, 1], [3, 3, 3, 3, 3, 3]]> : tensor<4x6xi8>
  %m = arith.constant dense<[588410496, 588410496, 588410496, 754974720, 588410496, 588410496]> : tensor<6xi32>
  %s = arith.constant dense<32> : tensor<6xi32>
  %b = arith.constant dense<0> : tensor<6xi32>
  %e32 = tensor.empty() : tensor<3x6xi32>
  %start = linalg.broadcast ins(%b : tensor<6xi32>) outs(%e32 : tensor<3x6xi32>) dimensions = [0]
  %acc = linalg.matmul ins(%x, %w : tensor<3x4xi8>, tensor<4x6xi8>) outs(%start : tensor<3x6xi32>) -> tensor<3x6xi32>
  %e = tensor.empty() : tensor<3x6xi8>
  %q = linalg.generic {indexing_maps = [#id, #channel, #channel, #id], iterator_types = ["parallel", "parallel"]}
      ins(%acc, %m, %s : tensor<3x6xi32>, tensor<6xi32>, tensor<6xi32>) outs(%e : tensor<3x6xi8>) {
  ^bb0(%a: i32, %mc: i32, %sc: i32, %unused: i8):
    %r = "tiny.requantize"(%a, %mc, %sc) {zero_point = 0 : i32, min = 0 : i32, max = 127 : i32, rounding = "float32"} : (i32, i32, i32) -> i8
    linalg.yield %r : i8
  } -> tensor<3x6xi8>
  return %q : tensor<3x6xi8>
}

// What may be the same code says so.
// LATE-LABEL: func.func private @alike
// LATE-NOT: tiny.step_over
// LATE: attrs =  {tiny.steps = "alike"}
func.func private @alike(%x: tensor<3x4xi8>) -> tensor<3x6xi8> attributes {tiny.layer = "r"} {
  %w = arith.constant dense<[[2, 1, 2, 1, 2, 1], [1, 2, 1, 2, 1, 2], [1, 1, 1, 1, 1, 1], [3, 3, 3, 3, 3, 3]]> : tensor<4x6xi8>
  %m = arith.constant dense<[588410496, 588410496, 588410496, 588410496, 588410496, 588410496]> : tensor<6xi32>
  %s = arith.constant dense<32> : tensor<6xi32>
  %b = arith.constant dense<0> : tensor<6xi32>
  %e32 = tensor.empty() : tensor<3x6xi32>
  %start = linalg.broadcast ins(%b : tensor<6xi32>) outs(%e32 : tensor<3x6xi32>) dimensions = [0]
  %acc = linalg.matmul ins(%x, %w : tensor<3x4xi8>, tensor<4x6xi8>) outs(%start : tensor<3x6xi32>) -> tensor<3x6xi32>
  %e = tensor.empty() : tensor<3x6xi8>
  %q = linalg.generic {indexing_maps = [#id, #channel, #channel, #id], iterator_types = ["parallel", "parallel"]}
      ins(%acc, %m, %s : tensor<3x6xi32>, tensor<6xi32>, tensor<6xi32>) outs(%e : tensor<3x6xi8>) {
  ^bb0(%a: i32, %mc: i32, %sc: i32, %unused: i8):
    %r = "tiny.requantize"(%a, %mc, %sc) {zero_point = 0 : i32, min = 0 : i32, max = 127 : i32, rounding = "float32"} : (i32, i32, i32) -> i8
    linalg.yield %r : i8
  } -> tensor<3x6xi8>
  return %q : tensor<3x6xi8>
}
