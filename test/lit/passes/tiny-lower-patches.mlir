// RUN: tinymlir-opt %s --split-input-file --tiny-lower-patches=target=cortex-m4 | FileCheck %s

// Three rows of a tensor come before the first row that reads them, then one before each. In
// two strips every row is a part, from the first column that the strip needs on. A tile may be
// larger than it must.
// CHECK: memref.global "private" constant @order_{{[0-9]+}} : memref<10xi8> = dense<[0, 0, 0, 1, 0, 1, 0, 1, 0, 1]>
// CHECK-LABEL: func.func @main
// CHECK: %[[WORK:.*]] = memref.alloc() : memref<20xi8>
// CHECK: call @stage0(%{{.*}}, %{{.*}}, %[[WORK]])
// CHECK: func.func private @stage0(
// CHECK-SAME: tiny.overlap = array<i64: -1>, tiny.stage = [@peak_row, @window_row]
// CHECK: scf.for
// CHECK: scf.index_switch
// CHECK: call @peak_row(%{{.*}}) : (memref<24xi8>, memref<16xi8>, index, index, index) -> ()
// CHECK: call @window_row(%{{.*}}) : (memref<16xi8>, memref<8xi8>, index, index, index) -> ()
// CHECK: func.func private @peak_row
// CHECK: "tiny.ring_slot"(%{{.*}}) {slots = 4 : i64}
func.func @main(%x: tensor<1x6x4x1xi8>) -> tensor<1x4x2x1xi8> {
  %y = "tiny.fused_stage"() ({
    %a = func.call @peak(%x) : (tensor<1x6x4x1xi8>) -> tensor<1x6x4x1xi8>
    %t = "tiny.patch_tile"(%a) {rows = 4 : i64, columns = 4 : i64} : (tensor<1x6x4x1xi8>) -> tensor<1x6x4x1xi8>
    %c = func.call @window(%t) : (tensor<1x6x4x1xi8>) -> tensor<1x4x2x1xi8>
    "tiny.patch_yield"(%c) : (tensor<1x4x2x1xi8>) -> ()
  }) {strips = 2 : i64} : () -> tensor<1x4x2x1xi8>
  return %y : tensor<1x4x2x1xi8>
}
func.func private @peak(%x: tensor<1x6x4x1xi8>) -> tensor<1x6x4x1xi8>
    attributes {tiny.layer = "peak", tiny.macs = 0 : i64, tiny.op = "max"} {
  %e = tensor.empty() : tensor<1x6x4x1xi8>
  %y = linalg.max ins(%x, %x : tensor<1x6x4x1xi8>, tensor<1x6x4x1xi8>)
                  outs(%e : tensor<1x6x4x1xi8>) -> tensor<1x6x4x1xi8>
  return %y : tensor<1x6x4x1xi8>
}
func.func private @both(%x: tensor<1x6x4x1xi8>, %z: tensor<1x6x4x1xi8>) -> tensor<1x6x4x1xi8>
    attributes {tiny.layer = "both", tiny.macs = 0 : i64, tiny.op = "max"} {
  %e = tensor.empty() : tensor<1x6x4x1xi8>
  %y = linalg.max ins(%x, %z : tensor<1x6x4x1xi8>, tensor<1x6x4x1xi8>)
                  outs(%e : tensor<1x6x4x1xi8>) -> tensor<1x6x4x1xi8>
  return %y : tensor<1x6x4x1xi8>
}
func.func private @window(%x: tensor<1x6x4x1xi8>) -> tensor<1x4x2x1xi8>
    attributes {tiny.layer = "window", tiny.macs = 0 : i64, tiny.op = "max_pool2d"} {
  %least = arith.constant -128 : i8
  %w = tensor.empty() : tensor<3x3xi8>
  %e = tensor.empty() : tensor<1x4x2x1xi8>
  %i = linalg.fill ins(%least : i8) outs(%e : tensor<1x4x2x1xi8>) -> tensor<1x4x2x1xi8>
  %y = linalg.pooling_nhwc_max ins(%x, %w : tensor<1x6x4x1xi8>, tensor<3x3xi8>)
       outs(%i : tensor<1x4x2x1xi8>) -> tensor<1x4x2x1xi8>
  return %y : tensor<1x4x2x1xi8>
}

// -----

