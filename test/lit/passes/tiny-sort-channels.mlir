// RUN: tinymlir-opt %s --tiny-sort-channels --split-input-file | FileCheck %s

// The least significant channel comes last, everywhere.
// CHECK: func.func private @maker
// CHECK: dense<[30, 10, 20]> : tensor<3xi32>
// CHECK: func.func private @passer
// CHECK-NOT: tiny.significance
// CHECK: dense<[60, 40, 50]> : tensor<3xi32>
// CHECK: dense<{{.*6, 4, 5.*}}> : tensor<1x1x3xi8>
// CHECK: func.func private @reader
// CHECK: dense<{{.*8, 7, 0.*}}> : tensor<1x1x1x3xi8>
#id = affine_map<(d0, d1, d2, d3) -> (d0, d1, d2, d3)>

func.func @main(%x: tensor<1x2x2x1xi8>) -> tensor<1x2x2x1xi8> {
  %h = call @maker(%x) : (tensor<1x2x2x1xi8>) -> tensor<1x2x2x3xi8>
  %g = call @passer(%h) : (tensor<1x2x2x3xi8>) -> tensor<1x2x2x3xi8>
  %y = call @reader(%g) : (tensor<1x2x2x3xi8>) -> tensor<1x2x2x1xi8>
  return %y : tensor<1x2x2x1xi8>
}
func.func private @maker(%x: tensor<1x2x2x1xi8>) -> tensor<1x2x2x3xi8>
    attributes {tiny.layer = "maker", tiny.macs = 0 : i64, tiny.op = "conv2d"} {
  %w = arith.constant dense<[[[[1]]], [[[2]]], [[[3]]]]> : tensor<3x1x1x1xi8>
  %b = arith.constant dense<[10, 20, 30]> : tensor<3xi32>
  %e = tensor.empty() : tensor<1x2x2x3xi32>
  %s = linalg.broadcast ins(%b : tensor<3xi32>) outs(%e : tensor<1x2x2x3xi32>) dimensions = [0, 1, 2]
  %a = linalg.conv_2d_nhwc_fhwc {dilations = dense<1> : tensor<2xi64>, strides = dense<1> : tensor<2xi64>}
      ins(%x, %w : tensor<1x2x2x1xi8>, tensor<3x1x1x1xi8>) outs(%s : tensor<1x2x2x3xi32>) -> tensor<1x2x2x3xi32>
  %m = arith.constant 1073741824 : i32
  %h = arith.constant 30 : i32
  %f = tensor.empty() : tensor<1x2x2x3xi8>
  %y = linalg.generic {indexing_maps = [#id, #id], iterator_types = ["parallel", "parallel", "parallel", "parallel"]}
      ins(%a : tensor<1x2x2x3xi32>) outs(%f : tensor<1x2x2x3xi8>) {
  ^bb0(%acc: i32, %unused: i8):
    %r = "tiny.requantize"(%acc, %m, %h) {zero_point = 0 : i32, min = -128 : i32, max = 127 : i32, rounding = "nearest_up"} : (i32, i32, i32) -> i8
    linalg.yield %r : i8
  } -> tensor<1x2x2x3xi8>
  return %y : tensor<1x2x2x3xi8>
}
func.func private @passer(%x: tensor<1x2x2x3xi8>) -> tensor<1x2x2x3xi8>
    attributes {tiny.granularity = "channel", tiny.significance = dense<[[0.5], [0.25], [0.75]]> : tensor<3x1xf32>, tiny.layer = "passer", tiny.macs = 0 : i64, tiny.op = "depthwise_conv2d"} {
  %w = arith.constant dense<[[[4, 5, 6]]]> : tensor<1x1x3xi8>
  %b = arith.constant dense<[40, 50, 60]> : tensor<3xi32>
  %e = tensor.empty() : tensor<1x2x2x3xi32>
  %s = linalg.broadcast ins(%b : tensor<3xi32>) outs(%e : tensor<1x2x2x3xi32>) dimensions = [0, 1, 2]
  %a = linalg.depthwise_conv_2d_nhwc_hwc {dilations = dense<1> : tensor<2xi64>, strides = dense<1> : tensor<2xi64>}
      ins(%x, %w : tensor<1x2x2x3xi8>, tensor<1x1x3xi8>) outs(%s : tensor<1x2x2x3xi32>) -> tensor<1x2x2x3xi32>
  %m = arith.constant 1073741824 : i32
  %h = arith.constant 30 : i32
  %f = tensor.empty() : tensor<1x2x2x3xi8>
  %y = linalg.generic {indexing_maps = [#id, #id], iterator_types = ["parallel", "parallel", "parallel", "parallel"]}
      ins(%a : tensor<1x2x2x3xi32>) outs(%f : tensor<1x2x2x3xi8>) {
  ^bb0(%acc: i32, %unused: i8):
    %r = "tiny.requantize"(%acc, %m, %h) {zero_point = 0 : i32, min = -128 : i32, max = 127 : i32, rounding = "nearest_up"} : (i32, i32, i32) -> i8
    linalg.yield %r : i8
  } -> tensor<1x2x2x3xi8>
  return %y : tensor<1x2x2x3xi8>
}
func.func private @reader(%x: tensor<1x2x2x3xi8>) -> tensor<1x2x2x1xi8>
    attributes {tiny.layer = "reader", tiny.macs = 0 : i64, tiny.op = "conv2d"} {
  %w = arith.constant dense<[[[[7, 0, 8]]]]> : tensor<1x1x1x3xi8>
  %b = arith.constant dense<[0]> : tensor<1xi32>
  %e = tensor.empty() : tensor<1x2x2x1xi32>
  %s = linalg.broadcast ins(%b : tensor<1xi32>) outs(%e : tensor<1x2x2x1xi32>) dimensions = [0, 1, 2]
  %a = linalg.conv_2d_nhwc_fhwc {dilations = dense<1> : tensor<2xi64>, strides = dense<1> : tensor<2xi64>}
      ins(%x, %w : tensor<1x2x2x3xi8>, tensor<1x1x1x3xi8>) outs(%s : tensor<1x2x2x1xi32>) -> tensor<1x2x2x1xi32>
  %m = arith.constant 1073741824 : i32
  %h = arith.constant 30 : i32
  %f = tensor.empty() : tensor<1x2x2x1xi8>
  %y = linalg.generic {indexing_maps = [#id, #id], iterator_types = ["parallel", "parallel", "parallel", "parallel"]}
      ins(%a : tensor<1x2x2x1xi32>) outs(%f : tensor<1x2x2x1xi8>) {
  ^bb0(%acc: i32, %unused: i8):
    %r = "tiny.requantize"(%acc, %m, %h) {zero_point = 0 : i32, min = -128 : i32, max = 127 : i32, rounding = "nearest_up"} : (i32, i32, i32) -> i8
    linalg.yield %r : i8
  } -> tensor<1x2x2x1xi8>
  return %y : tensor<1x2x2x1xi8>
}

// -----

// Those of an output stay where they are, and those without significance of their own.
// CHECK: func.func private @maker
// CHECK: dense<[10, 20, 30]> : tensor<3xi32>
// CHECK: func.func private @passer{{.*}}tiny.significance
// CHECK: dense<[40, 50, 60]> : tensor<3xi32>
#id = affine_map<(d0, d1, d2, d3) -> (d0, d1, d2, d3)>

func.func @main(%x: tensor<1x2x2x1xi8>) -> tensor<1x2x2x3xi8> {
  %h = call @maker(%x) : (tensor<1x2x2x1xi8>) -> tensor<1x2x2x3xi8>
  %y = call @passer(%h) : (tensor<1x2x2x3xi8>) -> tensor<1x2x2x3xi8>
  return %y : tensor<1x2x2x3xi8>
}
func.func private @maker(%x: tensor<1x2x2x1xi8>) -> tensor<1x2x2x3xi8>
    attributes {tiny.granularity = "pair", tiny.significance = dense<[[0.5], [0.25], [0.75]]> : tensor<3x1xf32>, tiny.layer = "maker", tiny.macs = 0 : i64, tiny.op = "conv2d"} {
  %w = arith.constant dense<[[[[1]]], [[[2]]], [[[3]]]]> : tensor<3x1x1x1xi8>
  %b = arith.constant dense<[10, 20, 30]> : tensor<3xi32>
  %e = tensor.empty() : tensor<1x2x2x3xi32>
  %s = linalg.broadcast ins(%b : tensor<3xi32>) outs(%e : tensor<1x2x2x3xi32>) dimensions = [0, 1, 2]
  %a = linalg.conv_2d_nhwc_fhwc {dilations = dense<1> : tensor<2xi64>, strides = dense<1> : tensor<2xi64>}
      ins(%x, %w : tensor<1x2x2x1xi8>, tensor<3x1x1x1xi8>) outs(%s : tensor<1x2x2x3xi32>) -> tensor<1x2x2x3xi32>
  %m = arith.constant 1073741824 : i32
  %h = arith.constant 30 : i32
  %f = tensor.empty() : tensor<1x2x2x3xi8>
  %y = linalg.generic {indexing_maps = [#id, #id], iterator_types = ["parallel", "parallel", "parallel", "parallel"]}
      ins(%a : tensor<1x2x2x3xi32>) outs(%f : tensor<1x2x2x3xi8>) {
  ^bb0(%acc: i32, %unused: i8):
    %r = "tiny.requantize"(%acc, %m, %h) {zero_point = 0 : i32, min = -128 : i32, max = 127 : i32, rounding = "nearest_up"} : (i32, i32, i32) -> i8
    linalg.yield %r : i8
  } -> tensor<1x2x2x3xi8>
  return %y : tensor<1x2x2x3xi8>
}
func.func private @passer(%x: tensor<1x2x2x3xi8>) -> tensor<1x2x2x3xi8>
    attributes {tiny.granularity = "channel", tiny.significance = dense<[[0.5], [0.25], [0.75]]> : tensor<3x1xf32>, tiny.layer = "passer", tiny.macs = 0 : i64, tiny.op = "depthwise_conv2d"} {
  %w = arith.constant dense<[[[4, 5, 6]]]> : tensor<1x1x3xi8>
  %b = arith.constant dense<[40, 50, 60]> : tensor<3xi32>
  %e = tensor.empty() : tensor<1x2x2x3xi32>
  %s = linalg.broadcast ins(%b : tensor<3xi32>) outs(%e : tensor<1x2x2x3xi32>) dimensions = [0, 1, 2]
  %a = linalg.depthwise_conv_2d_nhwc_hwc {dilations = dense<1> : tensor<2xi64>, strides = dense<1> : tensor<2xi64>}
      ins(%x, %w : tensor<1x2x2x3xi8>, tensor<1x1x3xi8>) outs(%s : tensor<1x2x2x3xi32>) -> tensor<1x2x2x3xi32>
  %m = arith.constant 1073741824 : i32
  %h = arith.constant 30 : i32
  %f = tensor.empty() : tensor<1x2x2x3xi8>
  %y = linalg.generic {indexing_maps = [#id, #id], iterator_types = ["parallel", "parallel", "parallel", "parallel"]}
      ins(%a : tensor<1x2x2x3xi32>) outs(%f : tensor<1x2x2x3xi8>) {
  ^bb0(%acc: i32, %unused: i8):
    %r = "tiny.requantize"(%acc, %m, %h) {zero_point = 0 : i32, min = -128 : i32, max = 127 : i32, rounding = "nearest_up"} : (i32, i32, i32) -> i8
    linalg.yield %r : i8
  } -> tensor<1x2x2x3xi8>
  return %y : tensor<1x2x2x3xi8>
}
