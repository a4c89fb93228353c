// RUN: tinymlir-opt %s --split-input-file --tiny-lower-layers=target=cortex-m3 | FileCheck %s
// RUN: tinymlir-opt %s --split-input-file --tiny-lower-layers=target=cortex-m0 | FileCheck %s --check-prefix=FEW
// RUN: tinymlir-opt %s --split-input-file --tiny-lower-layers=target=cortex-m4 | FileCheck %s --check-prefix=DUAL
// RUN: tinymlir-opt %s --split-input-file --tiny-lower-layers=target=host | FileCheck %s --check-prefix=LANES
// RUN: tinymlir-opt %s --split-input-file --tiny-lower-layers=target=cortex-m55 | FileCheck %s --check-prefix=VECTORS

#all = affine_map<(d0, d1, d2, d3) -> (d0, d1, d2, d3)>

// A convolution keeps its accumulators in registers from the bias to the one store of
// a result. Windows that hang over the border run in a function of their own, over the
// taps that exist, with a bias that does not count on padding: 1 + 5 * 18 for padding
// by 5 and 18 weights of 1.
// CHECK-LABEL: func.func @main
// CHECK: call @layer0({{.*}}) : (memref<1x5x5x2xi8>, memref<1x5x5x3xi8>) -> ()
// CHECK: func.func private @layer0(
// The last row's block at column 3 writes up to byte 75 while byte 34 may still be read.
// CHECK-SAME: tiny.executed_macs = 1014 : i64, tiny.inputs = 1 : i64
// CHECK-SAME: tiny.overlap = array<i64: 41>
// CHECK: call @layer0_border
// CHECK: memref.get_global @[[BIAS:bias_[0-9]+]]
// CHECK: scf.for {{.*}} iter_args
// CHECK: scf.for {{.*}} iter_args
// CHECK-NOT: memref.store
// CHECK: scf.yield
// CHECK-NOT: memref.store
// CHECK: scf.yield
// CHECK: "tiny.requantize"
// CHECK: memref.store
// CHECK: func.func private @layer0_border
// CHECK: memref.get_global @[[FULL:bias_[0-9]+]]
// CHECK: arith.subi {{.*}} : i32
// CHECK-NOT: call
// With few registers one pixel at a time.
// FEW: -> (i32, i32, i32) {
// Vectors hold eight channels of one pixel out of four, and rows are shorter than that.
// LANES-NOT: -> (i32, i32, i32, i32
// LANES: iter_args({{.*}}) -> (i32, i32, i32) {
func.func @main(%x: tensor<1x5x5x2xi8>) -> tensor<1x5x5x3xi8> {
  %y = call @layer0(%x) : (tensor<1x5x5x2xi8>) -> tensor<1x5x5x3xi8>
  return %y : tensor<1x5x5x3xi8>
}
func.func private @layer0(%x: tensor<1x5x5x2xi8>) -> tensor<1x5x5x3xi8> attributes {tiny.layer = "conv", tiny.macs = 1350 : i64, tiny.op = "conv2d"} {
  %zp = arith.constant 5 : i8
  %m = arith.constant 1073741824 : i32
  %s = arith.constant 40 : i32
  %w = arith.constant dense<1> : tensor<3x3x3x2xi8>
  %b = arith.constant dense<[1, 2, 3]> : tensor<3xi32>
  %p = tensor.pad %x low[0, 1, 1, 0] high[0, 1, 1, 0] {
  ^bb0(%i: index, %j: index, %k: index, %l: index):
    tensor.yield %zp : i8
  } : tensor<1x5x5x2xi8> to tensor<1x7x7x2xi8>
  %e = tensor.empty() : tensor<1x5x5x3xi32>
  %init = linalg.broadcast ins(%b : tensor<3xi32>) outs(%e : tensor<1x5x5x3xi32>) dimensions = [0, 1, 2]
  %acc = linalg.conv_2d_nhwc_fhwc ins(%p, %w : tensor<1x7x7x2xi8>, tensor<3x3x3x2xi8>) outs(%init : tensor<1x5x5x3xi32>) -> tensor<1x5x5x3xi32>
  %e8 = tensor.empty() : tensor<1x5x5x3xi8>
  %q = linalg.generic {indexing_maps = [#all, #all], iterator_types = ["parallel", "parallel", "parallel", "parallel"]} ins(%acc : tensor<1x5x5x3xi32>) outs(%e8 : tensor<1x5x5x3xi8>) {
  ^bb0(%a: i32, %o: i8):
    %r = "tiny.requantize"(%a, %m, %s) {zero_point = 0 : i32, min = -128 : i32, max = 127 : i32, rounding = "nearest_up"} : (i32, i32, i32) -> i8
    linalg.yield %r : i8
  } -> tensor<1x5x5x3xi8>
  return %q : tensor<1x5x5x3xi8>
}

// -----

#rows = affine_map<(d0, d1) -> (d0, d1)>
#row = affine_map<(d0, d1) -> (d0)>

// A reduction that each element of the result needs gets a buffer, so that it is
// computed once.
// CHECK-LABEL: func.func @main
// CHECK: %[[OUT:.*]] = memref.alloc() : memref<2x12xi8>
// CHECK: %[[SUMS:.*]] = memref.alloc() : memref<2xi32>
// CHECK: call @layer0({{.*}}, %[[OUT]], %[[SUMS]])
// CHECK: func.func private @layer0({{.*}}, %[[ROWS:.*]]: memref<2x12xi8>, %[[SCRATCH:.*]]: memref<2xi32>)
// CHECK: iter_args
// CHECK: memref.store {{.*}}, %[[SCRATCH]]
// CHECK: memref.load %[[SCRATCH]]
// CHECK: memref.store {{.*}}, %[[ROWS]]
func.func @main(%x: tensor<2x12xi8>) -> tensor<2x12xi8> {
  %y = call @layer0(%x) : (tensor<2x12xi8>) -> tensor<2x12xi8>
  return %y : tensor<2x12xi8>
}
func.func private @layer0(%x: tensor<2x12xi8>) -> tensor<2x12xi8> attributes {tiny.layer = "softmax", tiny.macs = 0 : i64, tiny.op = "softmax"} {
  %c0 = arith.constant 0 : i32
  %e = tensor.empty() : tensor<2xi32>
  %init = linalg.fill ins(%c0 : i32) outs(%e : tensor<2xi32>) -> tensor<2xi32>
  %sum = linalg.generic {indexing_maps = [#rows, #row], iterator_types = ["parallel", "reduction"]} ins(%x : tensor<2x12xi8>) outs(%init : tensor<2xi32>) {
  ^bb0(%a: i8, %acc: i32):
    %wide = arith.extsi %a : i8 to i32
    %next = arith.addi %acc, %wide : i32
    linalg.yield %next : i32
  } -> tensor<2xi32>
  %e8 = tensor.empty() : tensor<2x12xi8>
  %y = linalg.generic {indexing_maps = [#rows, #row, #rows], iterator_types = ["parallel", "parallel"]} ins(%x, %sum : tensor<2x12xi8>, tensor<2xi32>) outs(%e8 : tensor<2x12xi8>) {
  ^bb0(%a: i8, %total: i32, %o: i8):
    %narrow = arith.trunci %total : i32 to i8
    %r = arith.subi %a, %narrow : i8
    linalg.yield %r : i8
  } -> tensor<2x12xi8>
  return %y : tensor<2x12xi8>
}

// -----

#id = affine_map<(d0, d1) -> (d0, d1)>
#swap = affine_map<(d0, d1) -> (d1, d0)>

// The result may take the place of an input that each element reads at its own place
// only: of the first, not of the second, which it also reads transposed.
// CHECK-LABEL: func.func private @sum
// CHECK-SAME: tiny.overlap = array<i64: 0, -1>
func.func private @sum(%x: tensor<4x4xi8>, %y: tensor<4x4xi8>) -> tensor<4x4xi8> attributes {tiny.layer = "sum", tiny.macs = 0 : i64, tiny.op = "add"} {
  %e = tensor.empty() : tensor<4x4xi8>
  %z = linalg.generic {indexing_maps = [#id, #id, #swap, #id], iterator_types = ["parallel", "parallel"]} ins(%x, %y, %y : tensor<4x4xi8>, tensor<4x4xi8>, tensor<4x4xi8>) outs(%e : tensor<4x4xi8>) {
  ^bb0(%a: i8, %b: i8, %c: i8, %o: i8):
    %r = arith.addi %a, %b : i8
    %s = arith.addi %r, %c : i8
    linalg.yield %s : i8
  } -> tensor<4x4xi8>
  return %z : tensor<4x4xi8>
}

// -----

// A function that is no layer stays as it is.
// CHECK-LABEL: func.func private @other
// CHECK-SAME: tensor<4xi8>
// CHECK: linalg.max
func.func private @other(%x: tensor<4xi8>) -> tensor<4xi8> {
  %e = tensor.empty() : tensor<4xi8>
  %y = linalg.max ins(%x, %x : tensor<4xi8>, tensor<4xi8>) outs(%e : tensor<4xi8>) -> tensor<4xi8>
  return %y : tensor<4xi8>
}

// -----

// A slice reads its elements where they are.
// CHECK-LABEL: func.func private @slice
// CHECK: scf.for %[[I:[a-z0-9]+]] =
// CHECK: %[[TWICE:[0-9]+]] = arith.muli %[[I]],
// CHECK: %[[AT:[0-9]+]] = arith.addi %[[TWICE]],
// CHECK: memref.load %{{.*}}[%[[AT]]] : memref<8xi8>
func.func private @slice(%x: tensor<8xi8>) -> tensor<3xi8> attributes {tiny.layer = "s", tiny.macs = 0 : i64, tiny.op = "slice"} {
  %y = tensor.extract_slice %x[1] [3] [2] : tensor<8xi8> to tensor<3xi8>
  return %y : tensor<3xi8>
}

// -----

#all = affine_map<(d0, d1, d2, d3) -> (d0, d1, d2, d3)>

// Two MACs at a time: the columns under the windows of four pixels, six here, are widened into
// scratch memory, padding included, so there is no function for the border. Nine words of a window
// are one turn: 9 words, 2 pairs in each, 4 pixels, 2 channels that share a word of weights.
//
// Without SMLAD, two pixels share a word: 36 operands, 2 words of each. With weights this small
// chunks may be large: 6 of 6 operands, all without a loop, and there is no excess.
// CHECK-LABEL: func.func private @wide(
// CHECK-SAME: memref<288xi8>)
// CHECK-SAME: tiny.executed_macs = 2304 : i64
// CHECK-SAME: tiny.kernel = "swar"
// CHECK-SAME: tiny.overlap = array<i64: 20>
// CHECK: call @wide_gather
// CHECK-COUNT-36: memref.load {{.*}} : memref<36xi64>
// CHECK-NOT: memref.load {{.*}} : memref<36xi64>
// CHECK: "tiny.requantize"
// CHECK: func.func private @wide_gather
// CHECK: arith.select
// CHECK-NOT: _border
// DUAL-LABEL: func.func private @wide(
// DUAL-SAME: memref<144xi8>)
// DUAL: call @wide_im2col
// DUAL-COUNT-144: tiny.dual_mac
// DUAL-NOT: tiny.dual_mac
// DUAL-NOT: call @wide_im2col
// DUAL: func.func private @wide_im2col
// DUAL-NOT: _border
// 16 MACs at a time: windows are copied as bytes and filled up to three vectors. The four
// channels are requantised together, for one pixel and then for the other.
// VECTORS-LABEL: func.func private @wide(
// VECTORS-SAME: memref<96xi8>)
// VECTORS-SAME: tiny.kernel = "helium-dot"
// VECTORS-COUNT-2: call @wide_window
// VECTORS-COUNT-24: tiny.dot
// VECTORS-NOT: tiny.dot
// VECTORS-COUNT-2: arith.mulsi_extended {{.*}} : vector<4xi32>
// VECTORS: func.func private @wide_window
func.func private @wide(%x: tensor<1x4x4x4xi8>) -> tensor<1x4x4x4xi8> attributes {tiny.layer = "wide", tiny.macs = 2304 : i64, tiny.op = "conv2d"} {
  %m = arith.constant 1500000000 : i32
  %s = arith.constant 40 : i32
  %zp = arith.constant 5 : i8
  %c7 = arith.constant 7 : i32
  %w = arith.constant dense<1> : tensor<4x3x3x4xi8>
  %p = tensor.pad %x low[0, 1, 1, 0] high[0, 1, 1, 0] {
  ^bb0(%i: index, %j: index, %k: index, %l: index):
    tensor.yield %zp : i8
  } : tensor<1x4x4x4xi8> to tensor<1x6x6x4xi8>
  %e = tensor.empty() : tensor<1x4x4x4xi32>
  %init = linalg.fill ins(%c7 : i32) outs(%e : tensor<1x4x4x4xi32>) -> tensor<1x4x4x4xi32>
  %acc = linalg.conv_2d_nhwc_fhwc ins(%p, %w : tensor<1x6x6x4xi8>, tensor<4x3x3x4xi8>) outs(%init : tensor<1x4x4x4xi32>) -> tensor<1x4x4x4xi32>
  %e8 = tensor.empty() : tensor<1x4x4x4xi8>
  %y = linalg.generic {indexing_maps = [#all, #all], iterator_types = ["parallel", "parallel", "parallel", "parallel"]} ins(%acc : tensor<1x4x4x4xi32>) outs(%e8 : tensor<1x4x4x4xi8>) {
  ^bb0(%a: i32, %o: i8):
    %q = "tiny.requantize"(%a, %m, %s) {zero_point = 1 : i32, min = -128 : i32, max = 127 : i32, rounding = "nearest_up"} : (i32, i32, i32) -> i8
    linalg.yield %q : i8
  } -> tensor<1x4x4x4xi8>
  return %y : tensor<1x4x4x4xi8>
}

// -----

#all = affine_map<(d0, d1, d2, d3) -> (d0, d1, d2, d3)>

// A depthwise convolution copies rows of four channels to a ring, three at a time here; the result
// may replace the input in place. Four outputs of a channel are computed together; with SMLAD, of
// each kernel row, two taps at a time and one by itself.
// CHECK-LABEL: func.func private @deep(
// CHECK-SAME: memref<72xi8>)
// CHECK-SAME: tiny.executed_macs = 576 : i64
// CHECK-SAME: tiny.kernel = "depthwise"
// CHECK-SAME: tiny.overlap = array<i64: -2>
// CHECK-COUNT-2: call @deep_row4
// CHECK: scf.for
// CHECK: call @deep_row4
// CHECK-COUNT-36: arith.muli {{.*}} : i32
// CHECK-NOT: arith.muli {{.*}} : i32
// CHECK: func.func private @deep_row4
// DUAL-LABEL: func.func private @deep(
// DUAL-SAME: memref<144xi8>)
// DUAL-SAME: tiny.kernel = "depthwise-pairs"
// DUAL-SAME: tiny.overlap = array<i64: -2>
// DUAL-COUNT-12: tiny.dual_mac
// DUAL-NOT: tiny.dual_mac
// DUAL: func.func private @deep_row4
// DUAL: tiny.extend_bytes
func.func private @deep(%x: tensor<1x4x4x4xi8>) -> tensor<1x4x4x4xi8> attributes {tiny.layer = "deep", tiny.macs = 576 : i64, tiny.op = "depthwise_conv2d"} {
  %m = arith.constant 1500000000 : i32
  %s = arith.constant 40 : i32
  %zp = arith.constant 5 : i8
  %c7 = arith.constant 7 : i32
  %w = arith.constant dense<1> : tensor<3x3x4xi8>
  %p = tensor.pad %x low[0, 1, 1, 0] high[0, 1, 1, 0] {
  ^bb0(%i: index, %j: index, %k: index, %l: index):
    tensor.yield %zp : i8
  } : tensor<1x4x4x4xi8> to tensor<1x6x6x4xi8>
  %e = tensor.empty() : tensor<1x4x4x4xi32>
  %init = linalg.fill ins(%c7 : i32) outs(%e : tensor<1x4x4x4xi32>) -> tensor<1x4x4x4xi32>
  %acc = linalg.depthwise_conv_2d_nhwc_hwc ins(%p, %w : tensor<1x6x6x4xi8>, tensor<3x3x4xi8>) outs(%init : tensor<1x4x4x4xi32>) -> tensor<1x4x4x4xi32>
  %e8 = tensor.empty() : tensor<1x4x4x4xi8>
  %y = linalg.generic {indexing_maps = [#all, #all], iterator_types = ["parallel", "parallel", "parallel", "parallel"]} ins(%acc : tensor<1x4x4x4xi32>) outs(%e8 : tensor<1x4x4x4xi8>) {
  ^bb0(%a: i32, %o: i8):
    %q = "tiny.requantize"(%a, %m, %s) {zero_point = 1 : i32, min = -128 : i32, max = 127 : i32, rounding = "nearest_up"} : (i32, i32, i32) -> i8
    linalg.yield %q : i8
  } -> tensor<1x4x4x4xi8>
  return %y : tensor<1x4x4x4xi8>
}

// -----

#all = affine_map<(d0, d1, d2, d3) -> (d0, d1, d2, d3)>

// A layer may name its kernel; the kernel's choice is on the result either way.
// CHECK-LABEL: func.func private @pinned(
// CHECK-SAME: tiny.kernel = "direct"
// CHECK-NOT: @pinned_row
func.func private @pinned(%x: tensor<1x4x4x4xi8>) -> tensor<1x4x4x4xi8> attributes {tiny.kernel = "direct", tiny.layer = "deep", tiny.macs = 576 : i64, tiny.op = "depthwise_conv2d"} {
  %m = arith.constant 1500000000 : i32
  %s = arith.constant 40 : i32
  %zp = arith.constant 5 : i8
  %c7 = arith.constant 7 : i32
  %w = arith.constant dense<1> : tensor<3x3x4xi8>
  %p = tensor.pad %x low[0, 1, 1, 0] high[0, 1, 1, 0] {
  ^bb0(%i: index, %j: index, %k: index, %l: index):
    tensor.yield %zp : i8
  } : tensor<1x4x4x4xi8> to tensor<1x6x6x4xi8>
  %e = tensor.empty() : tensor<1x4x4x4xi32>
  %init = linalg.fill ins(%c7 : i32) outs(%e : tensor<1x4x4x4xi32>) -> tensor<1x4x4x4xi32>
  %acc = linalg.depthwise_conv_2d_nhwc_hwc ins(%p, %w : tensor<1x6x6x4xi8>, tensor<3x3x4xi8>) outs(%init : tensor<1x4x4x4xi32>) -> tensor<1x4x4x4xi32>
  %e8 = tensor.empty() : tensor<1x4x4x4xi8>
  %y = linalg.generic {indexing_maps = [#all, #all], iterator_types = ["parallel", "parallel", "parallel", "parallel"]} ins(%acc : tensor<1x4x4x4xi32>) outs(%e8 : tensor<1x4x4x4xi8>) {
  ^bb0(%a: i32, %o: i8):
    %q = "tiny.requantize"(%a, %m, %s) {zero_point = 1 : i32, min = -128 : i32, max = 127 : i32, rounding = "nearest_up"} : (i32, i32, i32) -> i8
    linalg.yield %q : i8
  } -> tensor<1x4x4x4xi8>
  return %y : tensor<1x4x4x4xi8>
}

// -----

// A window of at most nine elements has no loop.
// CHECK-LABEL: func.func private @peaks(
// CHECK-COUNT-3: scf.for
// CHECK-NOT: scf.for
// CHECK-COUNT-4: memref.load
// CHECK-NOT: memref.load
// CHECK: return
func.func private @peaks(%x: tensor<1x4x4x2xi8>) -> tensor<1x2x2x2xi8> attributes {tiny.layer = "peaks", tiny.macs = 0 : i64, tiny.op = "max_pool2d"} {
  %low = arith.constant -128 : i8
  %e = tensor.empty() : tensor<1x2x2x2xi8>
  %init = linalg.fill ins(%low : i8) outs(%e : tensor<1x2x2x2xi8>) -> tensor<1x2x2x2xi8>
  %k = tensor.empty() : tensor<2x2xi8>
  %y = linalg.pooling_nhwc_max {strides = dense<2> : tensor<2xi64>} ins(%x, %k : tensor<1x4x4x2xi8>, tensor<2x2xi8>) outs(%init : tensor<1x2x2x2xi8>) -> tensor<1x2x2x2xi8>
  return %y : tensor<1x2x2x2xi8>
}

// -----

#all = affine_map<(d0, d1, d2, d3) -> (d0, d1, d2, d3)>

// Weights whose sums would carry from one pixel of a word to the other leave their excess to a
// loop of its own, over as many operands as the channel has.
// CHECK-LABEL: func.func private @extreme(
// CHECK-SAME: tiny.kernel = "swar"
// CHECK: %[[EXCESS:.*]] = arith.index_castui {{.*}} : i32 to index
// CHECK: scf.for {{.*}} to %[[EXCESS]] step
// CHECK: %[[PLACE:.*]] = arith.index_castui {{.*}} : i16 to index
// CHECK: memref.load {{.*}}[%[[PLACE]]] : memref<{{.*}}xi64>
func.func private @extreme(%x: tensor<1x4x4x4xi8>) -> tensor<1x4x4x4xi8> attributes {tiny.layer = "extreme", tiny.macs = 256 : i64, tiny.op = "conv2d"} {
  %c0 = arith.constant 0 : i32
  %w = arith.constant dense<-128> : tensor<4x1x1x4xi8>
  %e = tensor.empty() : tensor<1x4x4x4xi32>
  %init = linalg.fill ins(%c0 : i32) outs(%e : tensor<1x4x4x4xi32>) -> tensor<1x4x4x4xi32>
  %acc = linalg.conv_2d_nhwc_fhwc ins(%x, %w : tensor<1x4x4x4xi8>, tensor<4x1x1x4xi8>) outs(%init : tensor<1x4x4x4xi32>) -> tensor<1x4x4x4xi32>
  %e8 = tensor.empty() : tensor<1x4x4x4xi8>
  %y = linalg.generic {indexing_maps = [#all, #all], iterator_types = ["parallel", "parallel", "parallel", "parallel"]} ins(%acc : tensor<1x4x4x4xi32>) outs(%e8 : tensor<1x4x4x4xi8>) {
  ^bb0(%a: i32, %o: i8):
    %q = arith.trunci %a : i32 to i8
    linalg.yield %q : i8
  } -> tensor<1x4x4x4xi8>
  return %y : tensor<1x4x4x4xi8>
}

// -----

// Whole words of channels, four bytes at a time where the core compares them: of two words and a
// window of four, six comparisons, and no byte by itself.
// CHECK-LABEL: func.func private @words(
// CHECK-NOT: tiny.max_bytes
// DUAL-LABEL: func.func private @words(
// DUAL-COUNT-2: scf.for
// DUAL-NOT: scf.for
// DUAL-COUNT-6: tiny.max_bytes
// DUAL-NOT: tiny.max_bytes
// DUAL: return
func.func private @words(%x: tensor<1x4x4x8xi8>) -> tensor<1x2x2x8xi8> attributes {tiny.layer = "words", tiny.macs = 0 : i64, tiny.op = "max_pool2d"} {
  %least = arith.constant -128 : i8
  %e = tensor.empty() : tensor<1x2x2x8xi8>
  %init = linalg.fill ins(%least : i8) outs(%e : tensor<1x2x2x8xi8>) -> tensor<1x2x2x8xi8>
  %k = tensor.empty() : tensor<2x2xi8>
  %y = linalg.pooling_nhwc_max {strides = dense<2> : tensor<2xi64>} ins(%x, %k : tensor<1x4x4x8xi8>, tensor<2x2xi8>) outs(%init : tensor<1x2x2x8xi8>) -> tensor<1x2x2x8xi8>
  return %y : tensor<1x2x2x8xi8>
}

// -----

#flat = affine_map<(d0, d1) -> (d0, d1)>

// One loop over all elements, eight of them between two branches.
// CHECK-LABEL: func.func private @flat(
// CHECK-SAME: tiny.overlap = array<i64: 0, 0>
// CHECK: scf.for
// CHECK-NOT: scf.for
// CHECK-COUNT-8: arith.addi {{.*}} : i8
// CHECK-NOT: arith.addi {{.*}} : i8
// CHECK: return
func.func private @flat(%x: tensor<4x8xi8>, %y: tensor<4x8xi8>) -> tensor<4x8xi8> attributes {tiny.layer = "flat", tiny.macs = 0 : i64, tiny.op = "add"} {
  %e = tensor.empty() : tensor<4x8xi8>
  %z = linalg.generic {indexing_maps = [#flat, #flat, #flat], iterator_types = ["parallel", "parallel"]} ins(%x, %y : tensor<4x8xi8>, tensor<4x8xi8>) outs(%e : tensor<4x8xi8>) {
  ^bb0(%a: i8, %b: i8, %o: i8):
    %s = arith.addi %a, %b : i8
    linalg.yield %s : i8
  } -> tensor<4x8xi8>
  return %z : tensor<4x8xi8>
}

// -----

// A window over the border: all taps where it does not reach into padding, else those that are there.
// CHECK-LABEL: func.func private @padded(
// CHECK-COUNT-2: scf.for
// CHECK: scf.if
// CHECK-NOT: scf.for
// CHECK: } else {
// CHECK-COUNT-2: scf.for
// CHECK: return
func.func private @padded(%x: tensor<1x5x5x1xi8>) -> tensor<1x5x5x1xi8> attributes {tiny.layer = "padded", tiny.macs = 0 : i64, tiny.op = "max_pool2d"} {
  %least = arith.constant -128 : i8
  %p = tensor.pad %x low[0, 1, 1, 0] high[0, 1, 1, 0] {
  ^bb0(%i: index, %j: index, %k: index, %l: index):
    tensor.yield %least : i8
  } : tensor<1x5x5x1xi8> to tensor<1x7x7x1xi8>
  %e = tensor.empty() : tensor<1x5x5x1xi8>
  %init = linalg.fill ins(%least : i8) outs(%e : tensor<1x5x5x1xi8>) -> tensor<1x5x5x1xi8>
  %w = tensor.empty() : tensor<3x3xi8>
  %y = linalg.pooling_nhwc_max {strides = dense<1> : tensor<2xi64>} ins(%p, %w : tensor<1x7x7x1xi8>, tensor<3x3xi8>) outs(%init : tensor<1x5x5x1xi8>) -> tensor<1x5x5x1xi8>
  return %y : tensor<1x5x5x1xi8>
}

// -----

// Parts in one piece are copied a word at a time.
// CHECK-LABEL: func.func private @joined(
// CHECK-COUNT-2: memref.load {{.*}} : memref<1xi32>
// CHECK: memref.load {{.*}} : memref<9xi8>
// CHECK: memref.load {{.*}} : memref<1xi32>
// CHECK-NOT: memref.load
// CHECK: return
func.func private @joined(%x: tensor<9xi8>, %y: tensor<4xi8>) -> tensor<13xi8> attributes {tiny.layer = "joined", tiny.macs = 0 : i64, tiny.op = "concat"} {
  %z = tensor.concat dim(0) %x, %y : (tensor<9xi8>, tensor<4xi8>) -> tensor<13xi8>
  return %z : tensor<13xi8>
}

// -----

#all4 = affine_map<(d0, d1, d2, d3) -> (d0, d1, d2, d3)>
#taps = affine_map<(d0, d1, d2, d3, d4, d5) -> (d0, d1 * 2 + d4, d2 * 2 + d5, d3)>
#window = affine_map<(d0, d1, d2, d3, d4, d5) -> (d4, d5)>
#out = affine_map<(d0, d1, d2, d3, d4, d5) -> (d0, d1, d2, d3)>

// What a body takes in a branch alone, a reduction here, is a function that all channels call.
// CHECK-LABEL: func.func private @branching(
// CHECK-NOT: arith.xori
// CHECK: call @branching_branch0(%arg0, {{.*}} : (memref<1x4x4x4xi8>, index, index, index, index, i32) -> i32
// CHECK-COUNT-3: call @branching_branch0(
// CHECK-NOT: call
// CHECK: return
// CHECK-LABEL: func.func private @branching_branch0(
// CHECK-COUNT-4: arith.xori
// CHECK-NOT: arith.xori
func.func private @branching(%x: tensor<1x4x4x4xi8>) -> tensor<1x2x2x4xi8> attributes {tiny.layer = "branching", tiny.macs = 0 : i64, tiny.op = "average_pool2d"} {
  %c0 = arith.constant 0 : i32
  %c3 = arith.constant 3 : i32
  %e = tensor.empty() : tensor<1x2x2x4xi32>
  %init = linalg.fill ins(%c0 : i32) outs(%e : tensor<1x2x2x4xi32>) -> tensor<1x2x2x4xi32>
  %k = tensor.empty() : tensor<2x2xi8>
  %sum = linalg.pooling_nhwc_sum {strides = dense<2> : tensor<2xi64>} ins(%x, %k : tensor<1x4x4x4xi8>, tensor<2x2xi8>) outs(%init : tensor<1x2x2x4xi32>) -> tensor<1x2x2x4xi32>
  %other = linalg.generic {indexing_maps = [#taps, #window, #out], iterator_types = ["parallel", "parallel", "parallel", "parallel", "reduction", "reduction"]} ins(%x, %k : tensor<1x4x4x4xi8>, tensor<2x2xi8>) outs(%init : tensor<1x2x2x4xi32>) {
  ^bb0(%a: i8, %unused: i8, %o: i32):
    %w = arith.extsi %a : i8 to i32
    %r = arith.xori %o, %w : i32
    linalg.yield %r : i32
  } -> tensor<1x2x2x4xi32>
  %e8 = tensor.empty() : tensor<1x2x2x4xi8>
  %y = linalg.generic {indexing_maps = [#all4, #all4], iterator_types = ["parallel", "parallel", "parallel", "parallel"]} ins(%sum : tensor<1x2x2x4xi32>) outs(%e8 : tensor<1x2x2x4xi8>) {
  ^bb0(%a: i32, %o: i8):
    %i0 = linalg.index 0 : index
    %i1 = linalg.index 1 : index
    %i2 = linalg.index 2 : index
    %i3 = linalg.index 3 : index
    %rest = arith.andi %a, %c3 : i32
    %seldom = arith.cmpi eq, %rest, %c0 : i32
    %t = scf.if %seldom -> (i32) {
      %b = tensor.extract %other[%i0, %i1, %i2, %i3] : tensor<1x2x2x4xi32>
      %both = arith.addi %a, %b : i32
      scf.yield %both : i32
    } else {
      scf.yield %a : i32
    }
    %q = arith.trunci %t : i32 to i8
    linalg.yield %q : i8
  } -> tensor<1x2x2x4xi8>
  return %y : tensor<1x2x2x4xi8>
}