// Rows that arrive are counted, and kept in a ring; each lets those of the sequence up to the
// next arrival (step 0) be made, and the last one those that are made in the end.
// CHECK: memref.global "private" constant @arrivals_{{[0-9]+}} : memref<7xi16> = dense<[1, 3, 5, 7, 9, 11, 12]>
// CHECK-LABEL: func.func @main
// CHECK: call @stage0_begin(%[[WORK:.*]]) : (memref<8xi8>) -> ()
// CHECK: call @stage0_push(%{{.*}}, %c6_i32, %[[Y:.*]], %[[WORK]])
// CHECK: call @stage0_finish(%[[Y]], %[[WORK]])
// CHECK: func.func private @stage0_begin{{.*}}tiny.stage = [], tiny.streaming = "begin"
// CHECK: func.func private @stage0_push{{.*}}tiny.stage = [], tiny.streaming = "push"
// CHECK: func.func private @stage0_finish{{.*}}tiny.stage = [@peak_row], tiny.streaming = "finish"
func.func @main(%x: tensor<1x6x4x1xi8>) -> tensor<1x6x4x1xi8> {
  %y = "tiny.fused_stage"() ({
    %r = "tiny.patch_tile"(%x) {rows = 1 : i64, columns = 4 : i64} : (tensor<1x6x4x1xi8>) -> tensor<1x6x4x1xi8>
    %a = func.call @peak(%r) : (tensor<1x6x4x1xi8>) -> tensor<1x6x4x1xi8>
    "tiny.patch_yield"(%a) : (tensor<1x6x4x1xi8>) -> ()
  }) {strips = 1 : i64} : () -> tensor<1x6x4x1xi8>
  return %y : tensor<1x6x4x1xi8>
}
func.func private @peak(%x: tensor<1x6x4x1xi8>) -> tensor<1x6x4x1xi8>
    attributes {tiny.layer = "peak", tiny.macs = 0 : i64, tiny.op = "max"} {
  %e = tensor.empty() : tensor<1x6x4x1xi8>
  %y = linalg.max ins(%x, %x : tensor<1x6x4x1xi8>, tensor<1x6x4x1xi8>)
                  outs(%e : tensor<1x6x4x1xi8>) -> tensor<1x6x4x1xi8>
  return %y : tensor<1x6x4x1xi8>
}

// -----

// The second of two strips has two columns of each row from a cache that the first has filled, and
// makes the third: beside the columns needed stand, for the cache, the first that are made.
// CHECK-DAG: memref.global "private" constant @columns_{{[0-9]+}} : memref<6xi32> = dense<[0, 0, 1, 3, 0, 0]>
// CHECK-DAG: memref.global "private" constant @columns_{{[0-9]+}} : memref<4xi32> = dense<[0, 3, 3, 4]>
// CHECK-LABEL: func.func @main
// CHECK: memref.alloc() : memref<28xi8>
// CHECK: func.func private @stage0(
// CHECK: %[[RING:.*]] = memref.view {{.*}} to memref<9xi8>
// CHECK: %[[CACHE:.*]] = memref.view {{.*}} to memref<12xi8>
// CHECK: case 0 {
// CHECK: scf.for
// CHECK: %[[KEPT:.*]] = memref.load %[[CACHE]][
// CHECK: memref.store %[[KEPT]], %[[RING]][
// CHECK: call @peak_row(
// CHECK: scf.for
// CHECK: %[[KEEP:.*]] = memref.load %[[RING]][
// CHECK: memref.store %[[KEEP]], %[[CACHE]][
// CHECK: case 1 {
func.func @main(%x: tensor<1x6x4x1xi8>) -> tensor<1x4x2x1xi8> {
  %y = "tiny.fused_stage"() ({
    %a = func.call @peak(%x) : (tensor<1x6x4x1xi8>) -> tensor<1x6x4x1xi8>
    %t = "tiny.patch_tile"(%a) {rows = 3 : i64, columns = 3 : i64, tiny.cached_columns = 2 : i64} : (tensor<1x6x4x1xi8>) -> tensor<1x6x4x1xi8>
    %c = func.call @window(%t) : (tensor<1x6x4x1xi8>) -> tensor<1x4x2x1xi8>
    "tiny.patch_yield"(%c) : (tensor<1x4x2x1xi8>) -> ()
  }) {strips = 2 : i64} : () -> tensor<1x4x2x1xi8>
  return %y : tensor<1x4x2x1xi8>
}
func.func private @peak(%x: tensor<1x6x4x1xi8>) -> tensor<1x6x4x1xi8>
    attributes {tiny.layer = "peak", tiny.macs = 0 : i64, tiny.op = "max"} {
  %e = tensor.empty() : tensor<1x6x4x1xi8>
  %y = linalg.max ins(%x, %x : tensor<1x6x4x1xi8>, tensor<1x6x4x1xi8>)
                  outs(%e : tensor<1x6x4x1xi8>) -> tensor<1x6x4x1xi8>
  return %y : tensor<1x6x4x1xi8>
}
func.func private @window(%x: tensor<1x6x4x1xi8>) -> tensor<1x4x2x1xi8>
    attributes {tiny.layer = "window", tiny.macs = 0 : i64, tiny.op = "max_pool2d"} {
  %least = arith.constant -128 : i8
  %w = tensor.empty() : tensor<3x3xi8>
  %e = tensor.empty() : tensor<1x4x2x1xi8>
  %i = linalg.fill ins(%least : i8) outs(%e : tensor<1x4x2x1xi8>) -> tensor<1x4x2x1xi8>
  %y = linalg.pooling_nhwc_max ins(%x, %w : tensor<1x6x4x1xi8>, tensor<3x3xi8>)
       outs(%i : tensor<1x4x2x1xi8>) -> tensor<1x4x2x1xi8>
  return %y : tensor<1x4x2x1xi8>
}

