// RUN: tinymlir-opt %s --tiny-drop-channels --split-input-file | FileCheck %s

// Nobody reads channel 1: three layers do without.
// CHECK-LABEL: func.func @main
// CHECK: call @maker(%{{.*}}) : (tensor<1x2x2x1xi8>) -> tensor<1x2x2x2xi8>
// CHECK: call @passer(%{{.*}}) : (tensor<1x2x2x2xi8>) -> tensor<1x2x2x2xi8>
// CHECK: call @reader(%{{.*}}) : (tensor<1x2x2x2xi8>) -> tensor<1x2x2x1xi8>
// CHECK: func.func private @maker({{.*}} tiny.macs = 8 : i64
// CHECK: dense<[10, 30]> : tensor<2xi32>
// CHECK: dense<{{.*1.*3.*}}> : tensor<2x1x1x1xi8>
// CHECK: func.func private @passer({{.*}} tiny.macs = 8 : i64
// CHECK: dense<[40, 60]> : tensor<2xi32>
// CHECK: dense<{{.*4, 6.*}}> : tensor<1x1x2xi8>
// CHECK: func.func private @reader({{.*}} tiny.macs = 8 : i64
// CHECK: dense<{{.*7, 8.*}}> : tensor<1x1x1x2xi8>
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
    attributes {tiny.layer = "passer", tiny.macs = 0 : i64, tiny.op = "depthwise_conv2d"} {
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

// Of four channels a word stays, and those of an output are read.
// CHECK-LABEL: func.func @main
// CHECK: call @maker(%{{.*}}) : (tensor<1x2x2x1xi8>) -> tensor<1x2x2x4xi8>
// CHECK: call @reader(%{{.*}}) : (tensor<1x2x2x4xi8>) -> tensor<1x2x2x3xi8>
#id = affine_map<(d0, d1, d2, d3) -> (d0, d1, d2, d3)>

func.func @main(%x: tensor<1x2x2x1xi8>) -> tensor<1x2x2x3xi8> {
  %h = call @maker(%x) : (tensor<1x2x2x1xi8>) -> tensor<1x2x2x4xi8>
  %y = call @reader(%h) : (tensor<1x2x2x4xi8>) -> tensor<1x2x2x3xi8>
  return %y : tensor<1x2x2x3xi8>
}
func.func private @maker(%x: tensor<1x2x2x1xi8>) -> tensor<1x2x2x4xi8>
    attributes {tiny.layer = "maker", tiny.macs = 0 : i64, tiny.op = "conv2d"} {
  %w = arith.constant dense<[[[[1]]], [[[2]]], [[[3]]], [[[4]]]]> : tensor<4x1x1x1xi8>
  %b = arith.constant dense<[10, 20, 30, 40]> : tensor<4xi32>
  %e = tensor.empty() : tensor<1x2x2x4xi32>
  %s = linalg.broadcast ins(%b : tensor<4xi32>) outs(%e : tensor<1x2x2x4xi32>) dimensions = [0, 1, 2]
  %a = linalg.conv_2d_nhwc_fhwc {dilations = dense<1> : tensor<2xi64>, strides = dense<1> : tensor<2xi64>}
      ins(%x, %w : tensor<1x2x2x1xi8>, tensor<4x1x1x1xi8>) outs(%s : tensor<1x2x2x4xi32>) -> tensor<1x2x2x4xi32>
  %m = arith.constant 1073741824 : i32
  %h = arith.constant 30 : i32
  %f = tensor.empty() : tensor<1x2x2x4xi8>
  %y = linalg.generic {indexing_maps = [#id, #id], iterator_types = ["parallel", "parallel", "parallel", "parallel"]}
      ins(%a : tensor<1x2x2x4xi32>) outs(%f : tensor<1x2x2x4xi8>) {
  ^bb0(%acc: i32, %unused: i8):
    %r = "tiny.requantize"(%acc, %m, %h) {zero_point = 0 : i32, min = -128 : i32, max = 127 : i32, rounding = "nearest_up"} : (i32, i32, i32) -> i8
    linalg.yield %r : i8
  } -> tensor<1x2x2x4xi8>
  return %y : tensor<1x2x2x4xi8>
}
func.func private @reader(%x: tensor<1x2x2x4xi8>) -> tensor<1x2x2x3xi8>
    attributes {tiny.layer = "reader", tiny.macs = 0 : i64, tiny.op = "conv2d"} {
  %w = arith.constant dense<[[[[7, 0, 8, 0]]], [[[7, 0, 8, 0]]], [[[0, 0, 0, 0]]]]> : tensor<3x1x1x4xi8>
  %b = arith.constant dense<[0, 0, 0]> : tensor<3xi32>
  %e = tensor.empty() : tensor<1x2x2x3xi32>
  %s = linalg.broadcast ins(%b : tensor<3xi32>) outs(%e : tensor<1x2x2x3xi32>) dimensions = [0, 1, 2]
  %a = linalg.conv_2d_nhwc_fhwc {dilations = dense<1> : tensor<2xi64>, strides = dense<1> : tensor<2xi64>}
      ins(%x, %w : tensor<1x2x2x4xi8>, tensor<3x1x1x4xi8>) outs(%s : tensor<1x2x2x3xi32>) -> tensor<1x2x2x3xi32>
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

// -----

// Channel 0 is the constant 5, as is the padding of the first reader; channel 1 is 6, and stays.
// CHECK-LABEL: func.func @main
// CHECK: call @maker(%{{.*}}) : (tensor<1x2x2x1xi8>) -> tensor<1x2x2x2xi8>
// CHECK: func.func private @reader
// CHECK: dense<10> : tensor<1xi32>
// CHECK: dense<{{.*}}9, 3]{{.*}}> : tensor<1x1x1x2xi8>
#id = affine_map<(d0, d1, d2, d3) -> (d0, d1, d2, d3)>

func.func @main(%x: tensor<1x2x2x1xi8>) -> tensor<1x3x2x1xi8> {
  %h = call @maker(%x) : (tensor<1x2x2x1xi8>) -> tensor<1x2x2x3xi8>
  %y = call @reader(%h) : (tensor<1x2x2x3xi8>) -> tensor<1x3x2x1xi8>
  return %y : tensor<1x3x2x1xi8>
}
func.func private @maker(%x: tensor<1x2x2x1xi8>) -> tensor<1x2x2x3xi8>
    attributes {tiny.layer = "maker", tiny.macs = 0 : i64, tiny.op = "conv2d"} {
  %w = arith.constant dense<[[[[0]]], [[[0]]], [[[3]]]]> : tensor<3x1x1x1xi8>
  %b = arith.constant dense<[5, 6, 7]> : tensor<3xi32>
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
func.func private @reader(%x: tensor<1x2x2x3xi8>) -> tensor<1x3x2x1xi8>
    attributes {tiny.layer = "reader", tiny.macs = 0 : i64, tiny.op = "conv2d"} {
  %z = arith.constant 5 : i8
  %p = tensor.pad %x low[0, 1, 0, 0] high[0, 0, 0, 0] {
  ^bb0(%i: index, %j: index, %k: index, %l: index):
    tensor.yield %z : i8
  } : tensor<1x2x2x3xi8> to tensor<1x3x2x3xi8>
  %w = arith.constant dense<[[[[2, 9, 3]]]]> : tensor<1x1x1x3xi8>
  %b = arith.constant dense<[0]> : tensor<1xi32>
  %e = tensor.empty() : tensor<1x3x2x1xi32>
  %s = linalg.broadcast ins(%b : tensor<1xi32>) outs(%e : tensor<1x3x2x1xi32>) dimensions = [0, 1, 2]
  %a = linalg.conv_2d_nhwc_fhwc {dilations = dense<1> : tensor<2xi64>, strides = dense<1> : tensor<2xi64>}
      ins(%p, %w : tensor<1x3x2x3xi8>, tensor<1x1x1x3xi8>) outs(%s : tensor<1x3x2x1xi32>) -> tensor<1x3x2x1xi32>
  %m = arith.constant 1073741824 : i32
  %h = arith.constant 30 : i32
  %f = tensor.empty() : tensor<1x3x2x1xi8>
  %y = linalg.generic {indexing_maps = [#id, #id], iterator_types = ["parallel", "parallel", "parallel", "parallel"]}
      ins(%a : tensor<1x3x2x1xi32>) outs(%f : tensor<1x3x2x1xi8>) {
  ^bb0(%acc: i32, %unused: i8):
    %r = "tiny.requantize"(%acc, %m, %h) {zero_point = 0 : i32, min = -128 : i32, max = 127 : i32, rounding = "nearest_up"} : (i32, i32, i32) -> i8
    linalg.yield %r : i8
  } -> tensor<1x3x2x1xi8>
  return %y : tensor<1x3x2x1xi8>
}
