// RUN: tinymlir-opt %s --split-input-file --tiny-outline-layers | FileCheck %s
// RUN: tinymlir-opt %s --split-input-file --tiny-outline-layers=inline-tables=true | FileCheck %s --check-prefix=INLINE

#all = affine_map<(d0, d1, d2, d3) -> (d0, d1, d2, d3)>
#channel = affine_map<(d0, d1, d2, d3) -> (d3)>

// A convolution takes along its padding, bias, constants and requantization; the
// reshape between layers stays a view in @main.
// CHECK-LABEL: func.func @main
// CHECK-SAME: (%[[X:.*]]: tensor<1x4x4x2xi8>)
// CHECK-NEXT: %[[A:.*]] = call @layer0(%[[X]]) : (tensor<1x4x4x2xi8>) -> tensor<1x4x4x3xi8>
// CHECK-NEXT: %[[V:.*]] = tensor.collapse_shape %[[A]]
// CHECK-NEXT: %[[B:.*]] = call @layer1(%[[V]]) : (tensor<1x48xi8>) -> tensor<1x48xi8>
// CHECK-NEXT: return %[[B]]
// CHECK: func.func private @layer0(%[[Y:.*]]: tensor<1x4x4x2xi8>) -> tensor<1x4x4x3xi8>
// CHECK-SAME: attributes {tiny.layer = "first", tiny.macs = 864 : i64, tiny.op = "conv2d"}
// CHECK: tensor.pad %[[Y]]
// CHECK: linalg.broadcast
// CHECK: linalg.conv_2d_nhwc_fhwc
// CHECK: linalg.generic
// CHECK: tiny.requantize
// CHECK: func.func private @layer1
// CHECK-SAME: attributes {tiny.layer = "layer1", tiny.macs = 0 : i64, tiny.op = "max"}
// CHECK-NEXT: tensor.empty
// CHECK-NEXT: linalg.max
// CHECK-NEXT: return
func.func @main(%x: tensor<1x4x4x2xi8>) -> tensor<1x48xi8> {
  %zp = arith.constant 5 : i8
  %m = arith.constant 1073741824 : i32
  %s = arith.constant 40 : i32
  %w = arith.constant dense<1> : tensor<3x3x3x2xi8>
  %b = arith.constant dense<[1, 2, 3]> : tensor<3xi32>
  %p = tensor.pad %x low[0, 1, 1, 0] high[0, 1, 1, 0] {
  ^bb0(%i: index, %j: index, %k: index, %l: index):
    tensor.yield %zp : i8
  } : tensor<1x4x4x2xi8> to tensor<1x6x6x2xi8>
  %e = tensor.empty() : tensor<1x4x4x3xi32>
  %init = linalg.broadcast ins(%b : tensor<3xi32>) outs(%e : tensor<1x4x4x3xi32>) dimensions = [0, 1, 2]
  %acc = linalg.conv_2d_nhwc_fhwc ins(%p, %w : tensor<1x6x6x2xi8>, tensor<3x3x3x2xi8>) outs(%init : tensor<1x4x4x3xi32>) -> tensor<1x4x4x3xi32>
  %e8 = tensor.empty() : tensor<1x4x4x3xi8>
  %q = linalg.generic {indexing_maps = [#all, #all], iterator_types = ["parallel", "parallel", "parallel", "parallel"]} ins(%acc : tensor<1x4x4x3xi32>) outs(%e8 : tensor<1x4x4x3xi8>) attrs = {tiny.layer = "first", tiny.op = "conv2d"} {
  ^bb0(%a: i32, %o: i8):
    %r = "tiny.requantize"(%a, %m, %s) {zero_point = 0 : i32, min = -128 : i32, max = 127 : i32, rounding = "nearest_up"} : (i32, i32, i32) -> i8
    linalg.yield %r : i8
  } -> tensor<1x4x4x3xi8>
  %v = tensor.collapse_shape %q [[0], [1, 2, 3]] : tensor<1x4x4x3xi8> into tensor<1x48xi8>
  %d = tensor.empty() : tensor<1x48xi8>
  %y = linalg.max ins(%v, %v : tensor<1x48xi8>, tensor<1x48xi8>) outs(%d : tensor<1x48xi8>) -> tensor<1x48xi8>
  return %y : tensor<1x48xi8>
}

// -----

// Layers that read one another take results as arguments; each gets constants of its own.
// CHECK-LABEL: func.func @main
// CHECK-SAME: (%[[X:.*]]: tensor<4xi8>, %[[Y:.*]]: tensor<4xi8>)
// CHECK-NEXT: %[[A:.*]] = call @layer0(%[[Y]])
// CHECK-NEXT: %[[B:.*]] = call @layer1(%[[A]], %[[X]])
// CHECK-NEXT: return %[[B]], %[[A]]
// CHECK: @layer0
// CHECK-NEXT: arith.constant dense<7>
// CHECK: @layer1
// CHECK-NEXT: arith.constant dense<7>
func.func @main(%x: tensor<4xi8>, %y: tensor<4xi8>) -> (tensor<4xi8>, tensor<4xi8>) {
  %e = arith.constant dense<7> : tensor<4xi8>
  %a = linalg.max ins(%y, %y : tensor<4xi8>, tensor<4xi8>) outs(%e : tensor<4xi8>) -> tensor<4xi8>
  %b = linalg.max ins(%a, %x : tensor<4xi8>, tensor<4xi8>) outs(%e : tensor<4xi8>) -> tensor<4xi8>
  return %b, %a : tensor<4xi8>, tensor<4xi8>
}

// -----

// Padding belongs to the layer that reads it, through a reshape as well.
// CHECK-LABEL: func.func @main
// CHECK-SAME: (%[[X:.*]]: tensor<4xi8>)
// CHECK-NEXT: %[[Y:.*]] = call @layer0(%[[X]]) : (tensor<4xi8>) -> tensor<2x3xi8>
// CHECK-NEXT: return %[[Y]]
// CHECK: tensor.pad
// CHECK: tensor.expand_shape
// CHECK-NOT: @layer1
func.func @main(%x: tensor<4xi8>) -> tensor<2x3xi8> {
  %zp = arith.constant 0 : i8
  %p = tensor.pad %x low[1] high[1] {
  ^bb0(%i: index):
    tensor.yield %zp : i8
  } : tensor<4xi8> to tensor<6xi8>
  %v = tensor.expand_shape %p [[0, 1]] output_shape [2, 3] : tensor<6xi8> into tensor<2x3xi8>
  %e = tensor.empty() : tensor<2x3xi8>
  %y = linalg.max ins(%v, %v : tensor<2x3xi8>, tensor<2x3xi8>) outs(%e : tensor<2x3xi8>) -> tensor<2x3xi8>
  return %y : tensor<2x3xi8>
}

// -----

// A padded tensor that the network gives is a layer of its own.
// CHECK-LABEL: func.func @main
// CHECK: call @layer0
// CHECK: func.func private @layer0
// CHECK: tensor.pad
func.func @main(%x: tensor<4xi8>) -> tensor<6xi8> {
  %zp = arith.constant 0 : i8
  %p = tensor.pad %x low[1] high[1] {
  ^bb0(%i: index):
    tensor.yield %zp : i8
  } : tensor<4xi8> to tensor<6xi8>
  return %p : tensor<6xi8>
}

// -----

// Calls are layers already, other functions no part of the network; what nothing
// uses goes.
// CHECK-LABEL: func.func @main
// CHECK-SAME: (%[[X:.*]]: tensor<4xi8>)
// CHECK-NEXT: %[[Y:.*]] = call @layer0(%[[X]])
// CHECK-NEXT: return %[[Y]]
// CHECK: func.func private @layer0
// CHECK: linalg.max
// CHECK-LABEL: func.func @other
// CHECK: linalg.max
// CHECK-NOT: layer1
func.func @main(%x: tensor<4xi8>) -> tensor<4xi8> {
  %unused = tensor.expand_shape %x [[0, 1]] output_shape [2, 2] : tensor<4xi8> into tensor<2x2xi8>
  %e = tensor.empty() : tensor<4xi8>
  %y = linalg.max ins(%x, %x : tensor<4xi8>, tensor<4xi8>) outs(%e : tensor<4xi8>) -> tensor<4xi8>
  return %y : tensor<4xi8>
}
func.func @other(%x: tensor<4xi8>) -> tensor<4xi8> {
  %e = tensor.empty() : tensor<4xi8>
  %y = linalg.max ins(%x, %x : tensor<4xi8>, tensor<4xi8>) outs(%e : tensor<4xi8>) -> tensor<4xi8>
  return %y : tensor<4xi8>
}

// -----

// Layers that are functions already stay as they are; the others take names that are free, and
// what a frontend knows of their results goes along.
// CHECK-LABEL: func.func @main
// CHECK-NEXT: %[[A:.*]] = call @layer0
// CHECK-NEXT: %[[B:.*]] = call @layer1(%[[A]])
// CHECK-NEXT: return %[[B]], %[[A]]
// CHECK: func.func private @layer1
// CHECK-SAME: tiny.tensor = {tiny.name = "b"}
// CHECK: func.func private @layer0
func.func @main(%x: tensor<4xi8>) -> (tensor<4xi8>, tensor<4xi8>) {
  %a = call @layer0(%x) : (tensor<4xi8>) -> tensor<4xi8>
  %e = tensor.empty() : tensor<4xi8>
  %b = linalg.copy {tiny.layer = "copy", tiny.op = "copy", tiny.tensor = {tiny.name = "b"}}
      ins(%a : tensor<4xi8>) outs(%e : tensor<4xi8>) -> tensor<4xi8>
  return %b, %a : tensor<4xi8>, tensor<4xi8>
}
func.func private @layer0(%x: tensor<4xi8>) -> tensor<4xi8>

// -----

#id = affine_map<(d0, d1) -> (d0, d1)>

// With inline-tables, a lookup that alone reads a dense layer is a part of that.
// CHECK-LABEL: func.func @main
// CHECK-COUNT-2: call @layer
// INLINE-LABEL: func.func @main(%arg0: tensor<1x2xi8>)
// INLINE: call @layer0
// INLINE-NEXT: return
// INLINE: func.func private @layer0
// INLINE-SAME: tiny.layer = "dense", tiny.macs = 2 : i64, tiny.op = "fully_connected"
func.func @main(%x: tensor<1x2xi8>) -> tensor<1x1xi8> {
  %w = arith.constant dense<[[3], [1]]> : tensor<2x1xi8>
  %b = arith.constant 0 : i32
  %m = arith.constant 1073741824 : i32
  %s = arith.constant 30 : i32
  %table = arith.constant dense<3> : tensor<256xi8>
  %low = arith.constant -128 : i32
  %e = tensor.empty() : tensor<1x1xi32>
  %i = linalg.fill ins(%b : i32) outs(%e : tensor<1x1xi32>) -> tensor<1x1xi32>
  %acc = linalg.matmul ins(%x, %w : tensor<1x2xi8>, tensor<2x1xi8>) outs(%i : tensor<1x1xi32>) -> tensor<1x1xi32>
  %f = tensor.empty() : tensor<1x1xi8>
  %q = linalg.generic {indexing_maps = [#id, #id], iterator_types = ["parallel", "parallel"]}
      ins(%acc : tensor<1x1xi32>) outs(%f : tensor<1x1xi8>) attrs = {tiny.layer = "dense"} {
  ^bb0(%a: i32, %unused: i8):
    %r = "tiny.requantize"(%a, %m, %s) {zero_point = 0 : i32, min = -128 : i32, max = 127 : i32, rounding = "double"} : (i32, i32, i32) -> i8
    linalg.yield %r : i8
  } -> tensor<1x1xi8>
  %y = linalg.generic {indexing_maps = [#id, #id], iterator_types = ["parallel", "parallel"]}
      ins(%q : tensor<1x1xi8>) outs(%f : tensor<1x1xi8>) attrs = {tiny.op = "lookup"} {
  ^bb0(%a: i8, %unused: i8):
    %v = arith.extsi %a : i8 to i32
    %d = arith.subi %v, %low : i32
    %n = arith.index_cast %d : i32 to index
    %r = tensor.extract %table[%n] : tensor<256xi8>
    linalg.yield %r : i8
  } -> tensor<1x1xi8>
  return %y : tensor<1x1xi8>
}

// -----

// Channels in groups are a matter of the layer that multiplies group by group.
// CHECK-LABEL: func.func @main
// CHECK-SAME: (%[[X:.*]]: tensor<1x2x2x6xi8>)
// CHECK-NEXT: %[[Y:.*]] = call @layer0(%[[X]]) : (tensor<1x2x2x6xi8>) -> tensor<1x2x2x2x2xi8>
// CHECK-NEXT: return %[[Y]]
// CHECK: tensor.expand_shape
// CHECK: linalg.conv_2d_nhwgc_gfhwc
#groups = affine_map<(d0, d1, d2, d3, d4) -> (d0, d1, d2, d3, d4)>
func.func @main(%x: tensor<1x2x2x6xi8>) -> tensor<1x2x2x2x2xi8> {
  %w = arith.constant dense<1> : tensor<2x2x1x1x3xi8>
  %zero = arith.constant 0 : i32
  %e = tensor.empty() : tensor<1x2x2x2x2xi32>
  %init = linalg.fill ins(%zero : i32) outs(%e : tensor<1x2x2x2x2xi32>) -> tensor<1x2x2x2x2xi32>
  %g = tensor.expand_shape %x [[0], [1], [2], [3, 4]] output_shape [1, 2, 2, 2, 3] : tensor<1x2x2x6xi8> into tensor<1x2x2x2x3xi8>
  %acc = linalg.conv_2d_nhwgc_gfhwc ins(%g, %w : tensor<1x2x2x2x3xi8>, tensor<2x2x1x1x3xi8>) outs(%init : tensor<1x2x2x2x2xi32>) -> tensor<1x2x2x2x2xi32>
  %e8 = tensor.empty() : tensor<1x2x2x2x2xi8>
  %y = linalg.generic {indexing_maps = [#groups, #groups], iterator_types = ["parallel", "parallel", "parallel", "parallel", "parallel"]} ins(%acc : tensor<1x2x2x2x2xi32>) outs(%e8 : tensor<1x2x2x2x2xi8>) {
  ^bb0(%a: i32, %o: i8):
    %t = arith.trunci %a : i32 to i8
    linalg.yield %t : i8
  } -> tensor<1x2x2x2x2xi8>
  return %y : tensor<1x2x2x2x2xi8>
}