// -----

// A dense layer of an image of four rows adds up the products of a row as it comes, to one sum of
// four bytes; the first row starts it from the bias. All rows then give the result.
// CHECK-LABEL: func.func @main
// CHECK: func.func private @stage0(
// CHECK: call @dense_row_sums(%{{.*}}) : (memref<12xi8>, memref<1xi32>, index) -> ()
// CHECK: call @dense_row(%{{.*}}) : (memref<1xi32>, memref<1xi8>, index) -> ()
// CHECK: func.func private @dense_row_sums(%{{.*}}: memref<12xi8>, %[[SUMS:.*]]: memref<1xi32>, %[[ROW:.*]]: index)
// CHECK: %[[FIRST:.*]] = arith.cmpi eq, %[[ROW]], %{{.*}}
// CHECK: arith.select %[[FIRST]], %{{.*}}, %{{.*}} : !llvm.ptr
// CHECK-COUNT-4: tiny.dual_mac
// CHECK: memref.store %{{.*}}, %[[SUMS]]
// CHECK: func.func private @dense_row(%{{.*}}tiny.executed_macs = 48 : i64, tiny.kernel = "dense-rows"
func.func @main(%x: tensor<1x4x3x4xi8>) -> tensor<1x1x1x1xi8> {
  %y = "tiny.fused_stage"() ({
    %a = func.call @peak(%x) : (tensor<1x4x3x4xi8>) -> tensor<1x4x3x4xi8>
    %t = "tiny.patch_tile"(%a) {rows = 1 : i64, columns = 3 : i64} : (tensor<1x4x3x4xi8>) -> tensor<1x4x3x4xi8>
    %c = func.call @dense(%t) : (tensor<1x4x3x4xi8>) -> tensor<1x1x1x1xi8>
    "tiny.patch_yield"(%c) : (tensor<1x1x1x1xi8>) -> ()
  }) {strips = 1 : i64} : () -> tensor<1x1x1x1xi8>
  return %y : tensor<1x1x1x1xi8>
}
func.func private @peak(%x: tensor<1x4x3x4xi8>) -> tensor<1x4x3x4xi8>
    attributes {tiny.layer = "peak", tiny.macs = 0 : i64, tiny.op = "max"} {
  %e = tensor.empty() : tensor<1x4x3x4xi8>
  %y = linalg.max ins(%x, %x : tensor<1x4x3x4xi8>, tensor<1x4x3x4xi8>)
                  outs(%e : tensor<1x4x3x4xi8>) -> tensor<1x4x3x4xi8>
  return %y : tensor<1x4x3x4xi8>
}
func.func private @dense(%x: tensor<1x4x3x4xi8>) -> tensor<1x1x1x1xi8>
    attributes {tiny.layer = "dense", tiny.macs = 48 : i64, tiny.op = "fully_connected"} {
  %w = arith.constant dense<1> : tensor<1x4x3x4xi8>
  %b = arith.constant 7 : i32
  %e = tensor.empty() : tensor<1x1x1x1xi32>
  %e8 = tensor.empty() : tensor<1x1x1x1xi8>
  %i = linalg.fill ins(%b : i32) outs(%e : tensor<1x1x1x1xi32>) -> tensor<1x1x1x1xi32>
  %s = linalg.conv_2d_nhwc_fhwc ins(%x, %w : tensor<1x4x3x4xi8>, tensor<1x4x3x4xi8>)
       outs(%i : tensor<1x1x1x1xi32>) -> tensor<1x1x1x1xi32>
  %y = linalg.generic {indexing_maps = [affine_map<(d0, d1, d2, d3) -> (d0, d1, d2, d3)>,
                                        affine_map<(d0, d1, d2, d3) -> (d0, d1, d2, d3)>],
                       iterator_types = ["parallel", "parallel", "parallel", "parallel"]}
      ins(%s : tensor<1x1x1x1xi32>) outs(%e8 : tensor<1x1x1x1xi8>) {
  ^bb0(%a: i32, %o: i8):
    %q = arith.trunci %a : i32 to i8
    linalg.yield %q : i8
  } -> tensor<1x1x1x1xi8>
  return %y : tensor<1x1x1x1xi8>
}
